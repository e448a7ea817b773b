"""Post-processing on the CPU: both ways against hand-worked numbers, and the fast one against the definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_ssd import reference
from edge_ssd.backends import cpu_steps
from edge_ssd.boxes import decode_boxes, encode_boxes
from edge_ssd.priors import make_priors
from edge_ssd.spec import PriorSpec
from tests.specs import example_spec, grid_spec


def _ready(scores, **changes):
    """conf of ready-made probabilities (P, classes) with a background column of zeros in front, and its spec."""
    scores = np.asarray(scores, np.float32)
    conf = np.concatenate([np.zeros((len(scores), 1), np.float32), scores], axis=1)
    names = tuple(f"class {i}" for i in range(scores.shape[1]))
    spec = grid_spec(1, len(scores), score_activation="none", class_names=names, **changes)
    return conf, spec, make_priors(spec)


def _run(steps, conf, spec, priors, loc=None, **options):
    loc = np.zeros((len(conf), 4), np.float32) if loc is None else loc
    rows, counts = steps.postprocess(loc, conf, priors, spec, **options)
    assert rows.shape == (spec.postprocess.max_detections, 6)
    assert rows.dtype == np.float32
    assert counts.dtype == np.int32
    assert not rows[counts[0] :].any()
    return rows[: counts[0]], counts


def _loc_for(priors, boxes):
    """The offsets with which `priors` decode to `boxes` (normalised corners)."""
    return encode_boxes(np.asarray(boxes, np.float32), priors, (0.1, 0.2))


def test_one_box_by_hand(steps):
    # Two priors of 20 pixels on a 100 pixel input, centres 25 and 75. Softmax of (0, 2, 0) and (3, 0, 0).
    conf = np.array([[0, 2, 0], [3, 0, 0]], np.float32)
    spec = grid_spec(1, 2, score_threshold=0.5)
    rows, counts = _run(steps, conf, spec, make_priors(spec))
    e2 = np.exp(2.0)
    assert counts.tolist() == [1, 0]
    assert np.allclose(rows, [[0.15, 0.4, 0.35, 0.6, e2 / (e2 + 2), 0]], atol=1e-6)


def test_sigmoid_by_hand(steps):
    # 1 / (1 + e^-1) for one class and 1 / (1 + e^1) for the other, each by itself; the background has no say.
    conf = np.array([[9, 1, -1]], np.float32)
    spec = grid_spec(1, 1, score_activation="sigmoid", score_threshold=0.1)
    rows, _ = _run(steps, conf, spec, make_priors(spec))
    e = np.exp(1.0)
    assert np.allclose(rows[:, 4:], [[e / (1 + e), 0], [1 / (1 + e), 1]], atol=1e-6)


def test_a_score_on_the_threshold_is_dropped_and_the_next_float_is_kept(steps):
    above = np.nextafter(np.float32(0.3), np.float32(1))
    rows, _ = _run(steps, *_ready([[0.3], [above]], score_threshold=0.3))
    assert rows[:, 4].tolist() == [above]


def test_a_box_on_the_iou_threshold_is_kept_and_one_above_is_dropped(steps):
    # They share 1 of 3 parts, every number exact in float32: inter 0.0625, union 0.1875.
    boxes = np.array([[0, 0, 0.5, 0.25], [0.25, 0, 0.75, 0.25]], np.float32)
    scores = np.array([0.9, 0.8], np.float32)
    third = np.float32(1 / 3)  # rounds up: 0.0625 is not above third * 0.1875
    assert steps.nms(boxes, scores, third).tolist() == [0, 1]
    assert steps.nms(boxes, scores, np.nextafter(third, np.float32(0))).tolist() == [0]


def test_nms_works_within_a_class_only(steps):
    conf, spec, priors = _ready([[0.9, 0.2], [0.8, 0.7]])
    loc = _loc_for(priors, [[0.1, 0.1, 0.5, 0.5]] * 2)
    rows, _ = _run(steps, conf, spec, priors, loc)
    assert np.allclose(rows[:, 4:], [[0.9, 0], [0.7, 1]])


def test_a_suppressed_box_suppresses_nothing(steps):
    # b overlaps a and is dropped; c overlaps b but not a, and stays.
    conf, spec, priors = _ready([[0.9], [0.8], [0.7]], iou_threshold=0.4)
    loc = _loc_for(priors, [[0.0, 0, 0.4, 0.4], [0.1, 0, 0.5, 0.4], [0.2, 0, 0.6, 0.4]])
    assert np.allclose(_run(steps, conf, spec, priors, loc)[0][:, 4], [0.9, 0.7])


def test_one_prior_may_yield_several_classes(steps):
    rows, _ = _run(steps, *_ready([[0.6, 0.9, 0.0]]))
    assert np.allclose(rows[:, 4:], [[0.9, 1], [0.6, 0]])


def test_equal_scores_go_by_class_then_by_prior(steps):
    conf, spec, priors = _ready([[0.5, 0.5], [0.5, 0.5], [0.25, 0.75]], max_detections=4)
    rows, _ = _run(steps, conf, spec, priors)
    # The centres of the three priors are 1/6, 3/6, 5/6.
    assert [(round(float(r[0] + r[2]) * 3), int(r[5])) for r in rows] == [(5, 1), (1, 0), (3, 0), (1, 1)]


def test_top_k_takes_the_lower_prior_of_equal_scores(steps):
    conf, spec, priors = _ready([[0.5], [0.6], [0.5], [0.5], [0.6]], top_k=3)
    rows, _ = _run(steps, conf, spec, priors)
    assert np.allclose((rows[:, 0] + rows[:, 2]) / 2, [0.3, 0.9, 0.1], atol=1e-6)


def test_top_k_is_per_class_and_comes_before_nms(steps):
    # With top_k 2 the third box is never looked at, although NMS drops the second.
    conf, spec, priors = _ready([[0.9, 0.1], [0.8, 0.1], [0.7, 0.1]], top_k=2)
    loc = _loc_for(priors, [[0, 0, 0.2, 0.2], [0, 0, 0.2, 0.2], [0.5, 0.5, 0.9, 0.9]])
    rows, _ = _run(steps, conf, spec, priors, loc)
    assert np.allclose(rows[:, 4:], [[0.9, 0], [0.1, 1]])


def test_max_detections_counts_over_all_classes(steps):
    rows, counts = _run(steps, *_ready([[0.9, 0.3], [0.2, 0.8]], max_detections=3))
    assert counts[0] == 3
    assert np.allclose(rows[:, 4:], [[0.9, 0], [0.8, 1], [0.3, 1]])


@pytest.mark.parametrize("background", [0, 1, 2, None])
def test_background_is_never_a_label_wherever_its_column_is(steps, background):
    names = ("a", "b") if background is not None else ("a", "b", "c")
    spec = grid_spec(
        1, 3, score_activation="none", class_names=names, background_index=background, score_threshold=0.5
    )
    conf = np.eye(3, dtype=np.float32)  # prior i is certain of column i
    rows, _ = _run(steps, conf, spec, make_priors(spec))
    foreground = [column for column in range(3) if column != background]
    found = sorted((round(float(r[0] + r[2]) * 3) // 2, int(r[5])) for r in rows)
    assert found == [(column, label) for label, column in enumerate(foreground)]


def test_tensorflow_order_swaps_x_and_y(steps):
    spec = grid_spec(1, 1, loc_order="cycxhw", score_activation="none", class_names=("a",))
    conf = np.array([[0, 1]], np.float32)
    loc = np.array([[1, -2, np.log(2) / 0.2, 0]], np.float32)  # ty tx th tw
    rows, _ = _run(steps, conf, spec, make_priors(spec), loc)
    # cx 0.5 - 0.04, cy 0.5 + 0.02, w 0.2, h 0.4
    assert np.allclose(rows[0, :4], [0.36, 0.32, 0.56, 0.72], atol=1e-6)


def test_clipping_before_nms_changes_what_overlaps(steps):
    # Outside the image the boxes differ; inside they are the same.
    boxes = [[-0.6, 0, 0.2, 0.4], [0.0, 0, 0.2, 0.4]]
    conf, spec, priors = _ready([[0.9], [0.8]])
    assert len(_run(steps, conf, spec, priors, _loc_for(priors, boxes))[0]) == 2
    conf, spec, priors = _ready([[0.9], [0.8]], clip_boxes="before_nms")
    rows, _ = _run(steps, conf, spec, priors, _loc_for(priors, boxes))
    assert np.allclose(rows[:, :4], [[0, 0, 0.2, 0.4]], atol=1e-6)


def test_rows_are_not_clipped_otherwise(steps):
    conf, spec, priors = _ready([[0.9]])
    box = [-0.5, -0.25, 1.5, 0.75]
    assert np.allclose(_run(steps, conf, spec, priors, _loc_for(priors, [box]))[0][0, :4], box, atol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["loc", "conf"])
def test_a_prior_that_is_not_finite_yields_nothing_and_is_counted(steps, value, where):
    conf, spec, priors = _ready([[0.9], [0.8], [0.7]])
    loc = np.zeros((3, 4), np.float32)
    (loc if where == "loc" else conf)[1, 1] = value
    rows, counts = _run(steps, conf, spec, priors, loc)
    assert counts.tolist() == [2, 1]
    assert np.allclose(rows[:, 4], [0.9, 0.7])


def test_finite_numbers_whose_sum_overflows_are_not_counted(steps):
    conf, spec, priors = _ready([[0.9], [0.8]])
    loc = np.full((2, 4), 3e38, np.float32)
    assert _run(steps, conf, spec, priors, loc)[1].tolist() == [2, 0]


def test_only_the_labels_asked_for_are_returned(steps):
    conf, spec, priors = _ready([[0.9, 0.8, 0.7]], max_detections=2)
    rows, _ = _run(steps, conf, spec, priors, labels=np.array([2]))
    assert np.allclose(rows[:, 4:], [[0.7, 2]])


def test_float16_is_widened_first(steps, rng):
    spec = grid_spec(4, 8)
    priors = make_priors(spec)
    loc, conf = rng.normal(size=(32, 4)).astype(np.float16), (3 * rng.normal(size=(32, 3))).astype(np.float16)
    half = steps.postprocess(loc, conf, priors, spec)
    full = steps.postprocess(loc.astype(np.float32), conf.astype(np.float32), priors, spec)
    assert np.array_equal(half[0], full[0])


def test_inputs_are_not_modified(steps, rng):
    spec = grid_spec(4, 8)
    priors = make_priors(spec)
    arrays = [
        rng.normal(size=(32, 4)).astype(np.float32),
        rng.normal(size=(32, 3)).astype(np.float32),
        priors,
    ]
    before = [array.copy() for array in arrays]
    steps.postprocess(*arrays, spec)
    assert all(np.array_equal(a, b) for a, b in zip(arrays, before))


@pytest.mark.parametrize(
    ("loc", "conf", "message"),
    [
        (
            np.zeros((3, 4), np.float32),
            np.zeros((2, 3), np.float32),
            r"loc: expected shape \(2, 4\), got \(3, 4\)",
        ),
        (np.zeros((2, 4), np.float32), np.zeros((2, 4), np.float32), r"conf: expected shape \(2, 3\)"),
        (np.zeros((2, 4)), np.zeros((2, 3), np.float32), "loc: expected float32 or float16, got float64"),
    ],
)
def test_heads_that_do_not_fit_are_refused(steps, loc, conf, message):
    spec = grid_spec(1, 2)
    with pytest.raises(ValueError, match=message):
        steps.postprocess(loc, conf, make_priors(spec), spec)


def _assert_same(conf, loc, spec, priors):
    rows, counts = cpu_steps.postprocess(loc, conf, priors, spec)
    expected_rows, expected_counts = reference.postprocess(loc, conf, priors, spec)
    assert counts.tolist() == expected_counts.tolist()
    # To the bit: the same float32 operations in the same order.
    assert np.array_equal(rows, expected_rows)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.sampled_from([(1, 1), (1, 31), (4, 8), (3, 11), (8, 25)]),
    classes=st.sampled_from([1, 2, 7]),
    background=st.sampled_from(["first", "last", "none"]),
    activation=st.sampled_from(["softmax", "sigmoid", "none"]),
    threshold=st.sampled_from([0.0, 0.01, 0.3, 0.5, 0.9]),
    iou=st.sampled_from([0.0, 0.3, 0.55, 1.0]),
    top_k=st.sampled_from([1, 5, 400]),
    max_detections=st.sampled_from([1, 10, 300]),
    spread=st.sampled_from([0.0, 0.5, 4.0]),
    bad=st.booleans(),
)
def test_the_fast_way_equals_the_definition(
    seed, shape, classes, background, activation, threshold, iou, top_k, max_detections, spread, bad
):
    rng = np.random.default_rng(seed)
    spec = grid_spec(
        *shape,
        class_names=tuple("abcdefg"[:classes]),
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
    _assert_same(conf, loc, spec, priors)


@pytest.mark.parametrize("priors_at", ["spread", "one place"])
@pytest.mark.parametrize("scores", ["all equal", "all differ"])
def test_every_prior_fires(rng, priors_at, scores):
    # More candidates than one chunk or window of NMS, and more per class than top_k.
    spec = grid_spec(
        30,
        40,
        class_names=tuple("abc"),
        score_activation="none",
        score_threshold=0.1,
        top_k=500,
        max_detections=150,
    )
    priors = make_priors(spec)
    conf = (
        np.full((1200, 4), 0.5, np.float32)
        if scores == "all equal"
        else rng.permutation(4800).reshape(1200, 4)
    )
    conf = conf.astype(np.float32) if scores == "all equal" else (conf / 4800).astype(np.float32)
    loc = np.zeros((1200, 4), np.float32)
    if priors_at == "one place":
        loc = _loc_for(priors, [[0.4, 0.4, 0.6, 0.6]] * 1200)
    _assert_same(conf, loc, spec, priors)


def test_logits_of_an_untrained_ssd300_all_tie(steps):
    # All zero: 1 / 21 for every class of every prior, which is above the threshold of 0.01.
    spec = example_spec(class_names=tuple(f"c{i}" for i in range(20)))
    priors = make_priors(spec)
    zeros = np.zeros((len(priors), 21), np.float32)
    rows, counts = steps.postprocess(np.zeros((len(priors), 4), np.float32), zeros, priors, spec)
    assert counts.tolist() == [200, 0]
    # Of each class its first 400 priors are looked at, class after class.
    assert (np.diff(rows[:, 5]) >= 0).all()
    assert np.allclose(rows[:, 4], 1 / 21)
    first_class = rows[rows[:, 5] == 0, :4]
    kept = steps.nms(decode_boxes(np.zeros((400, 4), np.float32), priors[:400], (0.1, 0.2)),
                         np.zeros(400, np.float32), 0.45)  # fmt: skip
    assert len(first_class) == min(200, len(kept))


@pytest.mark.parametrize("logit", [88.0, 1e4, -1e4])
def test_extreme_logits_overflow_nothing(steps, logit):
    spec = grid_spec(1, 2, score_threshold=0.5)
    conf = np.array([[0, logit, 0], [logit, 0, 0]], np.float32)
    with np.errstate(over="raise", invalid="raise"):
        rows, _ = _run(steps, conf, spec, make_priors(spec))
    assert [int(r[5]) for r in rows] == ([0] if logit > 0 else [])


class TestNms:
    def test_no_boxes(self, steps):
        kept = steps.nms(np.empty((0, 4), np.float32), np.empty(0, np.float32), 0.5)
        assert kept.shape == (0,)
        assert kept.dtype == np.int64

    def test_duplicates_with_equal_scores_keep_the_first(self, steps):
        boxes = np.tile(np.array([[0, 0, 1, 1]], np.float32), (3, 1))
        assert steps.nms(boxes, np.full(3, 0.5, np.float32), 0.5).tolist() == [0]

    def test_best_score_first(self, steps):
        boxes = np.array([[0, 0, 1, 1], [2, 2, 3, 3], [4, 4, 5, 5]], np.float32)
        assert steps.nms(boxes, np.array([0.1, 0.9, 0.5], np.float32), 0.5).tolist() == [1, 2, 0]

    def test_two_empty_boxes_do_not_overlap(self, steps):
        boxes = np.zeros((2, 4), np.float32)
        assert steps.nms(boxes, np.ones(2, np.float32), 0.0).tolist() == [0, 1]

    @pytest.mark.parametrize("count", [31, 32, 33, 127, 128, 129, 1500])
    def test_a_chain_of_neighbours_keeps_every_second(self, steps, count):
        # Each overlaps the next by 1/3, so greedy NMS alternates however it is cut into chunks.
        x = np.arange(count, dtype=np.float32)
        boxes = np.stack([x, 0 * x, x + 2, 0 * x + 1], axis=1)
        scores = np.linspace(1, 0.5, count).astype(np.float32)
        assert steps.nms(boxes, scores, 0.3).tolist() == list(range(0, count, 2))


def test_priors_may_come_from_a_file(steps, tmp_path, rng):
    priors = rng.uniform(0.2, 0.8, (5, 4)).astype(np.float32)
    np.save(tmp_path / "m.npy", priors)
    spec = example_spec(priors=PriorSpec(file="m.npy"), folder=str(tmp_path), score_activation="none")
    conf = np.array([[0, 0.9, 0]] * 5, np.float32)
    rows, counts = steps.postprocess(np.zeros((5, 4), np.float32), conf, make_priors(spec), spec)
    assert counts[0] >= 1
    assert np.allclose(
        rows[0, :4], steps.postprocess(np.zeros((5, 4), np.float32), conf, priors, spec)[0][0, :4]
    )
