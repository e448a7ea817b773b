"""The post-processing kernels against the reference: the same detections in the same order, whatever the input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_ssd import reference
from edge_ssd.backends.settings import postprocess_settings
from edge_ssd.boxes import encode_boxes
from edge_ssd.kernels import Postprocess
from edge_ssd.kernels.score_candidates import num_tiles, score_candidates
from edge_ssd.priors import make_priors
from edge_ssd.spec import PriorSpec
from tests.kernels.operations import Operations
from tests.specs import example_spec, grid_spec

# Scores that differ by less than this may change places: the two devices' exp differ in the last bits.
_SAME_SCORE = 2e-6


def _assert_same(result, expected):
    """Rows and counts as the reference's, but for the order of scores that differ by less than 2e-6."""
    (rows, counts), (expected_rows, expected_counts) = result, expected
    assert counts.tolist() == expected_counts.tolist()
    assert rows.shape == expected_rows.shape
    assert rows.dtype == np.float32
    count = counts[0]
    assert not rows[count:].any()
    rows, expected_rows = rows[:count], expected_rows[:count]
    np.testing.assert_allclose(rows[:, 4], expected_rows[:, 4], rtol=0, atol=_SAME_SCORE)
    order, expected_order = (_order_of_ties(r, expected_rows[:, 4]) for r in (rows, expected_rows))
    # A size is exp(loc) of the prior's: float32 exp is within 2 units in the last place on both sides.
    np.testing.assert_allclose(rows[order], expected_rows[expected_order], rtol=3e-6, atol=3e-6)


def _order_of_ties(rows, scores):
    """Indices that put rows of nearly the same score into an order of their own: by label, then by box."""
    groups = np.concatenate([[0], np.cumsum(-np.diff(scores) > _SAME_SCORE)]) if len(scores) else np.empty(0)
    return np.lexsort((rows[:, 1].round(4), rows[:, 0].round(4), rows[:, 5], groups))


def _check(operations, loc, conf, spec, priors=None, **options):
    priors = make_priors(spec) if priors is None else priors
    expected = reference.postprocess(loc, conf, priors, spec, **options)
    _assert_same(operations.postprocess(loc, conf, priors, spec, **options), expected)


def _names(count):
    return tuple(f"class {i}" for i in range(count))


def _spec_of_priors(tmp_path, count, rng, **changes):
    """A spec with `count` random default boxes."""
    centres, sizes = rng.uniform(0, 1, (count, 2)), rng.uniform(0.05, 0.5, (count, 2))
    np.save(tmp_path / "p.npy", np.hstack([centres, sizes]).astype(np.float32))
    return example_spec(priors=PriorSpec(file="p.npy"), folder=str(tmp_path), **changes)


@pytest.mark.parametrize(
    ("num_priors", "classes", "spread", "shows"),
    [
        (8732, 20, 4.0, "SSD300 on VOC"),
        (8732, 20, 0.0, "an untrained network: everything fires, and all scores tie"),
        (8732, 90, 1.0, "SSD300 on COCO, nearly everything fires"),
        (24564, 20, 3.0, "SSD512"),
        (3234, 90, 3.0, "SSDLite320"),
        (8733, 1, 2.0, "one class, and a tile of one prior"),
    ],
)
def test_networks_in_their_real_sizes(operations, rng, tmp_path, num_priors, classes, spread, shows):
    spec = _spec_of_priors(tmp_path, num_priors, rng, class_names=_names(classes))
    loc = rng.normal(size=(num_priors, 4)).astype(np.float32)
    conf = (spread * rng.normal(size=(num_priors, classes + 1))).astype(np.float32)
    _check(operations, loc, conf, spec)


@pytest.mark.parametrize("num_priors", [1, 31, 32, 33, 64, 1000])
@pytest.mark.parametrize("head", [np.float32, np.float16])
def test_sizes_around_a_warp_in_both_head_types(operations, rng, tmp_path, num_priors, head):
    spec = _spec_of_priors(tmp_path, num_priors, rng, class_names=_names(4))
    loc = rng.normal(size=(num_priors, 4)).astype(head)
    conf = (2 * rng.normal(size=(num_priors, 5))).astype(head)
    _check(operations, loc, conf, spec)


