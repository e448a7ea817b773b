"""Backends: the three steps of a frame on one kind of device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from ..engines import DeviceEngine, Engine
from ..frames import Frame
from ..resize import ResizePlan
from ..spec import SsdSpec
from .batch_result import BatchResult


class Backend(Protocol):
    """What a Detector asks of a backend; not thread-safe, one for each thread.

    spec: SsdSpec with the thresholds in force.   priors: (P, 4) float32 cx cy w h in 0..1.
    in_flight: batches between `submit` and `collect` that keep the device or the cores busy.
    max_batch: images in one call; 0 when any.   on_gpu: whether the steps run there.
    precision: what float layers of the network are computed in.   description: engine and device, for a report.
    allocate: shape -> page-locked uint8 array or None, for sources to read frames into; None on the CPU.
    """

    spec: SsdSpec
    priors: np.ndarray
    in_flight: int
    on_gpu: bool

    @property
    def allocate(self) -> Callable[[tuple[int, ...]], np.ndarray | None] | None: ...

    @property
    def max_batch(self) -> int: ...

    @property
    def precision(self) -> str: ...

    @property
    def description(self) -> str: ...

    def submit(self, frames: Sequence[Frame]) -> Any:
        """Starts a batch; returns a ticket for `collect`. Frames may not be changed before it is collected."""

    def is_done(self, ticket: Any) -> bool:
        """Whether `collect` would not wait."""
        ...

    def pause(self) -> None:
        """Lets others run, between two looks at `is_done`."""

    def collect(self, ticket: Any) -> BatchResult:
        """The BatchResult of a ticket; waits for it."""
        ...

    def close(self) -> None:
        """Waits for what is in flight and frees everything."""


class SteppedBackend(Backend, Protocol):
    """A backend whose steps can be taken one by one, for comparisons: arrays lie on its device and each step waits.

    engine: the network alone.
    """

    engine: Engine | DeviceEngine

    def preprocess(self, frame: Frame) -> tuple[Any, ResizePlan]:
        """Frame -> batch (1, 3, H, W) in the engine's dtype, valid until the next call; ResizePlan."""
        ...

    def infer(self, batch: Any) -> tuple[Any, Any]:
        """batch -> loc (1, P, 4), conf (1, P, C), valid until the next call."""
        ...

    def postprocess(self, loc: Any, conf: Any) -> tuple[np.ndarray, np.ndarray]:
        """loc (P, 4), conf (P, C) of one image -> rows (max_detections, 6), counts (2,) on the host."""
        ...
