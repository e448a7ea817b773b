"""Turns of all candidates, interleaved, and what comes out of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from ..machine.energy import Meter, find_meters
from ..machine.facts import clock_mhz, gpu_memory_mib
from .candidates import Candidate
from .check import problem_of
from .disturbance import Verdict, Watch, processes_cpu_s
from .plan import Plan
from .worker import Turn, Worker, WorkerFailed

PERCENTILES = (50, 90, 95, 99)
_TURN_S = 0.5  # of frames, and as much of the network alone
_FEWEST_CALLS = 3
_STAGES = ("capture", "preprocess", "infer", "postprocess", "age", "frame")


class Measured:
    """One candidate's worker and its turns so far."""

    def __init__(self, candidate: Candidate, worker: Worker) -> None:
        self.candidate, self.worker = candidate, worker
        self.calls: dict[str, int] = {}  # of a turn, by kind
        self.turns: dict[str, list[Turn]] = {"frames": [], "network": []}
        self.joules: list[dict[str, float]] = []
        self.clocks: list[float] = []
        self.ends_s: list[float] = []

    def warm_up(self) -> None:
        """Two calls of each, then as many as tell how many fill a turn."""
        for kind in self._kinds():
            getattr(self.worker, kind)(2)
            # As many for each of those that run at once: nobody waits for the last one's last.
            in_flight = self.worker.in_flight
            probe = getattr(self.worker, kind)(_FEWEST_CALLS * in_flight)
            rounds = round(_TURN_S * probe.calls / probe.seconds / in_flight)
            self.calls[kind] = in_flight * max(_FEWEST_CALLS, rounds)

    def take_turn(self, meters: Sequence[Meter], start: float, is_back: bool) -> None:
        """Frames and the network alone, the other way round when `is_back`; energy is that of the frames.

        start: of the run, seconds of time.perf_counter.
        """
        for kind in self._kinds()[:: -1 if is_back else 1]:
            with ExitStack() as stack:
                used = meters if kind == "frames" else []
                joules = {meter.name: stack.enter_context(meter.measure()) for meter in used}
                turn = getattr(self.worker, kind)(self.calls[kind])
            self.turns[kind].append(turn)
            if kind == "frames":
                self.joules.append({name: values[0] / turn.calls for name, values in joules.items()})
                self.clocks += clock_mhz()
                self.ends_s.append(time.perf_counter() - start)

    def _kinds(self) -> tuple[str, ...]:
        return ("frames", "network") if self.worker.has_network else ("frames",)


def measure(
    candidates: Sequence[Candidate], images: Sequence[np.ndarray], plan: Plan
) -> tuple[list[dict[str, Any]], Verdict]:
    """(rows, Verdict): a dict for each Candidate, in their order, see `row_of`; and how quiet the machine was.

    images: BGR, (H, W, 3) uint8.
    What is missing, or fails, or gives other results than the reference, is a row that says so.
    """
    reasons: dict[int, str] = {}
    running: dict[int, Measured] = {}
    try:
        for i, candidate in enumerate(candidates):
            plan.progress(i, len(candidates), f"opening {candidate.name}, {candidate.precision}")
            try:
                running[i] = _opened(candidate, images, plan)
            except WorkerFailed as error:
                reasons[i] = str(error)
        verdict = _take_turns(running, reasons, plan)
        rows = [row_of(s, running.get(i), reasons.get(i, ""), plan) for i, s in enumerate(candidates)]
    finally:
        for one in running.values():
            one.worker.close()
    return rows, verdict


def _opened(candidate: Candidate, images: Sequence[np.ndarray], plan: Plan) -> Measured:
    if candidate.missing:
        raise WorkerFailed(candidate.missing)
    options = {"score_threshold": plan.score_threshold, "batch": plan.batch, "threads": plan.threads}
    worker = Worker(candidate, images, **options)
    try:
        problem = problem_of(candidate, worker, images, plan)
        if problem:
            raise WorkerFailed(problem)
        one = Measured(candidate, worker)
        one.warm_up()
    except BaseException:
        worker.close()
        raise
    return one


