"""How `edge-ssd bench` measures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """How to measure. seconds: of each candidate.   batch: images in a call.   threads: of the CPU, 0: all.
    score_threshold: of detections.   progress: function(done, all, text).
    """

    seconds: float = 20.0
    batch: int = 1
    threads: int = 0
    score_threshold: float = 0.5
    progress: Callable[[int, int, str], None] = lambda done, total, text: None
