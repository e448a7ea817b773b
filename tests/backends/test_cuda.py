"""The GPU backend on a simulated device: results, order, and what it may not do in a frame."""

from __future__ import annotations

import gc
import logging

import numpy as np
import pytest

from edge_ssd import Detector, Frame, open_source
from edge_ssd.backends.cpu import CpuBackend
from edge_ssd.backends.cuda import CudaBackend
from edge_ssd.engines.onnxruntime_engine import OnnxRuntimeEngine
from edge_ssd.models import DEMO_MODEL
from edge_ssd.options import DetectorOptions
from edge_ssd.spec import SsdSpec
from tests.backends.brightness import assert_same, brightness, camera_frames, on_cpu, small_spec
from tests.kernels.simulated import LaunchFailed
from tests.kernels.simulated_engine import SimulatedEngine
from tests.media import random_image
from tests.specs import grid_spec


@pytest.fixture
def engine(simulated):
    return SimulatedEngine(simulated, brightness, (100, 100))


@pytest.fixture
def backend(simulated, engine):
    return CudaBackend(engine, small_spec(), None, simulated, memory="pinned")


@pytest.mark.parametrize("memory", ["pinned", "mapped", "auto"])
@pytest.mark.parametrize("capturable", [True, False])
def test_it_gives_what_the_cpu_gives(simulated, rng, memory, capturable, monkeypatch):
    monkeypatch.setattr("edge_ssd.backends.cuda._TRIAL_SIZE", (36, 64))
    engine = SimulatedEngine(simulated, brightness, (100, 100), capturable=capturable)
    detector = Detector(CudaBackend(engine, small_spec(), None, simulated, memory=memory))
    frames = camera_frames(rng)
    assert_same([detector.detect(frame) for frame in frames], on_cpu(brightness, small_spec(), frames))
    assert ("CUDA graph" in detector.description) == capturable


def test_the_demo_model_on_the_demo_camera(simulated):
    spec = DetectorOptions().applied_to(SsdSpec.load(DEMO_MODEL.with_suffix(".json")))
    network = OnnxRuntimeEngine(DEMO_MODEL, spec, threads=1)
    engine = SimulatedEngine(simulated, network.infer, spec.input.size)
    detector = Detector(CudaBackend(engine, spec, None, simulated, memory="mapped"))
    frames = list(open_source("demo://?seed=7&frames=3"))
    expected = Detector(CpuBackend(network, spec)).detect_batch(frames)
    assert sum(map(len, expected)) >= 5
    assert_same([detector.detect(frame) for frame in frames], expected)


def test_two_frames_in_flight_do_not_mix(backend, rng):
    """The simulated device works as late as it may: what the host changed too early would show."""
    detector = Detector(backend)
    frames = camera_frames(rng, 7)
    expected = on_cpu(brightness, small_spec(), frames)
    detections, waiting = [], []
    for frame in frames:
        waiting.append(detector.submit(frame))
        if len(waiting) == 2:
            detections.append(detector.collect(waiting.pop(0)))
    detections.append(detector.collect(waiting.pop()))
    assert_same(detections, expected)


def test_a_frame_that_comes_while_the_gpu_works_is_submitted_then(backend, rng):
    """And when none comes, the result is not held back for it."""
    detector, record = Detector(backend), []
    frames = camera_frames(rng, 4)
    expected = on_cpu(brightness, small_spec(), frames)
    arrives_at_look = iter([False, True, False, True, *[False] * 100])

    def camera():
        for i, frame in enumerate(frames):
            record.append(f"frame {i}")
            yield frame

    found = []
    for one in detector.detect_all(camera(), lambda: next(arrives_at_look)):
        record.append(f"result {len(found)}")
        found.append(one.detections)
    assert record[:4] == ["frame 0", "frame 1", "result 0", "frame 2"]
    assert record[4:] == ["result 1", "result 2", "frame 3", "result 3"]
    assert_same(found, expected)


