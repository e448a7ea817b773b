"""An annotated video file."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np

from ..files import StrPath
from ..files.image import opencv_path
from ..resize import plan_resize
from .partial import PartialFile
from .sink import FrameResult

# OpenCV does not say when the disk is full, and an MP4 without its last kilobytes cannot be played: so
# the file is closed while there is still room for them.
_RESERVE_BYTES = 16 << 20
_CHECK_EVERY = 30

# After a pause of a live source the video holds the last frame, but no longer than this.
_LONGEST_HOLD_S = 5.0

_CODECS = {".avi": "MJPG"}


class VideoSink:
    """One video frame per frame of a file; of a live source, frames held so that it plays in real time.

    path: .mp4, .mov or .mkv (MPEG-4), .avi (motion JPEG).   fps: 0 takes 30.   is_live: hold frames.
    The video has the size of the first frame; frames of another size are fitted into it.
    An older file of the name stays until this one is complete, which is NAME.partial.mp4 until then. Of a run that was
    killed, .mkv and .avi can be played.
    Raises OSError when the file cannot be written, ValueError when another run is recording it.
    """

    def __init__(self, path: StrPath, fps: float, is_live: bool) -> None:
        self._path, self._fps, self._is_live = Path(path), fps or 30.0, is_live
        self._file = PartialFile(path)
        self._name = opencv_path(self._file.partial)
        self._writer: cv2.VideoWriter | None = None
        self._size = 0, 0  # (height, width) of the first frame
        self._start_ns: int | None = None
        self._latest: np.ndarray | None = None
        self._written = self._calls = 0

    def write(self, result: FrameResult) -> None:
        writer = self._writer or self._open(result.annotated)
        if self._calls % _CHECK_EVERY == 0:
            self._check_room()
        self._calls += 1
        latest = _fitted(result.annotated, self._size)
        before = latest if self._latest is None else self._latest
        self._latest = latest
        repeats = self._repeats(result.frame.timestamp_ns)
        for i in range(repeats):
            writer.write(latest if i == repeats - 1 else before)
        self._written += repeats

    def _open(self, image: np.ndarray) -> cv2.VideoWriter:
        # The codecs halve the chroma: sides must be even.
        height, width = (max(2, side - side % 2) for side in image.shape[:2])
        self._size = height, width
        codec = cv2.VideoWriter.fourcc(*_CODECS.get(self._path.suffix.lower(), "mp4v"))
        writer = self._writer = cv2.VideoWriter(self._name, codec, self._fps, (width, height))
        if not writer.isOpened():
            raise OSError(f"{self._path}: OpenCV cannot write this kind of video here; try .avi")
        return writer

    def _repeats(self, timestamp_ns: int) -> int:
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

    def _check_room(self) -> None:
        free = shutil.disk_usage(self._file.partial.parent).free
        if free < _RESERVE_BYTES:
            raise OSError(
                f"{self._path}: the disk is full ({free >> 20} MiB left); {self._written} frames are kept"
            )

    def close(self) -> None:
        """Completes the file. Raises OSError when it cannot be played after all: OpenCV writes in silence."""
        if self._writer is not None:
            self._writer.release()
        if not self._written:  # an empty file is no video
            self._file.discard()
            return
        if not cv2.VideoCapture(self._name).isOpened():
            self._file.leave()
            raise OSError(
                f"{self._path}: the video could not be completed; is the disk full? "
                f"What came is in {self._file.partial}"
            )
        self._file.finish()


def _fitted(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8 in `size`, (height, width): cut by the odd row and column, or letterboxed in black."""
    height, width = size
    if image.shape[0] - height in (0, 1) and image.shape[1] - width in (0, 1):
        return np.ascontiguousarray(image[:height, :width])
    plan = plan_resize((image.shape[0], image.shape[1]), size, "letterbox")
    (top, left), (inner_height, inner_width) = plan.padding, plan.inner_size
    canvas = np.zeros((height, width, 3), np.uint8)
    canvas[top : top + inner_height, left : left + inner_width] = cv2.resize(
        image, (inner_width, inner_height), interpolation=cv2.INTER_AREA
    )
    return canvas
