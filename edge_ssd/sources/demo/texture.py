"""Textures of the rendered camera: noise, waves and colour tables, in integer arithmetic.

A texture is a field, (H, W) uint8, coloured by a table, (256, 3) uint8 BGR. Integers give the same bytes
on every processor.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike


def noise(rng: np.random.Generator, image_size: tuple[int, int], cell: float, octaves: int) -> np.ndarray:
    """A field of smooth noise about 128, (H, W) uint8. cell: pixels of the first octave's lumps."""
    height, width = image_size
    total = np.zeros(image_size, np.uint16)
    for octave in range(octaves):
        side = max(1.0, cell / 2**octave)
        grid = rng.integers(0, 256, (int(height / side) + 2, int(width / side) + 2), np.uint8)
        layer = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        total += np.left_shift(layer, octaves - 1 - octave, dtype=np.uint16)
    return (total // (2**octaves - 1)).astype(np.uint8)


def waves(
    image_size: tuple[int, int],
    angle: float,
    period: float,
    phase: float = 0.0,
    warp: np.ndarray | None = None,
) -> np.ndarray:
    """A sawtooth field, (H, W) uint8, that rises from 0 to 255 in `period` pixels along `angle` (radians).

    phase: of the pixel (0, 0), in periods.   warp: (H, W) uint8 field that is added, in 1/256 of a period.
    """
    height, width = image_size
    # 16 bits of a period, which wrap around by themselves.
    step_x, step_y = (round(65536 * v / period) for v in (np.cos(angle), np.sin(angle)))
    columns = (np.arange(width, dtype=np.int64) * step_x).astype(np.uint16)
    rows = (np.arange(height, dtype=np.int64) * step_y + round(phase * 65536)).astype(np.uint16)
    field = (np.add.outer(rows, columns) >> 8).astype(np.uint8)
    return field if warp is None else field + warp


def ramp_table(colors: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """(256, 3) uint8 that goes evenly through `colors`, (K, 3) BGR."""
    stops = np.linspace(0, 255, len(colors))
    channels = [np.interp(np.arange(256), stops, channel) for channel in np.asarray(colors, np.float64).T]
    return np.rint(np.stack(channels, axis=1)).astype(np.uint8)


def stripe_table(
    first: ArrayLike, second: ArrayLike, share: float = 0.5, softness: float = 0.06
) -> np.ndarray:
    """(256, 3) uint8: a period of stripes, `share` of it in `second`. softness: of the edges, in periods."""
    position = np.arange(256) / 256
    distance = np.abs(position - 0.5) - (1 - share) / 2
    weight = np.clip(0.5 + distance / (2 * softness), 0, 1)[:, None]
    return np.rint(np.asarray(first) * (1 - weight) + np.asarray(second) * weight).astype(np.uint8)


def colored(field: np.ndarray, table: np.ndarray) -> np.ndarray:
    """(H, W) uint8 field -> (H, W, 3) uint8 by a table of (256, 3) colours."""
    return cv2.LUT(cv2.merge((field, field, field)), table[None])


def blend(image: np.ndarray, fill: np.ndarray, mask: np.ndarray) -> None:
    """Puts `fill` onto `image`, in place, as much as `mask` says: (H, W, 3) twice and (H, W), all uint8."""
    mask = cv2.merge((mask, mask, mask)).astype(np.uint16)
    # Exact rounded division by 255; every sum stays below 65536.
    mixed = fill * mask
    mixed += image * (255 - mask)
    mixed += 128
    mixed += mixed >> 8
    np.right_shift(mixed, 8, out=image, casting="unsafe")
