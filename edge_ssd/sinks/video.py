"""An annotated video file."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2

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
    All frames get the size of the first. Raises OSError when the file cannot be written.
    """

    def __init__(self, path, fps, is_live):
        self._path, self._fps, self._is_live = Path(path), fps or 30.0, is_live
        self._path.open("wb").close()  # OpenCV's own error would only be "not opened"
        self._writer = self._size = self._start_ns = None
        self._written = self._calls = 0

    def write(self, result):
        image = result.annotated
        if self._writer is None:
            self._open(image)
        if self._calls % _CHECK_EVERY == 0:
            self._check_room()
        self._calls += 1
        if image.shape[1::-1] != self._size:
            image = cv2.resize(image, self._size, interpolation=cv2.INTER_AREA)
        for _ in range(self._repeats(result.frame.timestamp_ns)):
            self._writer.write(image)
            self._written += 1

    def _open(self, image):
        # The codecs halve the chroma: sides must be even.
        self._size = tuple(max(2, side - side % 2) for side in image.shape[1::-1])
        codec = cv2.VideoWriter.fourcc(*_CODECS.get(self._path.suffix.lower(), "mp4v"))
        self._writer = cv2.VideoWriter(str(self._path), codec, self._fps, self._size)
        if not self._writer.isOpened():
            raise OSError(f"{self._path}: OpenCV cannot write this kind of video here; try .avi")

    def _repeats(self, timestamp_ns):
        """How many times this frame is written: once, or up to where the clock is for a live source."""
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
        if self._writer is not None:
            self._writer.release()
        elif self._path.is_file() and self._path.stat().st_size == 0:
            self._path.unlink()
