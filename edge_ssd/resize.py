"""Where a source image lies inside the network input, and how boxes go back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True)
class ResizePlan:
    """The place of the resized image inside the network input; every size is (height, width), pixels.

    source_size: of the image.   input_size: of the network input.   inner_size: of the resized image
    within it.   padding: (top, left), the rest lies at the bottom and the right.
    """

    source_size: tuple[int, int]
    input_size: tuple[int, int]
    inner_size: tuple[int, int]
    padding: tuple[int, int]

    def to_source(self, boxes: np.ndarray) -> np.ndarray:
        """(N, 4) corners normalised to the network input -> (N, 4) float32 source pixels, not clipped."""
        return (np.asarray(boxes, np.float32) * _tiled(self.input_size) - _tiled(self.padding)) * (
            _tiled(self.source_size) / _tiled(self.inner_size)
        )

    def points_to_source(self, points: np.ndarray) -> np.ndarray:
        """(N, K, 2) x y normalised to the network input -> (N, K, 2) float32 source pixels, not clipped."""
        pairs = np.asarray(points, np.float32)
        input_size, padding, source, inner = (
            _tiled(size)[:2] for size in (self.input_size, self.padding, self.source_size, self.inner_size)
        )
        return (pairs * input_size - padding) * (source / inner)

    def to_input(self, boxes: np.ndarray) -> np.ndarray:
        """(N, 4) corners in source pixels -> (N, 4) float32 normalised to the network input."""
        scaled = np.asarray(boxes, np.float32) * (_tiled(self.inner_size) / _tiled(self.source_size))
        return (scaled + _tiled(self.padding)) / _tiled(self.input_size)


@lru_cache(maxsize=64)  # a stream asks the same question for every frame
def plan_resize(source_size: tuple[int, int], input_size: tuple[int, int], mode: str) -> ResizePlan:
    """How an image of `source_size` goes into `input_size`, both (height, width).

    mode: "stretch" fills the input; "letterbox" keeps the aspect ratio and centres the image; "letterbox_top_left"
    keeps it, too, and pads at the bottom and the right alone.
    Raises ValueError for an empty image or an unknown mode.
    """
    (h, w), (height, width) = source_size, input_size
    if min(h, w, height, width) < 1:
        raise ValueError(f"image_size: expected at least one pixel, got {h} x {w} into {height} x {width}")
    if mode == "stretch":
        inner = (height, width)
    elif mode in ("letterbox", "letterbox_top_left"):
        scale = min(width / w, height / h)
        inner = (_scaled(h, scale), _scaled(w, scale))
    else:
        raise ValueError(f"resize: expected letterbox_top_left, stretch or letterbox, got {mode!r}")
    if mode == "letterbox_top_left":
        return ResizePlan((h, w), (height, width), inner, (0, 0))
    padding = ((height - inner[0]) // 2, (width - inner[1]) // 2)
    return ResizePlan((h, w), (height, width), inner, padding)


def _scaled(side: int, scale: float) -> int:
    return max(1, math.floor(side * scale + 0.5))


def _tiled(size: tuple[int, int]) -> np.ndarray:
    """(height, width) -> (4,) float32, in the order of corners."""
    return np.array([size[1], size[0], size[1], size[0]], np.float32)
