"""An annotated video file."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np

from ..files.image import opencv_name
from ..resize import plan_resize

# OpenCV does not say when the disk is full, and an MP4 without its last kilobytes cannot be played: so
# the file is closed while there is still room for them.
_RESERVE_BYTES = 16 << 20
_CHECK_EVERY = 30

# After a pause of a live source the video holds the last frame, but no longer than this.
_LONGEST_HOLD_S = 5.0

_CODECS = {".avi": "MJPG"}


class VideoSink:
    """One video frame per frame of a file; of a live source, frames held so that it plays in real time.

    path: .mp4, .mov or .mkv (MPEG-4), .avi (motion JPEG).   fps: 0 takes 30.
    The video has the size of the first frame; frames of another size are fitted into it.
    Raises OSError when the file cannot be written.
    """

    def __init__(self, path, fps, is_live):
        self._path, self._fps, self._is_live = Path(path), fps or 30.0, is_live
        self._name = opencv_name(path)
        self._writer = self._size = self._start_ns = self._latest = None
        self._written = self._calls = 0

    def write(self, result):
        if self._writer is None:
            self._open(result.annotated)
        if self._calls % _CHECK_EVERY == 0:
            self._check_room()
        self._calls += 1
        before, self._latest = self._latest, _fitted(result.annotated, self._size)
        repeats = self._repeats(result.frame.timestamp_ns)
        for i in range(repeats):
            self._writer.write(self._latest if i == repeats - 1 else before)
        self._written += repeats

    def _open(self, image):
        # The codecs halve the chroma: sides must be even.
        self._size = tuple(max(2, side - side % 2) for side in image.shape[:2])
        codec = cv2.VideoWriter.fourcc(*_CODECS.get(self._path.suffix.lower(), "mp4v"))
        self._writer = cv2.VideoWriter(self._name, codec, self._fps, self._size[::-1])
        if not self._writer.isOpened():
            raise OSError(f"{self._path}: OpenCV cannot write this kind of video here; try .avi")

    def _repeats(self, timestamp_ns):
        """How often to write: once, or up to where the clock is for a live source, the frame before first."""
        if not self._is_live:
            return 1
        if self._start_ns is None:
            self._start_ns = timestamp_ns
        due = round((timestamp_ns - self._start_ns) / 1e9 * self._fps) + 1
        behind = due - self._written
        longest = round(_LONGEST_HOLD_S * self._fps)
        if behind > longest:
            self._start_ns += round((behind - longest) / self._fps * 1e9)
        return max(0, min(behind, longest))

    def _check_room(self):
        free = shutil.disk_usage(self._path.parent).free
        if free < _RESERVE_BYTES:
            raise OSError(
                f"{self._path}: the disk is full ({free >> 20} MiB left); {self._written} frames are kept"
            )

    def close(self):
        """Completes the file. Raises OSError when it cannot be played after all: OpenCV writes in silence."""
        if self._writer is None:
            if self._path.is_file():
                self._path.unlink()  # nothing came, and an empty file is no video
            return
        self._writer.release()
        if self._written and not cv2.VideoCapture(self._name).isOpened():
            raise OSError(f"{self._path}: the video could not be completed; is the disk full?")


def _fitted(image, size):
    """(H, W, 3) uint8 in `size`, (height, width): cut by the odd row and column, or letterboxed in black."""
    height, width = size
    if image.shape[0] - height in (0, 1) and image.shape[1] - width in (0, 1):
        return np.ascontiguousarray(image[:height, :width])
    plan = plan_resize(image.shape[:2], size, "letterbox")
    (top, left), (inner_height, inner_width) = plan.padding, plan.inner_size
    canvas = np.zeros((height, width, 3), np.uint8)
    canvas[top : top + inner_height, left : left + inner_width] = cv2.resize(
        image, (inner_width, inner_height), interpolation=cv2.INTER_AREA
    )
    return canvas
