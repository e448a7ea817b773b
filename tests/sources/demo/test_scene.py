"""A scene of the rendered camera: what is hidden, and by how much."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("cv2")

from edge_ssd.sources.demo.objects import Fill, Motion, SceneObject
from edge_ssd.sources.demo.scene import Scene
from edge_ssd.sources.demo.shapes import CLASS_NAMES
from edge_ssd.sources.demo.texture import ramp_table

BACKGROUND = np.full((100, 120, 3), 90, np.uint8)
STILL = Motion(np.zeros(2), np.zeros(3), np.zeros(3), breath=0.0, spin=0.0)


def _square(center, side, color):
    fill = Fill(ramp_table([color, color]), 1.0, 0.0, rim=(0.0, 0.0, 0.0), rim_width=0.0)
    return SceneObject(CLASS_NAMES.index("square"), side, np.ones(2), 0.0, np.array(center), STILL, fill)


def test_a_single_object_is_painted_where_its_box_says():
    image, boxes, labels, hidden = Scene(BACKGROUND, [_square((50, 40), 20, (10, 200, 30))]).draw(0)
    np.testing.assert_allclose(boxes, [[40, 30, 60, 50]], atol=1e-5)
    assert (image[30:50, 40:60] == (10, 200, 30)).all()
    outside = np.ones(image.shape[:2], bool)
    outside[29:51, 39:61] = False  # one pixel around may hold a trace
    assert (image[outside] == 90).all()
    assert labels.tolist() == [1]
    assert hidden.tolist() == [0]


def test_the_object_in_front_hides_its_share_of_the_one_behind():
    behind, front = _square((50, 40), 40, (250, 0, 0)), _square((60, 40), 40, (0, 0, 250))
    image, boxes, _, hidden = Scene(BACKGROUND, [behind, front]).draw(0)
    assert image[40, 45].tolist() == [0, 0, 250]
    np.testing.assert_allclose(boxes[0], [30, 20, 70, 60], atol=1e-5)  # also where it is hidden
    np.testing.assert_allclose(hidden, [0.75, 0], atol=0.03)  # a pixel on the edge belongs to one of them


def test_the_frames_edge_hides_and_clips():
    _, boxes, _, hidden = Scene(BACKGROUND, [_square((0, 50), 40, (250, 0, 0))]).draw(0)
    np.testing.assert_allclose(boxes, [[0, 30, 20, 70]], atol=1e-5)
    np.testing.assert_allclose(hidden, [0.5], atol=0.03)


def test_objects_wholly_hidden_or_outside_are_left_out():
    covered, cover = _square((50, 50), 20, (250, 0, 0)), _square((50, 50), 40, (0, 250, 0))
    outside = _square((200, 50), 20, (250, 0, 0))
    _, boxes, _, hidden = Scene(BACKGROUND, [covered, outside, cover]).draw(0)
    np.testing.assert_allclose(boxes, [[30, 30, 70, 70]], atol=1e-5)
    assert hidden.tolist() == [0]


def test_a_scene_without_objects_has_empty_truth():
    image, boxes, labels, hidden = Scene(BACKGROUND, []).draw(3)
    np.testing.assert_array_equal(image, BACKGROUND)
    assert boxes.shape == (0, 4)
    assert len(labels) == len(hidden) == 0


def test_size_limits_hold_however_an_object_turns():
    spinning = Motion(np.zeros(2), np.ones(3), np.zeros(3), breath=0.5, spin=0.1)
    # 0.05 of the frame's 100 rows is the least that a side may have.
    small = SceneObject(
        1, 5.0, np.ones(2), 0.78, np.array([60.0, 50.0]), spinning, _square((0, 0), 1, (9, 9, 9)).fill
    )
    scene = Scene(BACKGROUND, [small])
    sides = [np.diff(scene.draw(time)[1].reshape(2, 2), axis=0).min() for time in range(40)]
    assert min(sides) >= 5 - 1e-4
    assert max(sides) > 6
