"""Batches in memory: the shape says what is what, the strides how it lies."""

from __future__ import annotations

import numpy as np
import pytest

from edge_ssd.engines.layout import interleaved_batch, interleaved_pixels, planar_batch


@pytest.mark.parametrize(("color", "red_in_memory"), [("rgb", 2), ("bgr", 2)])
def test_interleaved_batch_lies_blue_first_whatever_the_spec_says(color, red_in_memory):
    batch = interleaved_batch(2, (4, 5), color)
    assert batch.shape == (2, 3, 4, 5)
    batch[:, color.index("r")] = 7
    pixels, is_reversed = interleaved_pixels(batch)
    assert pixels.shape == (2, 4, 5, 3)
    assert pixels.flags.c_contiguous
    assert np.shares_memory(pixels, batch)
    assert is_reversed is (color == "rgb")
    assert (pixels[..., red_in_memory] == 7).all()
    assert np.count_nonzero(pixels) == 2 * 4 * 5


def test_one_image_of_a_batch_lies_as_the_batch_does():
    pixels, is_reversed = interleaved_pixels(interleaved_batch(2, (4, 5), "rgb")[1])
    assert (pixels.shape, is_reversed) == ((4, 5, 3), True)


@pytest.mark.parametrize(
    "batch",
    [
        planar_batch(1, (4, 5), np.dtype(np.float32)),
        interleaved_batch(1, (4, 5), "rgb").astype(np.float16),
        planar_batch(1, (1, 1), np.dtype(np.float32)),  # either
        interleaved_batch(1, (4, 6), "rgb")[..., ::2],  # gaps between
    ],
)
def test_what_is_no_interleaved_float32_is_not_taken_for_it(batch):
    assert interleaved_pixels(batch) is None