def test_a_gpu_that_fails_is_an_error_in_one_line(backend, rng, monkeypatch):
    detector, frames = Detector(backend), camera_frames(rng, 2)

    def fail(*_):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    ticket = detector.submit(frames[0])
    monkeypatch.setattr(ticket[1].lane._end, "synchronize", fail)
    with pytest.raises(
        OSError, match=r"the GPU failed \(CUDA error: an illegal .*\); start the program again"
    ):
        detector.collect(ticket)
    monkeypatch.setattr(backend.engine, "infer", fail)
    for pair in backend._pairs.values():
        for lane in pair:
            lane.graph = None
    with pytest.raises(OSError, match="the GPU failed"):
        detector.submit(frames[1])


def test_results_of_a_collected_frame_stay(backend, rng):
    detector = Detector(backend)
    frames = camera_frames(rng, 3)
    first = detector.detect(frames[0])
    boxes, scores = first.boxes.copy(), first.scores.copy()
    detector.detect(frames[1])
    detector.detect(frames[2])
    assert np.array_equal(first.boxes, boxes)
    assert np.array_equal(first.scores, scores)


def test_a_third_frame_in_flight_is_refused(backend, rng):
    detector = Detector(backend)
    frames = camera_frames(rng, 3)
    tickets = [detector.submit(frame) for frame in frames[:2]]
    with pytest.raises(RuntimeError, match="2 batches are in flight: collect one"):
        detector.submit(frames[2])
    for ticket in tickets:
        detector.collect(ticket)
    with pytest.raises(ValueError, match="ticket: was collected before"):
        detector.collect(tickets[0])


def test_a_ticket_that_nobody_keeps_does_not_block(backend, rng):
    detector = Detector(backend)
    frames = camera_frames(rng, 6)
    for frame in frames[:5]:
        detector.submit(frame)
        gc.collect()
    assert_same([detector.detect(frames[5])], on_cpu(brightness, small_spec(), frames[5:]))


def test_a_frame_allocates_nothing_and_waits_once(backend, simulated, rng):
    detector = Detector(backend)
    frames = camera_frames(rng, 6)
    for frame in frames:
        detector.detect(frame)  # buffers have grown to the largest
    allocations, synchronizations = simulated.allocations, simulated.synchronizations
    for _ in range(3):
        for frame in frames:
            detector.detect(frame)
    assert simulated.allocations == allocations
    assert simulated.synchronizations - synchronizations == 18


def test_a_batch_is_one_call_of_the_network(backend, engine, rng):
    detector = Detector(backend)
    frames = camera_frames(rng, 4)
    assert_same(detector.detect_batch(frames), on_cpu(brightness, small_spec(), frames))
    before = engine.calls
    detector.detect_batch(frames)
    assert engine.calls - before == 1


def test_an_engine_of_fixed_sizes_is_filled_up(simulated, rng):
    engine = SimulatedEngine(simulated, brightness, (100, 100), sizes=(3,))
    detector = Detector(CudaBackend(engine, small_spec(), None, simulated, memory="pinned"))
    frames = camera_frames(rng, 7)
    expected = on_cpu(brightness, small_spec(), frames)
    assert_same(detector.detect_batch(frames), expected)
    assert_same([detector.detect(frames[1])], expected[1:2])


def test_flattened_half_precision_heads(simulated, rng):
    def flattened(batch):
        return [output.reshape(len(batch), -1).astype(np.float16) for output in brightness(batch)]

    engine = SimulatedEngine(simulated, flattened, (100, 100), dtype=np.float16)
    detector = Detector(CudaBackend(engine, small_spec(), None, simulated, memory="pinned"))
    frames = camera_frames(rng, 2)
    for frame, expected in zip(frames, on_cpu(brightness, small_spec(), frames)):
        detections = detector.detect(frame)
        assert len(detections) == len(expected)
        np.testing.assert_allclose(np.sort(detections.scores), np.sort(expected.scores), atol=2e-3)


