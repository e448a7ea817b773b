"""Several frames at once on the CPU: the same results in the same order, and really at once."""

from __future__ import annotations

import time
from importlib.util import find_spec
from threading import Barrier, Event, Lock
from types import SimpleNamespace

import numpy as np
import pytest

from edge_ssd.backends.batch_result import BatchResult, ImageResult
from edge_ssd.backends.cpu import CpuBackend
from edge_ssd.backends.parallel import ParallelCpuBackend
from edge_ssd.detector import Detector
from edge_ssd.engines.choice import resolve_in_flight
from edge_ssd.frames import Frame, now_ns
from edge_ssd.machine.cpu import usable_cores
from edge_ssd.options import DetectorOptions
from edge_ssd.pipeline import run_pipeline
from edge_ssd.resize import plan_resize
from edge_ssd.sources import open_source
from tests.planted import save_cat_model

needs_openvino = pytest.mark.skipif(not find_spec("openvino"), reason="openvino is not installed")
ENGINES = ["onnxruntime", pytest.param("openvino", marks=needs_openvino)]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("in_flight", [2, 3])
def test_results_are_those_of_one_at_a_time_in_the_same_order(engine, in_flight):
    with open_source("demo://?seed=4&frames=9&scene=1") as source:
        images = [frame.image.copy() for frame in source]
    with Detector.load("demo", engine=engine, threads=1) as one:
        expected = [one.detect(image) for image in images]
        whole_batch = one.detect_batch(images)
    with Detector.load("demo", engine=engine, threads=2, in_flight=in_flight) as several:
        found = [one.detections for one in several.detect_all(iter(images))]
        batch = several.detect_batch(images)
        assert several.in_flight == in_flight + 1
        assert f"{in_flight} frames at once" in several.description
        assert set(several.timing_ms) == {"preprocess", "infer", "postprocess"}
    assert len({len(detections) for detections in expected}) > 1  # so that an exchange would show
    for wanted, *others in zip(expected, found, batch, whole_batch):
        for other in others:
            np.testing.assert_array_equal(other.labels, wanted.labels)
            # Another number of threads adds up in another order.
            np.testing.assert_allclose(other.boxes, wanted.boxes, atol=0.05)
            np.testing.assert_allclose(other.scores, wanted.scores, atol=1e-3)


class StandIn:
    """A CpuBackend whose work is a function."""

    max_batch, priors, description = 0, (), "stand-in"
    spec = SimpleNamespace(class_names=("cat",))

    def __init__(self, work):
        self.submit = work
        self.is_closed = False

    def warm_up(self):
        pass

    def close(self):
        self.is_closed = True


def test_frames_are_worked_on_at_once():
    meeting = Barrier(3, timeout=10)  # breaks when fewer than three are there

    def work(frames):
        meeting.wait()
        return BatchResult([], {})

    backend = ParallelCpuBackend([StandIn(work) for _ in range(3)])
    for ticket in [backend.submit([]) for _ in range(6)]:
        backend.collect(ticket)
    backend.close()


class Camera:
    """Frames at a fixed rate, the newest one or none: a stand-in for a live Source."""

    def __init__(self, count, interval_s):
        self._count, self._interval_s = count, interval_s
        self._start = time.monotonic()

    def _due_s(self):
        return self._start + self._interval_s

    @property
    def frame_ready(self):
        return self._count == 0 or time.monotonic() >= self._due_s()

    def __iter__(self):
        while self._count:
            time.sleep(max(0.0, self._due_s() - time.monotonic()))
            self._start, self._count = time.monotonic(), self._count - 1
            yield Frame(np.zeros((4, 4, 3), np.uint8), timestamp_ns=now_ns())


@pytest.mark.parametrize(("interval_s", "most"), [(0.01, 3), (0.25, 1)])
def test_a_camera_faster_than_a_thread_keeps_several_busy_and_a_slower_one_waits_for_none(interval_s, most):
    at_work, peak, lock = 0, 0, Lock()

    def work(frames):
        nonlocal at_work, peak
        with lock:
            at_work += 1
            peak = max(peak, at_work)
        time.sleep(0.04)
        with lock:
            at_work -= 1
        plan = plan_resize((4, 4), (4, 4), "stretch")
        return BatchResult([ImageResult(np.zeros((0, 6), np.float32), 0, 0, plan)], {})

    with Detector(ParallelCpuBackend([StandIn(work) for _ in range(3)])) as detector:
        statistics = run_pipeline(Camera(6, interval_s), detector, [])
    assert statistics.frames == 6
    assert peak == most
    if most == 1:  # a result is not held back for the frame after it
        assert statistics.stage_ms["age"].mean() < 200


def test_an_error_belongs_to_its_frame(tmp_path):
    model = save_cat_model(tmp_path, brightness=1e38)  # a bright image makes conf infinite
    dark, bright = np.zeros((100, 100, 3), np.uint8), np.full((100, 100, 3), 255, np.uint8)
    with Detector.load(model, in_flight=2) as detector:
        tickets = [detector.submit(image) for image in (dark, bright, dark)]
        assert len(detector.collect(tickets[0])) == 1
        with pytest.raises(ValueError, match="output 'conf' holds NaN or Inf"):
            detector.collect(tickets[1])
        assert len(detector.collect(tickets[2])) == 1
        with pytest.raises(TypeError, match="frame: expected a Frame"):
            detector.submit("an image")


def test_closing_waits_for_the_frame_at_work_and_leaves_out_those_behind():
    started, go_on, done = Event(), Event(), []

    def work(frames):
        started.set()
        go_on.wait(10)
        done.append(frames)

    stand_in = StandIn(work)
    backend = ParallelCpuBackend([stand_in])
    tickets = [backend.submit([number]) for number in range(2)]
    assert started.wait(10)
    tickets[1].add_done_callback(lambda _: go_on.set())  # called when it is left out
    backend.close()
    with pytest.raises(ValueError, match="the engine is closed"):
        backend.submit([])
    assert done == [[0]]
    assert tickets[1].cancelled()
    assert stand_in.is_closed


def test_a_twin_outlives_the_engine_it_was_made_of():
    with open_source("demo://?frames=1") as source:
        image = next(iter(source)).image
    for engine in ("onnxruntime", *(["openvino"] if find_spec("openvino") else [])):
        with Detector.load("demo", engine=engine, in_flight=2, threads=2) as detector:
            first, second = detector._backend.backends
            wanted = first.engine.infer(first.preprocess(Frame(image))[0])[1].copy()
            first.close()
            found = second.engine.infer(second.preprocess(Frame(image))[0])[1]
            np.testing.assert_allclose(found, wanted, atol=1e-4)
            with pytest.raises(ValueError, match="engine is closed"):
                first.engine.infer(np.zeros((1, 3, 320, 320), np.float32))


def test_how_many_frames_at_once(tmp_path):
    assert resolve_in_flight(in_flight=1, threads=0) == 1
    assert resolve_in_flight(in_flight=5, threads=2) == 5
    assert resolve_in_flight(in_flight=0, threads=3) == 3
    assert resolve_in_flight(in_flight=0, threads=64) == 8
    assert resolve_in_flight(in_flight=0, threads=0) == min(8, usable_cores())
    with pytest.raises(ValueError, match="in_flight: expected 0 to 1024, got -1"):
        DetectorOptions(in_flight=-1)
    with Detector.load(save_cat_model(tmp_path), in_flight=0, threads=1) as detector:
        assert isinstance(detector._backend, CpuBackend)
