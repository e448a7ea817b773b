"""How a batch for the CPU lies in memory: planar, or interleaved as camera frames are.

A batch always has the shape (B, 3, H, W), with channels in the order of the spec. In an interleaved one, the three
values of a pixel lie beside each other, blue first: the order in which OpenCV delivers and resizes images, so that
nothing has to be taken apart for a network that reads it in this order.
"""

from __future__ import annotations

import numpy as np


def planar_batch(count: int, size: tuple[int, int], dtype: np.dtype) -> np.ndarray:
    """(count, 3, height, width) zeros, one plane after the other."""
    return np.zeros((count, 3, *size), dtype)


def interleaved_batch(count: int, size: tuple[int, int], color: str) -> np.ndarray:
    """(count, 3, height, width) float32 zeros, interleaved.   color: "rgb" or "bgr", the order of the spec."""
    pixels = np.zeros((count, *size, 3), np.float32)
    return pixels.transpose(0, 3, 1, 2)[:, :: -1 if color == "rgb" else 1]


def interleaved_pixels(batch: np.ndarray) -> tuple[np.ndarray, bool] | None:
    """The memory of an interleaved batch, and whether its channels lie the other way round; None for a planar one.

    batch: (..., 3, H, W).   Returns (..., H, W, 3), a view. A single pixel counts as planar, float16 as well.
    """
    if batch.dtype != np.float32 or batch.shape[-1] * batch.shape[-2] == 1:
        return None
    for is_reversed in (False, True):
        ordered = batch[..., ::-1, :, :] if is_reversed else batch
        pixels = np.moveaxis(ordered, -3, -1)
        if pixels.flags.c_contiguous:
            return pixels, is_reversed
    return None
