"""Time of work on a GPU that takes microseconds: a CUDA graph of many launches, replayed between two events.

A host that times single launches measures itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# A replay takes at least this long, so that starting it (some microseconds) is less than a hundredth.
_REPLAY_US = 3000
_MOST_LAUNCHES = 512


@dataclass(frozen=True)
class Timing:
    """Microseconds of one launch: the median of all replays, and the 10th and 90th percentile."""

    median_us: float
    low_us: float
    high_us: float

    @classmethod
    def of(cls, times_us):
        """The Timing of a list of microseconds."""
        low, median, high = np.percentile(times_us, (10, 50, 90))
        return cls(float(median), float(low), float(high))

    def as_values(self):
        """As columns of a Record."""
        return {"median_us": self.median_us, "low_us": self.low_us, "high_us": self.high_us}


class GraphTimer:
    """timer(work) -> Timing of one piece of work on the GPU.

    device: edge_ssd.kernels.device.Device.   repeats: replays that are timed.
    """

    def __init__(self, device, repeats=15):
        self._device, self._repeats = device, repeats

    def __call__(self, work):
        """work: functions that launch on the current stream and allocate nothing. They take turns: so many that
        their inputs do not fit the L2 cache give the time from memory, one gives it from the cache.

        RuntimeError when it cannot be captured.
        """
        stream = self._device.stream
        with stream:
            for one in work:
                one()  # compiles, and shows an error outside of a capture
        stream.synchronize()
        rounds = 1
        graph = self._captured(work, rounds)
        for _ in range(3):
            took_us = self._replayed_us(graph)
        most = max(1, _MOST_LAUNCHES // len(work))
        rounds = int(np.clip(np.ceil(_REPLAY_US / max(took_us, 1)), 1, most))
        graph = self._captured(work, rounds)
        self._replayed_us(graph)
        times = [self._replayed_us(graph) / (rounds * len(work)) for _ in range(self._repeats)]
        return Timing.of(times)

    def _captured(self, work, rounds):
        from edge_ssd.engines.cuda import capture_with_cupy

        def steps():
            for _ in range(rounds):
                for one in work:
                    one()

        with self._device.stream:
            return capture_with_cupy(steps)

    def _replayed_us(self, graph):
        import cupy

        start, end, stream = cupy.cuda.Event(), cupy.cuda.Event(), self._device.stream
        with stream:
            graph.launch()  # keeps the GPU busy while the host starts the one that is timed
            start.record(stream.cupy)
            graph.launch()
            end.record(stream.cupy)
        end.synchronize()
        return cupy.cuda.get_elapsed_time(start, end) * 1e3