def test_no_priors_give_no_rows(device):
    settings_ = postprocess_settings(grid_spec(1, 1))
    step = Postprocess(device, np.empty((0, 4), np.float32), settings_)
    rows, counts = step(
        device.array(np.empty((1, 0, 4), np.float32)), device.array(np.empty((1, 0, 3), np.float32))
    )
    assert not device.to_host(rows).any()
    assert device.to_host(counts).tolist() == [[0, 0]]


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.sampled_from([(1, 1), (1, 31), (4, 8), (3, 11), (8, 25), (30, 40)]),
    classes=st.sampled_from([1, 2, 7]),
    background=st.sampled_from(["first", "last", "none"]),
    activation=st.sampled_from(["softmax", "sigmoid", "none"]),
    threshold=st.sampled_from([0.0, 0.01, 0.3, 0.5, 0.9]),
    iou=st.sampled_from([0.0, 0.3, 0.55, 1.0]),
    top_k=st.sampled_from([1, 5, 400, 1024]),
    max_detections=st.sampled_from([1, 10, 300, 1024]),
    spread=st.sampled_from([0.0, 0.5, 4.0]),
    bad=st.booleans(),
    filtered=st.booleans(),
    block=st.sampled_from([32, 64, 256, 1024]),
)
def test_any_spec_equals_the_reference(
    device, seed, shape, classes, background, activation, threshold, iou, top_k, max_detections, spread, bad,
    filtered, block,
):  # fmt: skip
    rng = np.random.default_rng(seed)
    spec = grid_spec(
        *shape,
        class_names=_names(classes),
        background_index={"first": 0, "last": classes, "none": None}[background],
        score_activation=activation,
        score_threshold=threshold,
        iou_threshold=iou,
        top_k=top_k,
        max_detections=max_detections,
        loc_order="cycxhw" if seed % 2 else "cxcywh",
        clip_boxes="before_nms" if seed % 3 else "after_nms",
    )
    priors = make_priors(spec)
    loc = (2 * rng.normal(size=(len(priors), 4))).astype(np.float32)
    conf = (spread * rng.normal(size=(len(priors), spec.num_columns))).astype(np.float32)
    if activation == "none":
        # Multiples of 1/16: exact ties in scores, and scores exactly on the thresholds 0 and 0.5.
        conf = np.round(1 / (1 + np.exp(-conf)) * 16).astype(np.float32) / 16
    if bad:
        conf[rng.integers(len(priors)), -1] = np.nan
        loc[rng.integers(len(priors)), 2] = np.inf
    labels = np.array([classes - 1]) if filtered else None
    _check(Operations(device, block), loc, conf, spec, priors, labels=labels)


def _ready(scores, **changes):
    """conf of ready-made probabilities (P, classes) with a background column of zeros in front, and its spec."""
    scores = np.asarray(scores, np.float32)
    conf = np.concatenate([np.zeros((len(scores), 1), np.float32), scores], axis=1)
    spec = grid_spec(1, len(scores), score_activation="none", class_names=_names(scores.shape[1]), **changes)
    return conf, spec


def test_a_score_on_the_threshold_is_dropped_and_the_next_float_is_kept(operations):
    above = np.nextafter(np.float32(0.3), np.float32(1))
    conf, spec = _ready([[0.3], [above]], score_threshold=0.3)
    rows, counts = operations.postprocess(np.zeros((2, 4), np.float32), conf, make_priors(spec), spec)
    assert counts.tolist() == [1, 0]
    assert rows[0, 4] == above


def test_a_box_on_the_iou_threshold_is_kept_and_one_above_is_dropped(operations):
    # Two priors of 0.2 x 0.2, the second moved by half a box: inter 1, union 3 parts.
    third = np.float32(1 / 3)
    for threshold, count in ((third * np.float32(1.001), 2), (third * np.float32(0.999), 1)):
        conf, spec = _ready([[0.9], [0.8]], iou_threshold=float(threshold))
        priors = make_priors(spec)
        boxes = np.array([[0, 0, 0.5, 0.25], [0.25, 0, 0.75, 0.25]], np.float32)
        loc = encode_boxes(boxes, priors, spec.variance)
        _check(operations, loc, conf, spec)
        assert operations.postprocess(loc, conf, priors, spec)[1][0] == count


@pytest.mark.parametrize("scores", ["all equal", "all differ", "half equal"])
@pytest.mark.parametrize("place", ["spread", "one place"])
def test_every_prior_fires(operations, rng, scores, place):
    # More candidates than are ranked without a radix select, and ties across its pivot.
    conf = {
        "all equal": np.full((1200, 3), 0.5),
        "all differ": rng.permutation(3600).reshape(1200, 3) / 3600 * 0.8 + 0.15,
        "half equal": np.where(rng.random((1200, 3)) < 0.5, 0.5, rng.random((1200, 3)) * 0.8 + 0.15),
    }[scores]
    conf, _ = _ready(conf)
    spec = grid_spec(
        30, 40, class_names=_names(3), score_activation="none", score_threshold=0.1, max_detections=150
    )
    priors = make_priors(spec)
    loc = np.zeros((1200, 4), np.float32)
    if place == "one place":
        loc = encode_boxes(np.tile(np.float32([0.4, 0.4, 0.6, 0.6]), (1200, 1)), priors, spec.variance)
    _check(operations, loc, conf, spec)


