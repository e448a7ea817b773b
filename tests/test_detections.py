"""Detections: from rows to source pixels, and the behaviour of the container."""

from __future__ import annotations

import numpy as np
import pytest

from edge_ssd import Detections
from edge_ssd.resize import plan_resize


def _rows(*boxes):
    rows = np.zeros((5, 6), np.float32)
    for i, box in enumerate(boxes):
        rows[i] = [*box, 0.9 - i / 10, i]
    return rows


def test_boxes_go_to_source_pixels_and_are_clipped_to_the_image():
    plan = plan_resize((50, 100), (20, 20), "stretch")
    detections = Detections.from_rows(_rows((0.1, 0.2, 0.5, 0.6), (-0.5, 0.5, 1.5, 2.0)), 2, plan, 7)
    assert np.allclose(detections.boxes, [[10, 10, 50, 30], [0, 25, 100, 50]])
    assert detections.labels.tolist() == [0, 1]
    assert np.allclose(detections.scores, [0.9, 0.8])
    assert detections.image_size == (50, 100)
    assert detections.timestamp_ns == 7


def test_the_letterbox_is_undone():
    # 50 x 100 in 20 x 20: the image is 10 x 20 with five rows of padding above.
    plan = plan_resize((50, 100), (20, 20), "letterbox")
    detections = Detections.from_rows(_rows((0.25, 0.25, 0.75, 0.5)), 1, plan)
    assert np.allclose(detections.boxes, [[25, 0, 75, 25]])


def test_boxes_left_empty_are_dropped():
    plan = plan_resize((50, 100), (20, 20), "letterbox")
    in_the_padding, outside, inverted, good = (
        (0, 0, 1, 0.2),
        (1.1, 0.4, 1.5, 0.6),
        (0.5, 0.5, 0.5, 0.6),
        (0, 0, 1, 1),
    )
    detections = Detections.from_rows(_rows(in_the_padding, outside, inverted, good), 4, plan)
    assert detections.labels.tolist() == [3]


def test_rows_beyond_the_count_are_ignored():
    assert len(Detections.from_rows(_rows((0, 0, 1, 1)), 0, plan_resize((5, 5), (5, 5), "stretch"))) == 0


def test_iteration_masks_slices_and_indices():
    detections = Detections(np.arange(12).reshape(3, 4), [0.9, 0.5, 0.1], [2, 0, 1], (10, 10))
    assert [(score, label) for _, score, label in detections] == [
        (np.float32(0.9), 2),
        (0.5, 0),
        (np.float32(0.1), 1),
    ]
    assert detections[detections.scores > 0.3].labels.tolist() == [2, 0]
    assert detections[1:].labels.tolist() == [0, 1]
    assert detections[0].boxes.tolist() == [[0, 1, 2, 3]]
    assert len(Detections.empty((4, 5))) == 0


@pytest.mark.parametrize(
    ("boxes", "scores", "labels", "message"),
    [
        (np.zeros((2, 3)), [1, 2], [1, 2], r"boxes: expected shape \(N, 4\), got \(2, 3\)"),
        (np.zeros((2, 4)), [1], [1, 2], r"scores: expected shape \(2,\) to match boxes, got \(1,\)"),
        (np.zeros((2, 4)), [1, 2], [[1, 2]], "labels: expected shape"),
    ],
)
def test_arrays_that_do_not_match_are_refused(boxes, scores, labels, message):
    with pytest.raises(ValueError, match=message):
        Detections(boxes, scores, labels, (1, 1))


@pytest.mark.parametrize("nothing", [[], np.zeros(3, bool), slice(0, 0)])
def test_choosing_nothing_gives_no_detections(nothing):
    detections = Detections(np.zeros((3, 4)), [0.9, 0.5, 0.1], [0, 0, 0], (10, 10))
    assert len(detections[nothing]) == 0


def some(**changes):
    fields = {
        "boxes": [[1, 2, 3, 4], [0, 0, 5, 5]],
        "scores": [0.9, 0.5],
        "labels": [2, 0],
        "image_size": (10, 20),
    }
    return Detections(**{**fields, "timestamp_ns": 7, **changes})


def test_equal_detections_are_equal_and_hash_alike():
    assert some() == some()
    assert some() is not some()
    assert hash(some()) == hash(some())
    assert Detections.empty((4, 5)) == Detections.empty((4, 5))
    assert some(image_size=[10, 20]) == some()
    assert hash(some(image_size=[10, 20])) == hash(some())


@pytest.mark.parametrize(
    "changes",
    [
        {"boxes": [[1, 2, 3, 4], [0, 0, 5, 5.001]]},
        {"scores": [0.9, 0.4]},
        {"labels": [2, 1]},
        {"image_size": (20, 10)},
        {"timestamp_ns": 8},
        {"boxes": [[1, 2, 3, 4]], "scores": [0.9], "labels": [2]},  # arrays of another shape
        {"boxes": np.empty((0, 4)), "scores": [], "labels": []},
        {"scores": [np.nan, 0.5]},
    ],
)
def test_detections_that_differ_in_anything_are_unequal(changes):
    assert some(**changes) != some()
    assert some() != some(**changes)


def test_detections_are_unequal_to_anything_else():
    assert some() != 1
    assert some() != None  # noqa: E711  (the comparison is what is tested)
    assert some() != (some().boxes, some().scores)


def test_detections_are_members_of_sets_and_keys_of_dicts():
    assert {some(), some(), some(labels=[2, 1]), some(timestamp_ns=8)} == {
        some(),
        some(labels=[2, 1]),
        some(timestamp_ns=8),
    }
    assert {some(): "a"}[some()] == "a"


def test_what_is_written_into_the_arrays_does_not_change_the_hash():
    detections = some()
    members = {detections}
    detections.boxes[0, 0] = 0
    assert detections in members
    assert detections != some()


def test_key_points_and_tracks_go_with_their_boxes():
    points = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    found = Detections(np.zeros((3, 4)), [0.9, 0.5, 0.1], [0, 0, 0], (9, 9), 0, points, [7, 8, 9])
    assert np.array_equal(found[[2, 0]].keypoints, points[[2, 0]])
    assert found[1:].track_ids.tolist() == [8, 9]
    assert found != Detections(np.zeros((3, 4)), [0.9, 0.5, 0.1], [0, 0, 0], (9, 9), 0, points + 1, [7, 8, 9])


def test_without_key_points_and_tracks_there_are_none_of_each_box():
    found = Detections(np.zeros((2, 4)), [0.9, 0.5], [0, 0], (9, 9))
    assert found.keypoints.shape == (2, 0, 2)
    assert found.track_ids.tolist() == [-1, -1]
    assert found[:0].keypoints.shape == (0, 0, 2)


def test_key_points_of_rows_lie_in_source_pixels():
    rows = np.array([[0, 0, 1, 1, 0.9, 0, 0.5, 0.25, 1.5, -0.5]], np.float32)
    found = Detections.from_rows(rows, 1, plan_resize((100, 200), (50, 50), "stretch"))
    assert found.keypoints.tolist() == [[[100, 25], [300, -50]]]
