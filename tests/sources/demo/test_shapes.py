"""Shapes of the rendered camera: bounds and masks agree."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("cv2")

from edge_ssd.sources.demo.shapes import CLASS_NAMES, bounds, coverage, outline, transformed, visible_bounds

LABELS = range(len(CLASS_NAMES))


def _random_shapes(count, radii, seed=0):
    rng = np.random.default_rng(seed)
    for k in range(count):
        radius, angle = rng.uniform(*radii), rng.uniform(0, 2 * np.pi)
        yield transformed(outline(k % len(CLASS_NAMES)), radius, angle, rng.uniform(40, 60, 2))


def _touched(mask, corner):
    """First and last touched pixel, x y x y, in the image's pixels."""
    ys, xs = np.nonzero(mask)
    return np.array([xs.min(), ys.min(), xs.max(), ys.max()]) + np.tile(corner, 2)


@pytest.mark.parametrize("radii", [(6, 30), (140, 170)], ids=["small", "large"])
def test_bounds_lie_within_the_outermost_pixels_of_the_mask(radii):
    for shape in _random_shapes(160, radii):
        touched = _touched(*coverage(shape))
        # An edge anywhere within the outermost pixel is at most half a pixel from its centre;
        # a quarter more for the grid of the finer pixels.
        assert np.abs(bounds(shape) - (touched + 0.5)).max() < 0.75


@pytest.mark.parametrize("label", LABELS, ids=CLASS_NAMES)
def test_the_mask_covers_the_area_of_the_outline(label):
    shape = transformed(outline(label), 40.0, 0.7, (50.3, 49.6))
    mask, _ = coverage(shape)
    area = sum(
        sign * 0.5 * abs(np.dot(c[:, 0], np.roll(c[:, 1], -1)) - np.dot(c[:, 1], np.roll(c[:, 0], -1)))
        for c, sign in zip(shape, (1, -1))
    )
    # OpenCV also paints the fine pixels on the outline: an eighth of a pixel all around.
    assert mask.sum() / 255 == pytest.approx(area, rel=0.03)


def test_visible_bounds_of_a_disc_that_sticks_out_by_more_than_half():
    disc = transformed(outline(CLASS_NAMES.index("circle")), 10.0, 0.0, (-6.0, 50.0))
    # At x = 0 the half chord is sqrt(10^2 - 6^2) = 8.
    np.testing.assert_allclose(visible_bounds(disc, (100, 100)), [0, 42, 4, 58], atol=0.02)


def test_a_shape_around_the_whole_image_is_as_large_as_the_image():
    disc = transformed(outline(CLASS_NAMES.index("circle")), 500.0, 0.0, (50.0, 50.0))
    np.testing.assert_array_equal(visible_bounds(disc, (90, 100)), [0, 0, 100, 90])


def test_an_image_within_the_hole_of_a_ring_shows_nothing_of_it():
    ring = transformed(outline(CLASS_NAMES.index("ring")), 500.0, 0.0, (50.0, 50.0))
    assert visible_bounds(ring, (90, 100)) is None


def test_a_shape_outside_has_no_visible_bounds():
    square = transformed(outline(CLASS_NAMES.index("square")), 10.0, 0.0, (150.0, 50.0))
    assert visible_bounds(square, (100, 100)) is None


def test_visible_bounds_agree_with_the_clipped_mask():
    cut = 0
    for shape in _random_shapes(400, (15, 50), seed=1):
        shape = tuple(contour - (45, 45) for contour in shape)  # about the image's corner
        mask, (x, y) = coverage(shape)
        visible = mask[max(0, -y) :, max(0, -x) :]
        box = visible_bounds(shape, (400, 400))
        if box is None or not visible.any():
            assert visible.sum() < 255  # a sliver that only the finer grid touches
            continue
        cut += visible.shape != mask.shape
        touched = _touched(visible, (max(x, 0), max(y, 0)))
        assert np.abs(box - (touched + 0.5)).max() < 0.75
    assert cut > 300
