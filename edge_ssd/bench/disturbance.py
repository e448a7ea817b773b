"""Whether a machine was quiet while it was measured: other programs, throttling, a piece of work of known cost."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..machine.facts import throttle_events
from ..machine.nvml import gpu_held_back_s

_STAT = Path("/proc/stat")
_TICKS_PER_S = 100  # USER_HZ, the same on every Linux

# Beyond these a report says "noisy" or "throttled".
_OTHERS_SHARE, _SPREAD, _SLOWDOWN = 0.05, 0.15, 0.10
_HELD_BACK_SHARE = 0.01  # of the time, a GPU's clock


class Verdict(NamedTuple):
    """others_share: of the CPU time of all cores, spent by other programs (steal of a virtual machine's host
    included); None where the system does not tell.   spread: of a piece of work of fixed cost, (p90 - p10) / median.
    slowdown: of that work from the first third of the run to the last.   remarks: what is wrong, as sentences.
    """

    others_share: float | None
    spread: float
    slowdown: float
    remarks: tuple[str, ...]


def worst_of(verdicts: Sequence[Verdict]) -> Verdict:
    """One Verdict for several runs: the worst of each figure, and all remarks once."""
    shares = [verdict.others_share for verdict in verdicts if verdict.others_share is not None]
    remarks = tuple(dict.fromkeys(remark for verdict in verdicts for remark in verdict.remarks))
    return Verdict(
        max(shares, default=None),
        max(verdict.spread for verdict in verdicts),
        max(verdict.slowdown for verdict in verdicts),
        remarks,
    )


class Watch:
    """Looks at the machine between the turns of a benchmark: `look()` after each, `verdict()` at the end.

    own_cpu_s: function that gives the CPU seconds of the benchmark's own processes so far.
    """

    def __init__(self, own_cpu_s: Callable[[], float]) -> None:
        self._own_cpu_s = own_cpu_s
        self._times: list[float] = []
        self._throttled = throttle_events()
        self._held_back, self._start = gpu_held_back_s(), time.perf_counter()
        rng = np.random.default_rng(0)
        self._matrices = rng.normal(size=(2, 160, 160)).astype(np.float32)
        self._pixels = rng.integers(0, 256, 200_000, np.uint8)
        self._work()
        self._busy_before, self._all_before, self._own_before = *_cpu_seconds(), own_cpu_s()

    def look(self) -> None:
        """Times the piece of work once; about 5 ms on one core."""
        start = time.perf_counter()
        self._work()
        self._times.append(time.perf_counter() - start)

    def verdict(self) -> Verdict:
        """The Verdict on the time since this was made."""
        busy, everything = _cpu_seconds()
        others = None
        if everything > self._all_before:
            own = self._own_cpu_s() - self._own_before
            others = max(0.0, busy - self._busy_before - own) / (everything - self._all_before)
        spread, slowdown = _spread_and_slowdown(self._times)
        throttled = throttle_events() - self._throttled
        seconds = time.perf_counter() - self._start
        held_back = {
            reason: (total - self._held_back.get(reason, total)) / seconds
            for reason, total in gpu_held_back_s().items()
        }
        remarks = _remarks(others, spread, slowdown, throttled, held_back)
        return Verdict(others, spread, slowdown, tuple(remarks))

    def _work(self) -> None:
        # Sorting, not a matrix product alone: that would be the thread pool of NumPy's BLAS.
        for _ in range(3):
            np.sort(self._pixels)
        np.einsum("ij,jk->ik", *self._matrices)


def processes_cpu_s() -> float:
    """CPU seconds of this process and of those of its children that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _spread_and_slowdown(times: Sequence[float]) -> tuple[float, float]:
    if len(times) < 3:
        return 0.0, 0.0
    low, median, high = np.percentile(times, (10, 50, 90))
    third = max(1, len(times) // 3)
    slowdown = np.median(times[-third:]) / np.median(times[:third]) - 1
    return float((high - low) / median), float(slowdown)


def _remarks(
    others: float | None, spread: float, slowdown: float, throttled: int, held_back: dict[str, float]
) -> Iterator[str]:
    if others is not None and others > _OTHERS_SHARE:
        yield f"noisy: other programs took {others:.0%} of the CPU time"
    if spread > _SPREAD:
        yield f"noisy: the same piece of work varied by {spread:.0%}"
    for reason, share in held_back.items():
        if share > _HELD_BACK_SHARE:
            yield f"throttled: the GPU's clock was held back for {reason}, {share:.0%} of the time"
    if throttled:
        yield f"throttled: the CPU slowed down for heat {throttled} times"
    elif slowdown > _SLOWDOWN:
        yield f"slower towards the end by {slowdown:.0%}: throttled, or disturbed"


def _cpu_seconds() -> tuple[float, float]:
    """(busy, all) CPU seconds of all cores since the system started; (0, 0) where it does not tell."""
    try:
        fields = [int(text) for text in _STAT.read_text().splitlines()[0].split()[1:9]]
    except (OSError, ValueError, IndexError):
        return 0.0, 0.0
    user, nice, system, idle, waiting, irq, softirq, steal = (value / _TICKS_PER_S for value in fields)
    busy = user + nice + system + irq + softirq + steal
    return busy, busy + idle + waiting
