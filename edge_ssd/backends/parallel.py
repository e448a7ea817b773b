"""Several frames at once on the CPU, each in a thread of its own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from threading import Barrier

from ..frames import Frame
from .batch_result import BatchResult
from .cpu import CpuBackend


class ParallelCpuBackend:
    """CpuBackends that take turns at the frames: more frames a second, each of them later.

    The threads of one network wait for each other after every layer, and while a frame is prepared and its
    boxes are sorted out; a frame for each thread leaves nothing to wait for.

    backends: list of CpuBackends on the same model, each with an engine of its own (see `SharedEngine.share`).

    in_flight: one more than there are backends, so that none waits while the caller looks at a result.
    max_batch: 1 where the model takes any number: images of one call would share a thread.
    """

    allocate = None
    on_gpu = False

    def __init__(self, backends: Sequence[CpuBackend]) -> None:
        self.backends = backends
        self.in_flight = len(backends) + 1
        self.max_batch = backends[0].max_batch or 1
        self.spec, self.priors = backends[0].spec, backends[0].priors
        self._idle = SimpleQueue()
        for backend in backends:
            self._idle.put(backend)
        self._threads = ThreadPoolExecutor(len(backends), "edge_ssd")
        self._is_closed = False
        barrier = Barrier(len(backends))  # so that each thread takes one

        def warm_up(backend):
            barrier.wait()
            backend.warm_up()

        list(self._threads.map(warm_up, backends))

    @property
    def precision(self) -> str:
        """What the engines compute in."""
        return self.backends[0].precision

    @property
    def description(self) -> str:
        """Engine and device, for a report."""
        return f"{self.backends[0].description}, {len(self.backends)} frames at once"

    def submit(self, frames: Sequence[Frame]) -> Future[BatchResult]:
        """Has a thread work on them; returns a ticket. frames: list of Frames.   Raises ValueError when closed."""
        if self._is_closed:
            raise ValueError("the engine is closed")
        return self._threads.submit(self._work_on, frames)

    def _work_on(self, frames):
        # There are as many threads as backends, so one is always idle here.
        backend = self._idle.get_nowait()
        try:
            return backend.submit(frames)
        finally:
            self._idle.put(backend)

    def is_done(self, ticket: Future[BatchResult]) -> bool:
        """Whether `collect` would not wait."""
        return ticket.done()

    def pause(self) -> None:
        """Between two looks at `is_done`: little beside the ten milliseconds and more that a frame takes."""
        time.sleep(5e-4)

    def collect(self, ticket: Future[BatchResult]) -> BatchResult:
        """The BatchResult of a ticket; raises what the work raised."""
        return ticket.result()

    def close(self) -> None:
        """Waits for what is in flight and frees the engines."""
        self._is_closed = True
        self._threads.shutdown(cancel_futures=True)
        for backend in self.backends:
            backend.close()