def _take_turns(running: dict[int, Measured], reasons: dict[int, str], plan: Plan) -> Verdict:
    """Turns of all until each has had its seconds; one that fails is left out from there on."""
    watch = Watch(lambda: processes_cpu_s() + sum(one.worker.cpu_s for one in running.values()))
    meters, start = find_meters(), time.perf_counter()
    rounds = max(3, round(plan.seconds / (2 * _TURN_S)))
    for number in range(rounds):
        is_back = bool(number % 2)  # nobody always comes after the same one, or always first
        for i, one in sorted(running.items(), reverse=is_back):
            plan.progress(
                number, rounds, f"round {number + 1}: {one.candidate.name}, {one.candidate.precision}"
            )
            try:
                one.take_turn(meters, start, is_back)
            except WorkerFailed as error:
                reasons[i] = str(error)
                running.pop(i).worker.close()
        watch.look()
    return watch.verdict()


def row_of(candidate: Candidate, one: Measured | None, reason: str, plan: Plan) -> dict[str, Any]:
    """A dict for the report: who it is, then status "ok" with figures, or "missing" with the reason.

    fps, network_fps: {median, low, high} over the turns.   stage_ms: {stage: {p50, p90, p95, p99, max}} of frames
    or batches.   of_network: frame rate by the network's alone.   cpu_ms_per_frame, memory_mib (the peak of its
    process), gpu_memory_mib, joules_per_frame by meter, clock_mhz.   fps_over_time: [seconds, FPS] of each turn.
    histogram_ms: ages, counted in bins.
    """
    row = {
        "name": candidate.name,
        "kind": candidate.kind,
        "precision": candidate.precision,
        "batch": plan.batch,
    }
    if one is None:
        return {**row, "status": "missing", "reason": reason}
    frames, network = one.turns["frames"], one.turns["network"]
    images = plan.batch * np.array([turn.calls for turn in frames])
    fps = images / np.array([turn.seconds for turn in frames])
    network_fps = np.array([plan.batch * turn.calls / turn.seconds for turn in network])
    times = [time_ms for turn in frames for time_ms in turn.times]
    return {
        **row,
        "status": "ok",
        "description": one.worker.description,
        "fps": _spread(fps),
        "network_fps": _spread(network_fps) if len(network_fps) else None,
        "of_network": float(np.median(fps / network_fps)) if len(network_fps) else None,
        "stage_ms": {stage: _tail([t[stage] for t in times]) for stage in _STAGES if stage in times[0]},
        "cpu_ms_per_frame": float(np.median([t.cpu_s for t in frames] / images) * 1e3),
        "memory_mib": one.worker.memory_mib,
        "gpu_memory_mib": gpu_memory_mib(one.worker.process_id),
        "joules_per_frame": _medians(one.joules, plan.batch),
        "clock_mhz": float(np.median(one.clocks)) if one.clocks else None,
        "fps_over_time": [[round(s, 2), float(f)] for s, f in zip(one.ends_s, fps)],
        "histogram_ms": _histogram([t["age"] for t in times]),
    }


def _spread(values: np.ndarray) -> dict[str, float]:
    low, median, high = np.percentile(values, (10, 50, 90))
    return {"median": float(median), "low": float(low), "high": float(high)}


def _tail(values: Sequence[float]) -> dict[str, float]:
    points = dict(zip((f"p{p}" for p in PERCENTILES), map(float, np.percentile(values, PERCENTILES))))
    return points | {"max": float(max(values))}


def _medians(joules: Sequence[dict[str, float]], batch: int) -> dict[str, float]:
    return {name: float(np.median([turn[name] for turn in joules]) / batch) for name in joules[0]}


def _histogram(values: Sequence[float], bins: int = 40) -> dict[str, list]:
    """Of all but the slowest hundredth, which would leave one bin for the rest."""
    counts, edges = np.histogram(values, bins, (min(values), float(np.percentile(values, 99)) + 1e-9))
    return {"counts": counts.tolist(), "edges": [round(float(edge), 4) for edge in edges]}
