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
