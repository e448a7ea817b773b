"""Where the image lies in the input, and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_ssd.resize import plan_resize


def test_stretch_fills_the_input():
    plan = plan_resize((480, 640), (300, 300), "stretch")
    assert plan.inner_size == (300, 300)
    assert plan.padding == (0, 0)


@pytest.mark.parametrize(
    ("source", "inner", "padding"),
    [
        ((480, 640), (240, 320), (40, 0)),  # wide: bars above and below
        ((640, 480), (320, 240), (0, 40)),  # tall: bars left and right
        ((100, 320), (100, 320), (110, 0)),
        ((321, 640), (161, 320), (79, 0)),  # 160.5 rounds up; of the 159 left, 79 above
        ((1, 640), (1, 320), (159, 0)),  # half a row is one row
        ((320, 320), (320, 320), (0, 0)),
        ((1, 1), (320, 320), (0, 0)),
    ],
)
def test_letterbox_keeps_the_aspect_ratio_and_centres(source, inner, padding):
    plan = plan_resize(source, (320, 320), "letterbox")
    assert plan.inner_size == inner
    assert plan.padding == padding


def test_boxes_go_back_by_the_inner_size_really_used():
    # 321 rows become 161, not 160.5: the whole inner image must come back as the whole source.
    plan = plan_resize((321, 640), (320, 320), "letterbox")
    inner = np.array([[0, 79 / 320, 1, (79 + 161) / 320]], np.float32)
    assert np.allclose(plan.to_source(inner), [[0, 0, 640, 321]], atol=1e-3)


sides = st.integers(1, 4000)


@given(st.tuples(sides, sides), st.tuples(sides, sides), st.sampled_from(["stretch", "letterbox"]))
def test_to_source_undoes_to_input(source, target, mode):
    plan = plan_resize(source, target, mode)
    height, width = source
    boxes = np.array([[0, 0, width, height], [width / 4, height / 3, width / 2, height]], np.float32)
    # Float32 at 4000 pixels has steps of 2.4e-4; a tiny inner image magnifies the rounding of its padding.
    magnified = max(source[0] / plan.inner_size[0], source[1] / plan.inner_size[1])
    assert np.allclose(plan.to_source(plan.to_input(boxes)), boxes, atol=2e-3 + 5e-4 * magnified)


@pytest.mark.parametrize(("source", "mode"), [((0, 5), "stretch"), ((5, 0), "letterbox")])
def test_an_empty_image_is_refused(source, mode):
    with pytest.raises(ValueError, match="image_size"):
        plan_resize(source, (10, 10), mode)


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="stretch or letterbox"):
        plan_resize((5, 5), (10, 10), "crop")


def test_padding_at_the_bottom_and_the_right_alone():
    plan = plan_resize((50, 100), (200, 200), "letterbox_top_left")
    assert (plan.inner_size, plan.padding) == ((100, 200), (0, 0))


def test_points_go_back_as_the_corners_of_boxes_do(rng):
    boxes = rng.random((5, 4), np.float32)
    for mode in ("stretch", "letterbox", "letterbox_top_left"):
        plan = plan_resize((50, 120), (300, 200), mode)
        points = plan.points_to_source(boxes.reshape(5, 2, 2))
        assert np.array_equal(points.reshape(5, 4), plan.to_source(boxes))
