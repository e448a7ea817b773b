"""Box arithmetic against numbers worked out by hand, and round trips."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_ssd.boxes import (
    centre_to_corners,
    corners_to_centre,
    decode_boxes,
    encode_boxes,
    intersections,
    iou_matrix,
)

PRIOR = np.array([[0.5, 0.5, 0.2, 0.4]], np.float32)


def _decoded(*loc):
    return decode_boxes(np.array([loc], np.float32), PRIOR, (0.1, 0.2))[0]


def test_zero_offsets_give_the_prior():
    assert np.allclose(_decoded(0, 0, 0, 0), [0.4, 0.3, 0.6, 0.7])


def test_offsets_move_by_the_priors_size_and_scale_by_exp():
    # cx = 0.5 + 1 * 0.1 * 0.2 = 0.52; cy = 0.5 - 2 * 0.1 * 0.4 = 0.42; w = 0.2 * e^0.2; h = 0.4 * e^-0.4
    half_w, half_h = 0.1 * math.exp(0.2), 0.2 * math.exp(-0.4)
    expected = [0.52 - half_w, 0.42 - half_h, 0.52 + half_w, 0.42 + half_h]
    assert np.allclose(_decoded(1, -2, 1, -2), expected, atol=1e-6)


@pytest.mark.parametrize("huge", [1e3, 1e30, 65504])
def test_sizes_stop_at_62_5_times_the_prior(huge):
    box = _decoded(0, 0, huge, huge)
    assert np.allclose([box[2] - box[0], box[3] - box[1]], [0.2 * 62.5, 0.4 * 62.5], rtol=1e-5)


def test_decoding_does_not_modify_its_input():
    loc = np.ones((1, 4), np.float32)
    decode_boxes(loc, PRIOR, (0.1, 0.2))
    assert (loc == 1).all()


coordinates = st.floats(0.0, 1.0, width=32)


@given(st.lists(st.tuples(coordinates, coordinates, coordinates, coordinates), min_size=1, max_size=8))
def test_decode_undoes_encode(rows):
    corners = np.array(
        [(min(a, c), min(b, d), max(a, c) + 0.01, max(b, d) + 0.01) for a, b, c, d in rows], np.float32
    )
    priors = np.tile(PRIOR, (len(corners), 1))
    decoded = decode_boxes(encode_boxes(corners, priors, (0.1, 0.2)), priors, (0.1, 0.2))
    # A float32 box of side 0.01 has a relative rounding of 1e-5; sizes go through log and exp.
    assert np.allclose(decoded, corners, atol=2e-6)


def test_centre_form_and_corners_are_inverse(rng):
    boxes = rng.uniform(0, 1, (5, 4)).astype(np.float32)
    assert np.allclose(corners_to_centre(centre_to_corners(boxes)), boxes, atol=1e-6)


def test_iou_by_hand():
    boxes = np.array([[0, 0, 2, 2], [1, 1, 3, 3], [2, 0, 4, 2], [0.5, 0.5, 1.5, 1.5]], np.float32)
    expected = [
        [1, 1 / 7, 0, 1 / 4],  # shares 1 of 7; touches; contains
        [1 / 7, 1, 1 / 7, 0.25 / 4.75],
        [0, 1 / 7, 1, 0],
        [1 / 4, 0.25 / 4.75, 0, 1],
    ]
    assert np.allclose(iou_matrix(boxes, boxes), expected, atol=1e-6)


def test_empty_boxes_have_iou_zero_even_with_themselves():
    boxes = np.array([[1, 1, 1, 1], [0, 0, 0, 5], [0, 0, 2, 2]], np.float32)
    assert np.array_equal(iou_matrix(boxes, boxes)[:2], np.zeros((2, 3)))


def test_no_boxes_give_empty_matrices():
    none, two = np.empty((0, 4), np.float32), np.ones((2, 4), np.float32)
    assert iou_matrix(none, two).shape == (0, 2)
    assert iou_matrix(two, none).shape == (2, 0)


def test_disjoint_boxes_share_nothing():
    first, second = np.array([0, 0, 1, 1], np.float32), np.array([2, 2, 3, 3], np.float32)
    assert intersections(first, second) == 0