def test_only_the_labels_asked_for(simulated, engine, rng):
    backend = CudaBackend(engine, small_spec(), np.array([1]), simulated, memory="pinned")
    detections = Detector(backend).detect(camera_frames(rng, 1)[0])
    assert set(detections.labels.tolist()) == {1}


def test_what_cannot_be_captured_runs_plainly_and_says_so(simulated, rng, caplog):
    engine = SimulatedEngine(
        simulated, brightness, (100, 100), failure="the network cannot be captured (why)"
    )
    with caplog.at_level(logging.WARNING, "edge_ssd"):
        detector = Detector(CudaBackend(engine, small_spec(), None, simulated, memory="pinned"))
    assert "the network cannot be captured (why); running it by plain launches" in caplog.text
    frames = camera_frames(rng, 2)
    assert_same([detector.detect(f) for f in frames], on_cpu(brightness, small_spec(), frames))


def test_nan_in_an_output_is_named(simulated, rng):
    def broken(batch):
        loc, conf = brightness(batch)
        conf[:, 1] = np.nan
        return loc, conf

    engine = SimulatedEngine(simulated, broken, (100, 100))
    detector = Detector(CudaBackend(engine, small_spec(), None, simulated, memory="pinned"))
    with pytest.raises(ValueError, match="output 'conf' holds NaN or Inf for 1 of 4 priors"):
        detector.detect(camera_frames(rng, 1)[0])
    with pytest.raises(ValueError, match="output 'conf'"):
        detector.detect(camera_frames(rng, 1)[0])


def test_outputs_that_do_not_fit_the_spec_are_refused_at_load(simulated, engine):
    with pytest.raises(ValueError, match=r"output 'loc' is \(1, 4, 4\); the spec has 6 priors"):
        CudaBackend(engine, grid_spec(2, 3), None, simulated)


def test_limits_beyond_the_kernels_are_refused_at_load(simulated, engine):
    with pytest.raises(ValueError, match="top_k: expected 1 to 1024 on a GPU, got 5000"):
        CudaBackend(engine, small_spec(top_k=5000), None, simulated)


def test_the_three_steps_one_by_one(backend, rng):
    frame = camera_frames(rng, 1)[0]
    batch, plan = backend.preprocess(frame)
    loc, conf = backend.infer(batch)
    rows, counts = backend.postprocess(loc[0], conf[0])
    assert backend.to_host(batch).shape == (1, 3, 100, 100)
    assert plan.source_size == frame.image_size
    detections = Detector(backend).detect(frame)
    assert counts.tolist() == [len(detections), 0]
    assert np.allclose(rows[: len(detections), 4], detections.scores)


class TestCopies:
    """Copies of the pixels, as they are counted."""

    def _copies(self, backend, frame):
        detector = Detector(backend)
        detector.detect(frame)
        return tuple(detector.copies)

    @pytest.mark.parametrize(("memory", "bus"), [("pinned", 1), ("mapped", 0)])
    def test_memory_from_anywhere_is_copied_once_more(self, simulated, engine, rng, memory, bus):
        backend = CudaBackend(engine, small_spec(), None, simulated, memory=memory)
        assert self._copies(backend, camera_frames(rng, 1)[0]) == (1, bus)
        own = backend.allocate((40, 60, 3))
        own[:] = random_image(rng, "bgr8", 40, 60)
        assert self._copies(backend, Frame(own)) == (0, bus)
        assert self._copies(backend, Frame(own[5:30, 3:50])) == (0, bus)

    def test_a_source_reads_into_the_backends_buffers(self, backend):
        detector = Detector(backend)
        with open_source("demo://?seed=1&frames=4", allocate=detector.allocate) as source:
            for frame in source:
                detector.detect(frame)
                assert detector.copies == (0, 1)

    def test_a_flipped_view_is_copied_and_right(self, backend, rng):
        image = random_image(rng, "bgr8", 40, 60)
        own = backend.allocate((40, 60, 3))
        own[:] = image
        assert self._copies(backend, Frame(own[::-1])) == (1, 1)
        expected = on_cpu(brightness, small_spec(), [Frame(image[::-1].copy())])
        assert_same([Detector(backend).detect(Frame(own[::-1]))], expected)


