"""Pixels out of OpenCV and into buffers that the caller chose, with every copy counted."""

from __future__ import annotations

import cv2
import numpy as np

from .source import Allocate

# What OpenCV's backends (FFmpeg, V4L2, GStreamer) do inside `retrieve`: they convert into an image of
# their own and copy that out. V4L2 frames that are not converted are copied there first, too.
_COPIES_CONVERTED, _COPIES_RAW = 1, 2


class Retriever:
    """Takes grabbed frames out of a cv2.VideoCapture; one piece for cameras, files and streams.

    allocate: shape -> uint8 array to put a frame of this shape in, or None for a new one; see `open_source`.
    is_raw: a V4L2 capture that does not convert its frames.
    """

    def __init__(
        self, capture: cv2.VideoCapture, allocate: Allocate | None = None, is_raw: bool = False
    ) -> None:
        self._capture, self._allocate = capture, allocate
        self._copies_inside = _COPIES_RAW if is_raw else _COPIES_CONVERTED
        self._shape: tuple[int, ...] | None = None  # of the frame before; nobody tells that of the first

    def retrieve(self) -> tuple[np.ndarray | None, int]:
        """The frame in hand as uint8 array, and how often it was copied; (None, 0) when it is broken."""
        buffer = self._allocate(self._shape) if self._allocate and self._shape else None
        try:
            capture = self._capture
            retrieved, image = capture.retrieve() if buffer is None else capture.retrieve(buffer)
        except cv2.error:
            return None, 0
        if not retrieved or image is None:
            return None, 0
        self._shape = image.shape
        if buffer is not None and _is_same(image, buffer):
            return buffer, self._copies_inside
        if buffer is not None and buffer.shape == image.shape:
            np.copyto(buffer, image)
            return buffer, self._copies_inside + 1
        image, copies = buffered(image, self._allocate)
        return image, self._copies_inside + copies


def buffered(image: np.ndarray, allocate: Allocate | None) -> tuple[np.ndarray, int]:
    """An image in the buffer that `allocate` has for it, and the copies that took: 1, or 0 without one.

    image: uint8 array.   allocate: as in `open_source`, None included.
    """
    buffer = allocate(image.shape) if allocate else None
    if buffer is None:
        return image, 0
    np.copyto(buffer, image)
    return buffer, 1


def _is_same(image: np.ndarray, buffer: np.ndarray) -> bool:
    """Whether OpenCV wrote into the buffer: it takes another piece of memory when size or type do not fit."""
    return image.shape == buffer.shape and image.ctypes.data == buffer.ctypes.data
