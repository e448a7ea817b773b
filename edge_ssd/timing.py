"""Stage times of the pipeline and their percentiles."""

from __future__ import annotations

import time
from collections import deque
from contextlib import contextmanager

import numpy as np

STAGES = ("capture", "preprocess", "infer", "postprocess")


class StageTimer:
    """Milliseconds of each stage of the latest frame.

    with timer("infer"): ...
    timer.latest_ms["infer"]
    """

    def __init__(self):
        self.latest_ms = {}

    @contextmanager
    def __call__(self, stage):
        start = time.perf_counter_ns()
        try:
            yield
        finally:
            self.latest_ms[stage] = (time.perf_counter_ns() - start) / 1e6


class RollingStats:
    """The last `window` values of something: rate, median and tail at bounded memory."""

    def __init__(self, window=1000):
        self._values = deque(maxlen=window)

    def add(self, value):
        self._values.append(value)

    def __len__(self):
        return len(self._values)

    def mean(self):
        """Mean of the window; 0 when empty."""
        return float(np.mean(self._values)) if self._values else 0.0

    def percentiles(self, points=(50, 95, 99)):
        """The given percentiles of the window; zeros when empty."""
        if not self._values:
            return (0.0,) * len(points)
        return tuple(float(v) for v in np.percentile(self._values, points))
