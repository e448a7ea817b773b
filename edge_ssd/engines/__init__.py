"""Engines: the network alone, batch in, raw heads out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np


class Engine(Protocol):
    """What a backend asks of an engine.

    input_dtype: float32 or float16, what `infer` takes.   max_batch: images in one call; 0 when any.
    interleaved: whether float32 batches are faster interleaved, see `engines.layout`; planar ones work everywhere.
    precision: what its float layers are computed in, "fp32", "bf16" or "fp16".
    description: engine, version and device, for a report.
    """

    input_dtype: np.dtype
    max_batch: int
    interleaved: bool
    precision: str

    @property
    def description(self) -> str: ...

    def infer(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(B, 3, H, W) -> the outputs `loc` and `conf` as the network has them, valid until the next call."""
        ...

    def close(self) -> None:
        """Frees what the engine holds."""


class SharedEngine(Engine, Protocol):
    """An engine whose model several threads may run at once, each through an engine of its own."""

    def share(self) -> SharedEngine:
        """Another engine on the same model, which is not loaded again. Close both."""
        ...


class Graph(Protocol):
    """Steps that were captured once, to be repeated as one."""

    def launch(self) -> None:
        """Enqueues them on CuPy's current stream; does not wait."""


class DeviceEngine(Protocol):
    """An engine on the GPU: arrays stay on the device and work is only enqueued.

    Of one thread, as is the stream. input_dtype, max_batch, precision, description: as of Engine.
    capturable: whether `capture` is worth a try.
    """

    input_dtype: np.dtype
    max_batch: int
    precision: str
    capturable: bool

    @property
    def description(self) -> str: ...

    def output_shapes(self, batch_size: int) -> dict[str, tuple[int, ...]]:
        """Shapes of the outputs "loc" and "conf" for a batch size; ValueError where it is not to be had."""
        ...

    def infer(self, batch: Any) -> tuple[Any, Any]:
        """Enqueues the network on CuPy's current stream; does not wait.

        batch: CuPy (B, 3, H, W) of input_dtype, C-contiguous. It is kept, and the first call with it may
        allocate; later ones do not. So call with few arrays, again and again.
        Returns the outputs `loc` and `conf` as the network has them, two arrays with
        `__cuda_array_interface__`, float32 or float16: each batch array has its own pair, always the same.
        Raises ValueError for a batch that does not fit, RuntimeError when the network cannot be enqueued.
        """
        ...

    def capture(self, steps: Callable[[], None]) -> Graph:
        """What `steps`, which calls `infer`, enqueues on CuPy's current stream, as a CUDA graph.

        Before, run `steps` twice and synchronise. RuntimeError, in one line, when it cannot be captured;
        plain calls go on working.
        """
        ...

    def close(self) -> None:
        """Frees what the engine holds, graphs included; the caller has synchronised."""
