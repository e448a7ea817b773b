"""Turns of all subjects, interleaved, and what comes out of them."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from ..machine.energy import find_meters
from ..machine.facts import clock_mhz, gpu_memory_mib
from .check import problem_of
from .disturbance import Watch, processes_cpu_s
from .worker import Worker, WorkerFailed

PERCENTILES = (50, 90, 95, 99)
_TURN_S = 0.5  # of frames, and as much of the network alone
_FEWEST_CALLS = 3
_STAGES = ("capture", "preprocess", "infer", "postprocess", "age", "frame")


@dataclass(frozen=True)
class Plan:
    """How to measure. seconds: of each subject.   batch: images in a call.   threads: of the CPU, 0: all.
    score_threshold: of detections.   progress: function(done, all, text).
    """

    seconds: float = 20.0
    batch: int = 1
    threads: int = 0
    score_threshold: float = 0.5
    progress: object = lambda done, total, text: None


class Measured:
    """One subject's worker and its turns so far."""

    def __init__(self, subject, worker):
        self.subject, self.worker = subject, worker
        self.calls = {}  # of a turn, by kind
        self.turns = {"frames": [], "network": []}
        self.joules, self.clocks, self.ends_s = [], [], []

    def warm_up(self):
        """Two calls of each, then as many as tell how many fill a turn."""
        for kind in self._kinds():
            getattr(self.worker, kind)(2)
            # As many for each of those that run at once: nobody waits for the last one's last.
            at_once = self.worker.at_once
            probe = getattr(self.worker, kind)(_FEWEST_CALLS * at_once)
            rounds = round(_TURN_S * probe.calls / probe.seconds / at_once)
            self.calls[kind] = at_once * max(_FEWEST_CALLS, rounds)

    def take_turn(self, meters, start, is_back):
        """Frames and the network alone, the other way round when `is_back`; energy is that of the frames."""
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

    def _kinds(self):
        return ("frames", "network") if self.worker.has_network else ("frames",)


def measure(subjects, images, plan):
    """(rows, Verdict): a dict for each Subject, in their order, see `row_of`; and how quiet the machine was.

    What is missing, or fails, or gives other results than the reference, is a row that says so.
    """
    reasons, running = {}, {}
    try:
        for i, subject in enumerate(subjects):
            plan.progress(i, len(subjects), f"opening {subject.name}, {subject.precision}")
            try:
                running[i] = _opened(subject, images, plan)
            except WorkerFailed as error:
                reasons[i] = str(error)
        verdict = _take_turns(running, reasons, plan)
        rows = [row_of(s, running.get(i), reasons.get(i, ""), plan) for i, s in enumerate(subjects)]
    finally:
        for one in running.values():
            one.worker.close()
    return rows, verdict


def _opened(subject, images, plan):
    if subject.missing:
        raise WorkerFailed(subject.missing)
    options = {"score_threshold": plan.score_threshold, "batch": plan.batch, "threads": plan.threads}
    worker = Worker(subject, images, **options)
    try:
        problem = problem_of(subject, worker, images, plan)
        if problem:
            raise WorkerFailed(problem)
        one = Measured(subject, worker)
        one.warm_up()
    except BaseException:
        worker.close()
        raise
    return one


def _take_turns(running, reasons, plan):
    """Turns of all until each has had its seconds; one that fails is left out from there on."""
    watch = Watch(lambda: processes_cpu_s() + sum(one.worker.cpu_s for one in running.values()))
    meters, start = find_meters(), time.perf_counter()
    rounds = max(3, round(plan.seconds / (2 * _TURN_S)))
    for number in range(rounds):
        is_back = bool(number % 2)  # nobody always comes after the same one, or always first
        for i, one in sorted(running.items(), reverse=is_back):
            plan.progress(number, rounds, f"round {number + 1}: {one.subject.name}, {one.subject.precision}")
            try:
                one.take_turn(meters, start, is_back)
            except WorkerFailed as error:
                reasons[i] = str(error)
                running.pop(i).worker.close()
        watch.look()
    return watch.verdict()


def row_of(subject, one, reason, plan):
    """A dict for the report: who it is, then status "ok" with figures, or "missing" with the reason.

    fps, network_fps: {median, low, high} over the turns.   stage_ms: {stage: {p50, p90, p95, p99, max}} of frames
    or batches.   of_network: frame rate by the network's alone.   cpu_ms_per_frame, memory_mib (the peak of its
    process), gpu_memory_mib, joules_per_frame by meter, clock_mhz.   fps_over_time: [seconds, FPS] of each turn.
    histogram_ms: ages, counted in bins.
    """
    row = {"name": subject.name, "kind": subject.kind, "precision": subject.precision, "batch": plan.batch}
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


def _spread(values):
    low, median, high = np.percentile(values, (10, 50, 90))
    return {"median": float(median), "low": float(low), "high": float(high)}


def _tail(values):
    points = dict(zip((f"p{p}" for p in PERCENTILES), map(float, np.percentile(values, PERCENTILES))))
    return points | {"max": float(max(values))}


def _medians(joules, batch):
    return {name: float(np.median([turn[name] for turn in joules]) / batch) for name in joules[0]}


def _histogram(values, bins=40):
    """Of all but the slowest hundredth, which would leave one bin for the rest."""
    counts, edges = np.histogram(values, bins, (min(values), float(np.percentile(values, 99)) + 1e-9))
    return {"counts": counts.tolist(), "edges": [round(float(edge), 4) for edge in edges]}