class _OnDevice:
    """An array as another library shows it."""

    def __init__(self, array, stream=None, version=3):
        self.array = array
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "strides": array.strides,
            "typestr": "|u1",
            "data": (array.ctypes.data, False),
            "version": version,
            "stream": stream,
        }


class TestForeignArrays:
    """Images that lie on the device already."""

    def test_they_are_read_in_place(self, backend, simulated, rng):
        image = simulated.frame(random_image(rng, "bgr8", 40, 60))
        detector = Detector(backend)
        expected = on_cpu(brightness, small_spec(), [Frame(image)])
        detections = detector.detect(_OnDevice(image[4:38]))
        assert tuple(detector.copies) == (0, 0)
        assert detections.image_size == (34, 60)
        assert_same([detector.detect(Frame(_OnDevice(image), timestamp_ns=0))], expected)

    def test_the_pipeline_waits_for_the_stream_that_makes_them(self, backend, simulated, rng):
        image = simulated.frame(np.zeros((40, 60, 3), np.uint8))
        final = random_image(rng, "bgr8", 40, 60)
        simulated.foreign_streams[77] = simulated.copy_stream.__class__(simulated)
        simulated.foreign_streams[77].give(lambda: image.__setitem__(..., final))
        detections = Detector(backend).detect(Frame(_OnDevice(image, stream=77)))
        assert_same([detections], on_cpu(brightness, small_spec(), [Frame(final)]))

    def test_before_version_3_the_default_stream_is_meant(self, rng):
        image = random_image(rng, "bgr8", 4, 6)
        assert Frame(_OnDevice(image, version=2)).planes[0].stream == 1
        assert Frame(_OnDevice(image)).planes[0].stream == 0

    def test_an_address_that_is_not_the_devices_is_refused(self, backend, rng):
        with pytest.raises(ValueError, match="image: its address is none of CUDA's"):
            Detector(backend).detect(_OnDevice(random_image(rng, "bgr8", 40, 60)))

    def test_the_cpu_refuses_them_with_what_to_do(self, rng):
        with pytest.raises(ValueError, match=r"lies on a GPU, and this model runs on the CPU; pass a copy"):
            Detector.load(DEMO_MODEL).detect(_OnDevice(random_image(rng, "bgr8", 40, 60)))


def test_a_frame_that_changes_before_it_is_collected_would_show(backend, rng):
    """The simulated device does catch it: the frame in mapped memory is read when the host waits."""
    own = backend.allocate((40, 60, 3))
    own[:] = 10
    detector = Detector(backend)
    ticket = detector.submit(Frame(own))
    own[:] = 200
    assert (detector.collect(ticket).scores > 0.5).all()


def test_the_host_sleeps_on_a_jetson_and_polls_elsewhere(simulated, engine):
    assert CudaBackend(engine, small_spec(), None, simulated, memory="pinned")._wait == "spin"
    simulated.is_integrated = True
    assert CudaBackend(engine, small_spec(), None, simulated, memory="pinned")._wait == "block"


def test_closing_frees_the_engine(backend, engine):
    Detector(backend).close()
    assert engine.is_closed


def test_a_launch_that_fails_comes_through(simulated, backend, rng):
    simulated.stream.give(lambda: (_ for _ in ()).throw(LaunchFailed("an illegal memory access")))
    with pytest.raises(LaunchFailed, match="illegal memory access"):
        Detector(backend).detect(camera_frames(rng, 1)[0])
