"""Stage times of the pipeline and their percentiles."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

STAGES = ("capture", "preprocess", "infer", "postprocess")


class StageTimer:
    """Milliseconds of each stage of the latest frame.

    with timer("infer"): ...
    timer.latest_ms["infer"]
    """

    def __init__(self) -> None:
        self.latest_ms: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter_ns()
        try:
            yield
        finally:
            self.latest_ms[stage] = (time.perf_counter_ns() - start) / 1e6


class RollingStats:
    """The last `window` values of something: rate, median and tail at bounded memory."""

    def __init__(self, window: int = 1000) -> None:
        self._values: deque[float] = deque(maxlen=window)

    def add(self, value: float) -> None:
        """Takes one more value; the oldest goes when the window is full."""
        self._values.append(value)

    def __len__(self) -> int:
        return len(self._values)

    def mean(self) -> float:
        """Mean of the window; 0 when empty."""
        return float(np.mean(self._values)) if self._values else 0.0

    def percentiles(self, points: Sequence[float] = (50, 95, 99)) -> tuple[float, ...]:
        """The given percentiles of the window; zeros when empty.   points: in percent."""
        if not self._values:
            return (0.0,) * len(points)
        return tuple(float(v) for v in np.percentile(self._values, points))
