"""The pipeline: every frame of a source through a detector into sinks, and what it cost."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from .detector import Detector, FrameCopies
from .frames import Frame
from .sinks import FrameResult, Sink
from .timing import STAGES, RollingStats


@dataclass
class RunStatistics:
    """Figures of a run so far; times in milliseconds.

    stage_ms: per stage (capture, preprocess, infer, postprocess, age), of the last thousand frames.
    timestamp_source: who stamped the frames, which is what age counts from.
    detections: how often each class was found.   copies: FrameCopies of the latest frame.
    """

    frames: int = 0
    seconds: float = 0.0
    stage_ms: dict[str, RollingStats] = field(
        default_factory=lambda: {stage: RollingStats() for stage in (*STAGES, "age")}
    )
    frame_seconds: RollingStats = field(default_factory=lambda: RollingStats(window=100))
    timestamp_source: str = "arrival"
    detections: Counter[str] = field(default_factory=Counter)
    copies: FrameCopies = field(default_factory=lambda: FrameCopies(0, 0))
    latest: FrameResult | None = None

    @property
    def fps(self) -> float:
        """Frames per second of the whole run, camera to detections and sinks."""
        return self.frames / self.seconds if self.seconds else 0.0

    @property
    def recent_fps(self) -> float:
        """Frames per second of the last hundred frames."""
        mean = self.frame_seconds.mean()
        return 1 / mean if mean else 0.0

    def add(self, result: FrameResult, seconds: float, elapsed: float) -> None:
        """Takes one frame, which took `seconds` from the frame before; `elapsed` since the run began."""
        self.frames += 1
        self.seconds = elapsed
        self.frame_seconds.add(seconds)
        for stage, ms in result.timing_ms.items():
            self.stage_ms[stage].add(ms)
        self.timestamp_source = result.frame.timestamp_source
        self.detections.update(result.class_names[label] for label in result.detections.labels)
        self.latest = result


def run_pipeline(
    source: Iterable[Frame],
    detector: Detector,
    sinks: Sequence[Sink],
    max_frames: int = 0,
    on_frame: Callable[[RunStatistics], None] | None = None,
) -> RunStatistics:
    """Runs until the source ends or is stopped, `max_frames` is reached (0: no limit) or a window is closed.

    source: iterable of Frames, such as `open_source` gives.   sinks: list of what `open_sink` gives; they
    stay open.   on_frame: called with the RunStatistics after each frame.

    Returns RunStatistics. Errors of the source, the detector or a sink come through.
    """
    statistics = RunStatistics()
    start = before = time.perf_counter()
    frames = islice(source, max_frames) if max_frames else source
    # Of a list, say, the next frame comes without waiting.
    for frame, detections, timings in detector.detect_all(
        frames, lambda: getattr(source, "frame_ready", True)
    ):
        timing_ms = {"capture": frame.capture_ms, **timings, "age": frame.age_ms()}
        result = FrameResult(frame, detections, detector.class_names, timing_ms)
        for sink in sinks:
            sink.write(result)
        now = time.perf_counter()
        statistics.add(result, now - before, now - start)
        statistics.copies = FrameCopies(frame.copies + detector.copies.cpu, detector.copies.bus)
        before = now
        if on_frame is not None:
            on_frame(statistics)
        if any(getattr(sink, "closed", False) for sink in sinks):
            break
    return statistics
