"""What a sink is, and what it is given."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from ..detections import Detections
from ..frames import Frame


@dataclass(frozen=True)
class FrameResult:
    """What a run knows of one frame.

    timing_ms: capture, preprocess, infer, postprocess, and age: from the frame's timestamp to its detections.
    """

    frame: Frame
    detections: Detections
    class_names: tuple[str, ...]
    timing_ms: dict[str, float]

    @cached_property
    def annotated(self) -> np.ndarray:
        """(H, W, 3) uint8 BGR: a copy of the image with the detections drawn; made once for all sinks."""
        from .annotate import annotate

        return annotate(self.frame, self.detections, self.class_names)


class Sink(Protocol):
    """Takes the results of a run, one frame after the other."""

    def write(self, result: FrameResult) -> None:
        """Takes the result of one frame. Raises OSError naming the output when it cannot be written."""

    def close(self) -> None:
        """Completes the output; nothing is written afterwards."""
