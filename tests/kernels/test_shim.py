"""The simulated device itself: that it runs CUDA as CUDA runs, and catches what CUDA would not tell."""

from __future__ import annotations

import numpy as np
import pytest

from edge_ssd import reference
from edge_ssd.priors import make_priors
from tests.kernels.operations import Operations
from tests.kernels.simulated import LaunchFailed, SimulatedDevice
from tests.media import random_image
from tests.specs import example_spec, grid_spec

# Small blocks and few priors: a thread of a block is a thread of the system here.
_BLOCK = 64


def _postprocess(device, rng, block=_BLOCK):
    """Every path of the three kernels: a radix select in both that have one, several chunks of NMS, a batch."""
    spec = grid_spec(
        25, 32, class_names=("a", "b", "c"), score_activation="softmax", top_k=70, max_detections=100
    )
    priors = make_priors(spec)
    loc = rng.normal(size=(2, 800, 4)).astype(np.float32)
    conf = rng.normal(size=(2, 800, 4)).astype(np.float32)
    conf[1, :700, 0] = 30  # the second image is quiet, and breaks
    conf[1, 3, 1] = np.nan
    rows, counts = Operations(device, block).postprocess(loc, conf, priors, spec)
    for i in range(2):
        expected_rows, expected_counts = reference.postprocess(loc[i], conf[i], priors, spec)
        assert counts[i].tolist() == expected_counts.tolist()
        np.testing.assert_allclose(rows[i], expected_rows, atol=3e-6)


def _preprocess(device, rng, block=_BLOCK):
    """Every kind of plane, letterbox, odd addresses, tiles done in parts."""
    spec = example_spec(height=24, width=40, resize="letterbox")
    for pixel_format, shared_bytes in (("bgr8", 2048), ("nv12", 1024), ("i420", 24576), ("uyvy", 4096)):
        image = random_image(rng, pixel_format, 46, 70)
        batch, _ = Operations(device, block).preprocess(
            [(image, pixel_format)], spec, shared_bytes=shared_bytes
        )
        expected, _ = reference.preprocess(image, spec, pixel_format)
        assert np.abs(batch - expected).max() < 0.02
        device.frames.clear()


@pytest.fixture(scope="module")
def in_mode(binaries, compiled_once):
    """in_mode(mode, edit): a SimulatedDevice; kernels that are not edited are compiled once for all tests."""
    devices = {"fibers": compiled_once}

    def make(mode, edit=None):
        if mode not in devices:
            devices[mode] = SimulatedDevice(binaries, mode)
        device = SimulatedDevice(binaries, mode, edit)
        device.share_kernels(devices[mode])
        return device

    return make


# "address" includes UndefinedBehaviorSanitizer.
@pytest.mark.parametrize("mode", ["address", "thread"])
def test_the_kernels_are_clean_under_sanitizers(in_mode, rng, mode):
    device = in_mode(mode)
    _postprocess(device, rng)
    _preprocess(device, rng)


@pytest.mark.parametrize(
    ("name", "with_barrier", "without"),
    [
        (
            "class_nms",
            "        __syncthreads();\n        u32 alive = ",
            "        u32 alive = ",
        ),
        ("score_candidates", "[lane_index()] = mine;\n    __syncthreads();", "[lane_index()] = mine;"),
        (
            "merge",
            "        __syncthreads();\n        if (warp_index() == 0) {",
            "        if (warp_index() == 0) {",
        ),
    ],
)
def test_a_barrier_taken_out_is_a_data_race(in_mode, rng, name, with_barrier, without):
    def edit(source):
        assert with_barrier in source
        return source.replace(with_barrier, without)

    with pytest.raises(LaunchFailed, match="data race"):
        _postprocess(in_mode("thread", {name: edit}), rng)


@pytest.fixture
def edited(in_mode):
    """edited(name, before, after, mode): a device with a kernel in which `after` stands for `before`."""

    def make(name, before, after, mode="fibers"):
        def edit(source):
            assert before in source
            return source.replace(before, after)

        return in_mode(mode, {name: edit})

    return make


def test_a_step_beyond_an_array_is_seen(edited, rng):
    device = edited(
        "score_candidates", "min(32, num_priors - tile_index * 32)", "32 + 0 * num_priors", "address"
    )
    spec = grid_spec(1, 33)
    with pytest.raises(LaunchFailed, match="heap-buffer-overflow"):
        Operations(device, _BLOCK).postprocess(
            np.zeros((33, 4), np.float32), np.zeros((33, 3), np.float32), make_priors(spec), spec
        )


def test_a_barrier_that_not_all_threads_reach_is_seen(edited, rng):
    device = edited(
        "score_candidates", "    float sum = 1;", "    if (lane == 3) return;\n    float sum = 1;"
    )
    with pytest.raises(LaunchFailed, match="wait where the others do not come"):
        _postprocess(device, rng)


def test_a_partial_mask_is_seen(edited, rng):
    device = edited("class_nms", "__ballot_sync(ALL_LANES, drop)", "__ballot_sync(0xffu, drop)")
    with pytest.raises(LaunchFailed, match="mask that is not all lanes"):
        _postprocess(device, rng)


def test_shared_memory_begins_as_garbage(edited, rng):
    device = edited("class_nms", "histogram[i] = 0;", ";")
    with pytest.raises((LaunchFailed, AssertionError)):
        _postprocess(device, rng)


def test_an_argument_of_the_wrong_type_is_seen(simulated):
    kernel = simulated.kernel("clock")
    times = simulated.array(np.zeros(1, np.uint64))
    kernel((1,), 32, (times, 0.5), shared_bytes=0)
    with pytest.raises(LaunchFailed, match=r"clock takes pi, its launcher passes p\?"):
        simulated.to_host(times)


def test_work_on_a_stream_waits_for_the_host(simulated):
    """The upload takes what the host buffer holds when the host waits, as late as CUDA may do it."""
    array, host = simulated.array(np.zeros(4, np.uint8)), np.ones(4, np.uint8)
    event = simulated.event()
    with simulated.stream:
        simulated.upload(array.ctypes.data, host.ctypes.data, 4)
        event.record()
    host[:] = 2
    event.synchronize()
    assert array.tolist() == [2] * 4


def test_a_stream_waits_for_an_event_of_another(simulated):
    order = []
    event = simulated.event()
    with simulated.copy_stream:
        simulated.enqueue(lambda: order.append("copy"))
        event.record()
        simulated.enqueue(lambda: order.append("later"))
    simulated.stream.wait_for(event)
    with simulated.stream:
        simulated.enqueue(lambda: order.append("compute"))
    simulated.stream.synchronize()
    assert order == ["copy", "compute"]
