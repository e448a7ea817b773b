"""Box codings, key points, thresholds of classes and layouts of heads; numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge_ssd.backends.heads import arrange_heads
from edge_ssd.backends.settings import postprocess_settings
from edge_ssd.spec import OutputSpec, PriorSpec
from tests.specs import example_spec

PRIORS = np.array([[0.5, 0.5, 1, 1], [0.25, 0.5, 0.5, 1]], np.float32)


def coded_spec(**changes):
    defaults = dict(class_names=("face",), background_index=None, score_activation="none", max_detections=3)
    threshold = changes.pop("score_threshold", 0.01)
    spec = example_spec(**{**defaults, **changes})
    return replace(spec, postprocess=replace(spec.postprocess, score_threshold=threshold))


def found(steps, loc, conf, spec, priors=PRIORS):
    rows, counts = steps.postprocess(np.array(loc, np.float32), np.array(conf, np.float32), priors, spec)
    assert not rows[counts[0] :].any()
    return rows[: counts[0]]


def test_linear_offsets_have_no_exponential(steps):
    spec = coded_spec(box_coding="linear", coding_scale=(100, 200), height=10, width=10)
    rows = found(steps, [[20, 10, 100, 20], [0, 0, 0, 0]], [[0.75], [0]], spec)
    # cx = 0.5 + 20 / 200, cy = 0.5 + 10 / 100; w = 100 / 200, h = 20 / 100
    assert rows == pytest.approx(np.array([[0.35, 0.5, 0.85, 0.7, 0.75, 0]]), abs=1e-6)


def test_linear_offsets_scale_with_their_prior(steps):
    spec = coded_spec(box_coding="linear", height=100, width=200)
    rows = found(steps, [[0, 0, 0, 0], [40, 0, 100, 50]], [[0], [0.5]], spec)
    # the prior is half as wide: cx = 0.25 + 40 / 200 * 0.5, w = 100 / 200 * 0.5
    assert rows == pytest.approx(np.array([[0.225, 0.25, 0.475, 0.75, 0.5, 0]]), abs=1e-6)


def test_a_size_below_zero_suppresses_nothing(steps):
    spec = coded_spec(box_coding="linear", height=100, width=100)
    rows = found(steps, [[0, 0, -10, 10], [0, 0, 10, 10]], [[0.9], [0.5]], spec)
    assert rows[:, 4].tolist() == pytest.approx([0.9, 0.5])
    assert rows[0, 0] == rows[0, 2]


def test_corners_are_taken_as_they_are(steps):
    spec = coded_spec(box_coding="corners", priors=PriorSpec())
    boxes = [[0.1, 0.2, 0.5, 0.75], [0.5, 0.6, 0.25, 0.7]]
    rows = found(steps, boxes, [[0.9], [0.5]], spec, np.zeros((2, 4), np.float32))
    assert rows[0, :4] == pytest.approx(boxes[0])
    assert rows[1, :4] == pytest.approx([0.5, 0.6, 0.5, 0.7])  # the wrong way round is empty


def test_corners_with_y_first(steps):
    spec = coded_spec(box_coding="corners", priors=PriorSpec(), loc_order="cycxhw")
    rows = found(steps, [[0.1, 0.2, 0.5, 0.75]], [[0.9]], spec, np.zeros((1, 4), np.float32))
    assert rows[0, :4] == pytest.approx([0.2, 0.1, 0.75, 0.5])


@pytest.mark.parametrize(
    ("changes", "points"),
    [
        (dict(box_coding="linear"), [0.25 + 0.2 * 0.5, 0.5 + 0.1, 0.25 - 0.4 * 0.5, 0.5 + 0.3]),
        (dict(variance=(0.1, 0.2)), [0.25 + 2 * 0.5, 0.5 + 1, 0.25 - 4 * 0.5, 0.5 + 3]),
        (dict(box_coding="corners", priors=PriorSpec()), [20, 10, -40, 30]),
        (
            dict(box_coding="linear", loc_order="cycxhw"),
            [0.25 + 0.1 * 0.5, 0.5 + 0.2, 0.25 + 0.3 * 0.5, 0.5 - 0.4],
        ),
    ],
)
def test_key_points_are_coded_as_centres(steps, changes, points):
    spec = coded_spec(keypoints=("eye", "mouth"), height=100, width=100, **changes)
    loc = [[0] * 8, [0, 0, 50, 50, 20, 10, -40, 30]]
    rows = found(steps, loc, [[0], [0.9]], spec)
    assert rows.shape == (1, 10)
    assert rows[0, 6:] == pytest.approx(points)


def test_a_key_point_that_is_no_number_drops_its_prior(steps):
    spec = coded_spec(keypoints=("eye",))
    loc = np.array([[0, 0, 0, 0, np.nan, 0], [0] * 6], np.float32)
    _, counts = steps.postprocess(loc, np.full((2, 1), 0.9, np.float32), PRIORS, spec)
    assert counts.tolist() == [1, 1]


def test_both_paths_agree_to_the_bit_on_key_points(rng):
    from edge_ssd import reference
    from edge_ssd.backends import cpu_steps

    for coding in ("center_size", "linear", "corners"):
        spec = coded_spec(
            box_coding=coding,
            priors=PriorSpec() if coding == "corners" else example_spec().priors,
            class_names=("a", "b", "c"),
            background_index=1,
            score_activation="softmax",
            score_threshold={"a": 0.6, "b": 0.2, "*": 0.4},
            keypoints=("p", "q", "r"),
            max_detections=50,
        )
        priors = rng.random((300, 4), np.float32)
        loc, conf = (
            rng.normal(size=(300, 10)).astype(np.float32),
            rng.normal(size=(300, 4)).astype(np.float32),
        )
        expected, counts = reference.postprocess(loc, conf, priors, spec)
        rows, fast_counts = cpu_steps.postprocess(loc, conf, priors, spec)
        assert counts[0] > 10
        assert np.array_equal(rows, expected)
        assert np.array_equal(fast_counts, counts)


@pytest.mark.parametrize("background", [None, 0, 1, 2])
def test_each_class_has_its_own_threshold(steps, background):
    spec = coded_spec(
        class_names=("a", "b"), background_index=background, score_threshold={"a": 0.75, "b": 0.25}
    )
    conf = np.array([[0.75, 0.5], [0.8, 0.25]], np.float32)
    if background is not None:
        conf = np.insert(conf, background, 0.99, axis=1)
    rows = found(steps, np.zeros((2, 4)), conf, spec)
    assert [(row[5], round(float(row[4]), 3)) for row in rows] == [(0, 0.8), (1, 0.5)]


def test_transposed_heads_are_turned_round():
    spec = example_spec(loc_layout="column_prior", conf_layout="column_prior")
    loc, conf = np.arange(24.0).reshape(1, 6, 4), np.arange(18.0).reshape(1, 6, 3)
    loc_out, conf_out = arrange_heads(loc.transpose(0, 2, 1), conf.transpose(0, 2, 1), spec, 6)
    assert np.array_equal(loc_out, loc)
    assert np.array_equal(conf_out, conf)


def test_maps_of_channels_become_priors_by_cell_and_box():
    spec = example_spec(loc_layout="column_prior")
    loc = np.arange(48.0).reshape(1, 2, 3, 2, 4)  # rows, columns, boxes of a cell
    maps = loc.transpose(0, 3, 4, 1, 2).reshape(1, 8, 2, 3)
    loc_out, _ = arrange_heads(maps, np.zeros((1, 12, 3)), spec, 12)
    assert np.array_equal(loc_out, loc.reshape(1, 12, 4))


def test_a_transposed_head_names_the_key():
    with pytest.raises(ValueError, match='put "loc_layout": "column_prior" into the spec'):
        arrange_heads(np.zeros((1, 4, 6)), np.zeros((1, 6, 3)), example_spec(), 6)
    with pytest.raises(ValueError, match="not transposed: remove conf_layout"):
        arrange_heads(np.zeros((1, 6, 4)), np.zeros((1, 6, 3)), example_spec(conf_layout="column_prior"), 6)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        (dict(box_coding="linear"), "box_coding"),
        (dict(keypoints=("eye",)), "keypoints"),
        (dict(loc_layout="column_prior"), "loc_layout"),
        (dict(conf_layout="column_prior"), "conf_layout"),
        (dict(layout="nhwc"), "input.layout"),
        (dict(batch_axis=False), "input.batch_axis"),
        (dict(outputs=OutputSpec(("a", "b"), "conf")), "outputs"),
        (dict(score_threshold={"*": 0.5}), "postprocess.score_threshold"),
    ],
)
def test_what_the_gpu_does_not_take_is_refused(changes, key):
    with pytest.raises(ValueError, match=f"example: {key}: a GPU takes .* run the .onnx on the CPU"):
        postprocess_settings(example_spec(**changes))