def test_a_quiet_and_a_firing_image_in_one_batch_do_not_mix(operations, rng):
    spec = grid_spec(20, 20, class_names=_names(3))
    priors = make_priors(spec)
    loc = rng.normal(size=(3, 400, 4)).astype(np.float32)
    conf = (3 * rng.normal(size=(3, 400, 4))).astype(np.float32)
    conf[0, :, 0] = 50  # background alone
    conf[2, 7, 1] = np.inf
    rows, counts = operations.postprocess(loc, conf, priors, spec)
    assert counts[0].tolist() == [0, 0]
    assert counts[2, 1] == 1
    for i in range(3):
        _assert_same((rows[i], counts[i]), reference.postprocess(loc[i], conf[i], priors, spec))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["loc", "conf"])
@pytest.mark.parametrize("head", [np.float32, np.float16])
def test_a_prior_that_is_not_finite_yields_nothing_and_is_counted(operations, value, where, head):
    conf, spec = _ready([[0.9], [0.8], [0.7]])
    loc = np.zeros((3, 4), np.float32)
    (loc if where == "loc" else conf)[1, 1] = value
    _check(operations, loc.astype(head), conf.astype(head), spec)


def test_empty_and_huge_boxes(operations):
    # A size that underflows to nothing, one at the limit of 62.5 times the prior, a centre far outside.
    conf, spec = _ready([[0.9], [0.8], [0.7], [0.6]])
    loc = np.array(
        [[0, 0, -1e30, -1e30], [0, 0, 1e30, 1e30], [1e30, 0, 0, 0], [0, 0, -1e30, -1e30]], np.float32
    )
    _check(operations, loc, conf, spec)


@pytest.mark.parametrize("columns", [320, 601])
@pytest.mark.parametrize("chunk", [0, 7])
def test_more_columns_than_fit_into_shared_memory(device, rng, columns, chunk):
    num_priors = 70
    conf = (3 * rng.normal(size=(1, num_priors, columns))).astype(np.float32)
    loc = rng.normal(size=(1, num_priors, 4)).astype(np.float32)
    wanted = np.arange(1, columns, dtype=np.int32)
    tiles = num_tiles(num_priors)
    fired = device.empty((1, len(wanted), tiles), np.uint32)
    scores = device.array(np.zeros((1, len(wanted), num_priors), np.float32))
    score_candidates(
        device,
        device.array(loc),
        device.array(conf),
        device.array(wanted),
        fired,
        scores,
        device.empty((1, tiles), np.int32),
        "softmax",
        0.01,
        chunk=chunk,
    )
    expected, classes, priors = reference.score_candidates(conf[0], "softmax", 0, 0.01)
    bits = np.unpackbits(device.to_host(fired)[0].view(np.uint8), axis=1, bitorder="little")[:, :num_priors]
    assert sorted(zip(*np.nonzero(bits))) == sorted(zip(classes, priors))
    assert np.allclose(device.to_host(scores)[0][classes, priors], expected, atol=1e-6)


def test_results_are_the_same_to_the_bit_every_time(device, rng):
    spec = grid_spec(20, 40, class_names=_names(5))
    step = Postprocess(device, make_priors(spec), postprocess_settings(spec))
    loc = device.array(rng.normal(size=(1, 800, 4)).astype(np.float32))
    conf = device.array(rng.normal(size=(1, 800, 6)).astype(np.float32))
    first = [device.to_host(array) for array in step(loc, conf)]
    for _ in range(3):
        again = [device.to_host(array) for array in step(loc, conf)]
        assert all(np.array_equal(a, b) for a, b in zip(first, again))


def test_inputs_are_not_modified(device, rng):
    spec = grid_spec(4, 8)
    host = rng.normal(size=(1, 32, 4)).astype(np.float32), rng.normal(size=(1, 32, 3)).astype(np.float32)
    arrays = [device.array(array) for array in host]
    Postprocess(device, make_priors(spec), postprocess_settings(spec))(*arrays)
    assert all(np.array_equal(device.to_host(a), b) for a, b in zip(arrays, host))


def test_nothing_is_allocated_and_nobody_waits(simulated, rng):
    spec = grid_spec(4, 8)
    step = Postprocess(simulated, make_priors(spec), postprocess_settings(spec))
    arrays = [simulated.array(rng.normal(size=(1, 32, n)).astype(np.float32)) for n in (4, 3)]
    before = simulated.allocations
    step(*arrays)
    assert simulated.allocations == before
    assert simulated.synchronizations == 0
