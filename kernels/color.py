"""YUV to RGB, for the CPU and the GPU alike."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

# Red and blue weights of luma: ITU-R BT.601-7 section 2.5.1, BT.709-6 item 3.2.
_LUMA_WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}

COLOR_MATRICES, COLOR_RANGES = tuple(_LUMA_WEIGHTS), ("limited", "full")


class YuvToRgb(NamedTuple):
    """matrix: (3, 4) float32, r g b = matrix @ (y, u, v, 1) on the 0..255 scale.   black: luma of black."""

    matrix: np.ndarray
    black: np.float32


@lru_cache
def yuv_to_rgb(color_matrix: str, color_range: str) -> YuvToRgb:
    """The conversion of "bt601" or "bt709" and "limited" or "full" range, as a YuvToRgb.

    Luma below black counts as black, as in OpenCV's conversions; the result is to be clipped to 0..255.
    """
    red, blue = _LUMA_WEIGHTS[color_matrix]
    green = 1 - red - blue
    luma, chroma, black = (255 / 219, 255 / 224, 16) if color_range == "limited" else (1.0, 1.0, 0)
    u = np.array([0, -2 * blue * (1 - blue) / green, 2 * (1 - blue)]) * chroma
    v = np.array([2 * (1 - red), -2 * red * (1 - red) / green, 0]) * chroma
    matrix = np.stack([np.full(3, luma), u, v, -luma * black - 128 * (u + v)], axis=1)
    return YuvToRgb(matrix.astype(np.float32), np.float32(black))
