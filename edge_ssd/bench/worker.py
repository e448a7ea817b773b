"""A Candidate in a process of its own, idle between its turns: thread pools of several do not disturb each other."""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .candidates import Candidate

_START_S = 300  # torch.compile and TensorRT take their time
_REPLY_S = 300


@dataclass(frozen=True)
class Turn:
    """What one turn took. calls: of the network.   seconds: of the whole turn.   cpu_s: CPU time in it.
    times: of each frame or batch, {stage: milliseconds}; () for the network alone.
    """

    calls: int
    seconds: float
    cpu_s: float
    times: list[dict[str, float]] = field(default_factory=list)


class WorkerFailed(RuntimeError):
    """A Candidate that could not be opened or run; the text says why, in one line."""


class Worker:
    """Opens a Candidate and waits for turns.

    images: BGR arrays.   options: score_threshold, batch, threads.   Raises WorkerFailed.
    """

    def __init__(self, candidate: Candidate, images: Sequence[np.ndarray], **options: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, child = context.Pipe()
        self._process = context.Process(target=_serve, args=(child, candidate, images, options), daemon=True)
        self._process.start()
        child.close()
        self.cpu_s, self.memory_mib = 0.0, 0.0
        try:
            self.description, self.has_network, self.in_flight = self._reply(_START_S)
        except BaseException:
            self.close()
            raise

    def detect(self, count: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """[(boxes, scores, labels)] of the first images."""
        return self._ask("detect", count)

    @property
    def process_id(self) -> int | None:
        """Of the process that runs the Candidate."""
        return self._process.pid

    def heads(self, blob: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """loc, conf of a blob, or None; see Runner."""
        return self._ask("heads", blob)

    def frames(self, calls: int) -> Turn:
        """The Turn of so many frames, or batches."""
        return self._turn("frames", calls)

    def network(self, calls: int) -> Turn:
        """The Turn of so many calls of the network alone."""
        return self._turn("network", calls)

    def close(self) -> None:
        """Ends the process."""
        with suppress(OSError):
            self._pipe.send(None)
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._pipe.close()

    def _turn(self, kind: str, calls: int) -> Turn:
        turn, self.cpu_s, self.memory_mib = self._ask(kind, calls)
        return turn

    def _ask(self, *request: Any) -> Any:
        try:
            self._pipe.send(request)
        except OSError:
            raise WorkerFailed(self._end_shown()) from None
        return self._reply(_REPLY_S)

    def _reply(self, limit_s: float) -> Any:
        try:
            if not self._pipe.poll(limit_s):
                self._process.kill()
                raise WorkerFailed(f"no answer within {limit_s} s")
            problem, value = self._pipe.recv()
        except (EOFError, OSError):
            raise WorkerFailed(self._end_shown()) from None
        if problem:
            raise WorkerFailed(problem)
        return value

    def _end_shown(self):
        self._process.join(5)
        return f"its process ended with exit code {self._process.exitcode}"


def _serve(pipe, candidate, images, options):
    from .runners import open_runner

    # What libraries print is not the benchmark's; a crash still shows by its exit code.
    quiet = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(quiet, stream)
    try:
        runner = open_runner(candidate, **options)
        answers = {
            "detect": lambda count: [runner.detect(image) for image in images[:count]],
            "heads": runner.heads,
            "frames": lambda calls: _timed(lambda: runner.run_frames(images, calls), calls),
            "network": lambda calls: _timed(lambda: runner.run_network(calls), calls),
        }
        pipe.send(("", (runner.description, runner.run_network is not None, runner.in_flight)))
        while request := pipe.recv():
            kind, argument = request
            pipe.send(("", answers[kind](argument)))
    except Exception as error:
        pipe.send((f"{type(error).__name__}: {' '.join(str(error).split())}"[:300], None))


def _timed(work: Callable[[], list | None], calls: int) -> tuple[Turn, float, float]:
    before, start = time.process_time(), time.perf_counter()
    times = work() or []
    seconds, cpu_s = time.perf_counter() - start, time.process_time() - before
    return Turn(calls, seconds, cpu_s, times), time.process_time(), peak_memory_mib()


def peak_memory_mib() -> float:
    """Most memory that this process has had resident so far, MiB."""
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 1024)  # bytes there, KiB elsewhere
