"""What the launchers refuse: a launch itself checks nothing, it reads beyond an array or gives garbage."""

from __future__ import annotations

import numpy as np
import pytest

from edge_ssd.backends.settings import postprocess_settings
from edge_ssd.kernels import Postprocess, PostprocessSettings, clock_ns
from edge_ssd.kernels.arrays import check_array, head_define
from edge_ssd.kernels.class_nms import MAX_TOP_K, class_nms
from edge_ssd.kernels.merge import merge
from edge_ssd.kernels.score_candidates import score_candidates
from edge_ssd.priors import make_priors
from tests.specs import grid_spec


def _heads(device, priors=32, columns=3, dtype=np.float32):
    return device.array(np.zeros((1, priors, 4), dtype)), device.array(np.zeros((1, priors, columns), dtype))


def _step(device, **changes):
    spec = grid_spec(4, 8, **changes)
    return Postprocess(device, make_priors(spec), postprocess_settings(spec))


@pytest.mark.parametrize(
    ("loc", "conf", "message"),
    [
        ((1, 32, 4), (1, 31, 3), r"conf: expected shape \(1, 32, 3\), got \(1, 31, 3\)"),
        ((1, 32, 4), (2, 32, 3), r"conf: expected shape \(1, 32, 3\)"),
        ((1, 32, 5), (1, 32, 3), r"loc: expected shape \(1, 32, 4\), got \(1, 32, 5\)"),
    ],
)
def test_a_wrong_shape_is_named(device, loc, conf, message):
    with pytest.raises(ValueError, match=message):
        _step(device)(device.array(np.zeros(loc, np.float32)), device.array(np.zeros(conf, np.float32)))


def test_a_wrong_dtype_is_named(device):
    loc, _ = _heads(device)
    with pytest.raises(ValueError, match="loc: expected float16, got float32"):
        _step(device)(loc, _heads(device, dtype=np.float16)[1])
    with pytest.raises(ValueError, match="dtype: expected float32 or float16, got float64"):
        _step(device)(loc, device.array(np.zeros((1, 32, 3))))


def test_an_array_that_is_not_on_the_device_is_named(device):
    loc, _ = _heads(device)
    with pytest.raises(ValueError, match=r"conf: expected an array on .+, got ndarray"):
        _step(device)(loc, np.zeros((1, 32, 3), np.float32))


class _Strided:
    """An array of the device whose rows do not lie together, or whose address is odd."""

    def __init__(self, array, contiguous):
        self.dtype, self.shape, self.strides, self.size = array.dtype, array.shape, (64, 8), array.size
        self.flags = type("Flags", (), {"c_contiguous": contiguous})


class _Device:
    name = "test device"

    def owns(self, array):
        return True

    def address(self, array):
        return 4104


def test_layout_and_alignment_are_checked():
    array = np.zeros((4, 4), np.float32)
    with pytest.raises(ValueError, match=r"x: expected a C-contiguous array, got strides \(64, 8\)"):
        check_array(_Device(), "x", _Strided(array, False), (4, 4), np.float32)
    with pytest.raises(ValueError, match="x: expected an address that is a multiple of 16"):
        check_array(_Device(), "x", _Strided(array, True), (4, 4), np.float32)


def test_head_types():
    assert head_define(np.float16) == "__half"
    with pytest.raises(ValueError, match="expected float32 or float16, got int8"):
        head_define(np.int8)


def _settings(**changes):
    values = {
        "num_columns": 3,
        "columns": (1, 2),
        "labels": (0, 1),
        "activation": "softmax",
        "score_threshold": 0.5,
        "iou_threshold": 0.5,
        "top_k": 10,
        "max_detections": 10,
        "variance": (0.1, 0.2),
    }
    return PostprocessSettings(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"top_k": MAX_TOP_K + 1}, "top_k: expected 1 to 1024 on a GPU, got 1025"),
        ({"top_k": 0}, "top_k"),
        ({"max_detections": 5000}, "max_detections: expected 1 to 1024 on a GPU, got 5000"),
        ({"activation": "relu"}, "activation: expected one of softmax, sigmoid, none"),
        ({"score_threshold": -0.1}, "score_threshold: expected at least 0"),
        ({"score_threshold": float("nan")}, "score_threshold"),
        ({"columns": (1, 3)}, "columns: expected 0 to 2"),
        ({"labels": (1, 0)}, "labels: expected one for each column, ascending"),
        ({"labels": (0,)}, "labels"),
    ],
)
def test_settings_beyond_the_kernels_are_refused(changes, message):
    _settings()
    with pytest.raises(ValueError, match=message):
        _settings(**changes)


