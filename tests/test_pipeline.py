"""The pipeline: every frame to every sink, with its times."""

from __future__ import annotations

import numpy as np
import pytest

from edge_ssd import Detections, Detector
from edge_ssd.detector import FrameCopies
from edge_ssd.frames import Frame, now_ns
from edge_ssd.pipeline import run_pipeline
from tests.planted import save_cat_model


class Recorder:
    """A sink that keeps what it gets, and closes its window after `closes_after` results."""

    def __init__(self, closes_after=None):
        self.results, self._closes_after = [], closes_after

    @property
    def closed(self):
        return len(self.results) == self._closes_after

    def write(self, result):
        self.results.append(result)

    def close(self):
        raise AssertionError("the pipeline leaves sinks open")


def frames(count, age_ms=0.0, level=0):
    for i in range(count):
        image = np.full((50, 80, 3), level, np.uint8)
        yield Frame(
            image,
            timestamp_ns=now_ns() - int(age_ms * 1e6),
            timestamp_source="driver",
            sequence=i,
            capture_ms=1.5,
        )


@pytest.fixture
def detector(tmp_path):
    with Detector.load(save_cat_model(tmp_path)) as detector:
        yield detector


def test_every_frame_reaches_every_sink_with_its_detections(detector):
    sinks = [Recorder(), Recorder()]
    statistics = run_pipeline(frames(3), detector, sinks)
    for sink in sinks:
        assert [result.frame.sequence for result in sink.results] == [0, 1, 2]
    result = sinks[0].results[0]
    np.testing.assert_allclose(result.detections.boxes, [[22, 13.75, 38, 23.75]])  # prior 5 in 50 x 80
    assert result.class_names == ("cat", "dog")
    assert statistics.frames == 3
    assert statistics.detections == {"cat": 3}
    assert statistics.latest is sinks[1].results[-1]


def test_the_times_of_a_frame_are_its_own(detector):
    sink = Recorder()
    statistics = run_pipeline(frames(1, age_ms=40), detector, [sink])
    timing_ms = sink.results[0].timing_ms
    assert list(timing_ms) == ["capture", "preprocess", "infer", "postprocess", "age"]
    assert timing_ms["capture"] == 1.5
    inside = timing_ms["preprocess"] + timing_ms["infer"] + timing_ms["postprocess"]
    assert 40 + inside <= timing_ms["age"] < 500
    assert statistics.timestamp_source == "driver"
    assert statistics.stage_ms["age"].mean() == timing_ms["age"]


def test_no_frames_no_figures(detector):
    statistics = run_pipeline(iter(()), detector, [])
    assert (statistics.frames, statistics.fps, statistics.recent_fps, statistics.latest) == (0, 0, 0, None)


def test_max_frames_takes_not_one_frame_more(detector):
    source = frames(5)
    assert run_pipeline(source, detector, [], max_frames=2).frames == 2
    assert next(source).sequence == 2


def test_a_closed_window_ends_the_run(detector):
    assert run_pipeline(frames(5), detector, [Recorder(), Recorder(closes_after=2)]).frames == 2


def test_the_figures_are_shown_after_each_frame(detector):
    seen = []
    statistics = run_pipeline(frames(3), detector, [], on_frame=lambda s: seen.append((s.frames, s.fps > 0)))
    assert seen == [(1, True), (2, True), (3, True)]
    assert statistics.recent_fps > 0


def test_what_was_written_before_an_error_stays(tmp_path):
    model = save_cat_model(tmp_path, brightness=1e38)  # a bright image makes conf infinite
    sink = Recorder()
    with Detector.load(model) as detector:
        source = [*frames(2), *frames(1, level=255)]
        with pytest.raises(ValueError, match="output 'conf' holds NaN or Inf"):
            run_pipeline(source, detector, [sink])
    assert len(sink.results) == 2


class _InFlight(Detector):
    """A detector of two frames in flight that keeps a record."""

    in_flight, class_names, timing_ms, copies = (
        2,
        ("cat",),
        {"preprocess": 1.0, "infer": 1.0, "postprocess": 1.0},
        FrameCopies(0, 1),
    )

    def __init__(self):
        self.record = []

    def submit(self, frame):
        self.record.append(("submit", frame.sequence))
        return frame

    def is_done(self, frame):
        return True

    def collect(self, frame):
        self.record.append(("collect", frame.sequence))
        return Detections.empty(frame.image_size)


class _Arriving(list):
    """Frames of a source; `frame_ready` after so many of them."""

    def __init__(self, count, there):
        super().__init__(Frame(np.zeros((4, 4, 3), np.uint8), sequence=i) for i in range(count))
        self._there = iter(there)

    frame_ready = property(lambda self: next(self._there))


def test_the_next_frame_is_submitted_before_one_is_collected():
    detector = _InFlight()
    run_pipeline(_Arriving(3, [True] * 9), detector, [])
    assert detector.record == [
        ("submit", 0), ("submit", 1), ("collect", 0), ("submit", 2), ("collect", 1), ("collect", 2)
    ]  # fmt: skip


def test_a_frame_is_not_held_back_for_one_that_has_not_come():
    detector = _InFlight()
    run_pipeline(_Arriving(3, [False] * 9), detector, [])
    assert detector.record == [(what, i) for i in range(3) for what in ("submit", "collect")]


def test_no_more_frames_are_submitted_than_asked_for():
    detector = _InFlight()
    statistics = run_pipeline(_Arriving(5, [True] * 9), detector, [], max_frames=2)
    assert statistics.frames == 2
    assert [what for what, _ in detector.record].count("submit") == 2
    assert statistics.copies == (0, 1)