@pytest.mark.parametrize("block", [0, 31, 48, 2048])
def test_a_block_that_is_not_whole_warps_is_refused(simulated, block):
    spec = grid_spec(4, 8)
    step = Postprocess(simulated, make_priors(spec), postprocess_settings(spec), block=block)
    with pytest.raises(ValueError, match="block: expected a multiple of 32"):
        step(*_heads(simulated))


def test_every_array_of_every_launcher_is_checked(simulated):
    """Each in turn has one row too many; the message names it."""
    shapes = {
        score_candidates: {
            "loc": ((1, 8, 4), np.float32),
            "conf": ((1, 8, 3), np.float32),
            "columns": ((2,), np.int32),
            "fired": ((1, 2, 1), np.uint32),
            "scores": ((1, 2, 8), np.float32),
            "dropped": ((1, 1), np.int32),
        },
        class_nms: {
            "fired": ((1, 2, 1), np.uint32),
            "scores": ((1, 2, 8), np.float32),
            "loc": ((1, 8, 4), np.float32),
            "priors": ((8, 4), np.float32),
            "kept_boxes": ((1, 2, 5, 4), np.float32),
            "kept_scores": ((1, 2, 5), np.float32),
            "kept_counts": ((1, 2), np.int32),
        },
        merge: {
            "kept_boxes": ((1, 2, 5, 4), np.float32),
            "kept_scores": ((1, 2, 5), np.float32),
            "kept_counts": ((1, 2), np.int32),
            "dropped": ((1, 1), np.int32),
            "labels": ((2,), np.int32),
            "rows": ((1, 5, 6), np.float32),
            "counts": ((1, 2), np.int32),
        },
    }
    rest = {
        score_candidates: {"activation": "none", "score_threshold": 0.5},
        class_nms: {"top_k": 5, "iou_threshold": 0.5, "variance": (0.1, 0.2)},
        merge: {},
    }
    # From these the launchers take the sizes, so that another array is named.
    giving_sizes = {
        score_candidates: {"conf", "columns"},
        class_nms: {"kept_scores", "priors"},
        merge: {"kept_scores"},
    }
    for launcher, arrays in shapes.items():
        made = {name: simulated.empty(shape, dtype) for name, (shape, dtype) in arrays.items()}
        launcher(simulated, **made, **rest[launcher])
        for name, (shape, dtype) in arrays.items():
            if name in giving_sizes[launcher]:
                continue
            wrong = {**made, name: simulated.empty((*shape[:-1], shape[-1] + 1), dtype)}
            if launcher is merge and name in ("rows", "dropped"):
                wrong[name] = simulated.empty((2, *shape[1:]), dtype)
            with pytest.raises(ValueError, match=f"^{name}: expected shape"):
                launcher(simulated, **wrong, **rest[launcher])


def test_top_k_of_a_launch_is_checked(simulated):
    arrays = [simulated.empty(s, np.float32) for s in ((1, 2, 5, 4), (1, 2, 5))]
    with pytest.raises(ValueError, match="top_k: expected 1 to 1024 and at least the 5 to be kept, got 4"):
        class_nms(simulated, None, None, None, np.zeros((8, 4)), *arrays, None, 4, 0.5, (0.1, 0.2))


def test_the_clock_goes_forward(device):
    times = device.array(np.zeros(4, np.uint64))
    for i in range(4):
        clock_ns(device, times, i)
    host = device.to_host(times).astype(np.int64)
    assert (np.diff(host) >= 0).all()
    assert host[0] > 0
    with pytest.raises(ValueError, match="i: expected 0 to 3, got 4"):
        clock_ns(device, times, 4)
