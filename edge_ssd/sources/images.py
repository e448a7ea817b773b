"""Still images: one file, or a folder of them in name order."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import cv2
import numpy as np

from ..frames import Frame, now_ns
from . import IMAGE_SUFFIXES

log = logging.getLogger("edge_ssd")

_PNG_HEAD, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND"
_JPEG_HEAD, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"


def read_image(path):
    """The image in a file: (H, W, 3) uint8 BGR, whatever its channels and depth, turned as EXIF says.

    Raises FileNotFoundError, or ValueError naming the file when it is no image or not all there:
    OpenCV alone would fill what is missing of a JPEG with grey.
    """
    data = np.fromfile(path, np.uint8)
    problem = _incomplete(data.tobytes())
    if not problem:
        try:
            image = cv2.imdecode(data, cv2.IMREAD_COLOR)
        except cv2.error as error:
            image, problem = None, str(error.err)
        if image is not None:
            return image
    raise ValueError(f"{path}: {problem or 'not an image that OpenCV can read'}")


def _incomplete(data):
    """What is missing of an image file, as text; empty when nothing seems to be."""
    if not data:
        return "the file is empty"
    if data.startswith(_PNG_HEAD):
        return "" if _PNG_END in data[-32:] else "the PNG is truncated (no end chunk)"
    if data.startswith(_JPEG_HEAD):
        # Neither a thumbnail before the scan nor what a phone puts after the image counts.
        complete = data.find(_JPEG_END, _jpeg_scan(data)) >= 0
        return "" if complete else "the JPEG is truncated (no end marker)"
    return ""


def _jpeg_scan(data):
    """Where the first scan of a JPEG begins: the segments before it are stepped over by their lengths."""
    at = 2
    while data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] != b"\xda":
        is_fill = data[at + 1 : at + 2] == b"\xff"
        at += 1 if is_fill else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return at


class ImageReader:
    """One image file, once."""

    is_live = False
    fps = 0.0
    frame_count = 1
    skipped = 0

    def __init__(self, path):
        self._frame = read_frame(path)

    def read(self):
        frame, self._frame = self._frame, None
        return frame

    def close(self):
        self._frame = None


class ImageFolderReader:
    """The images of a folder in name order; one that cannot be read is named in the log and counted."""

    is_live = False
    fps = 0.0

    def __init__(self, folder):
        self._folder = Path(folder)
        self._paths = sorted(
            p for p in self._folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()
        )
        if not self._paths:
            raise ValueError(f"{folder}: no image in this folder ({', '.join(IMAGE_SUFFIXES)})")
        self.frame_count = len(self._paths)
        self.skipped = self._next = 0

    def read(self):
        while self._next < len(self._paths):
            path = self._paths[self._next]
            self._next += 1
            try:
                return read_frame(path)
            except (OSError, ValueError) as error:
                self.skipped += 1
                log.warning("skipped %s", error)
        if self.skipped == len(self._paths):
            raise ValueError(
                f"{self._folder}: none of the {self.skipped} images in this folder could be read"
            )
        return None

    def close(self):
        self._next = len(self._paths)


def read_frame(path):
    """The Frame of an image file; its timestamp is when it was read. Errors as `read_image`."""
    start = time.perf_counter()
    image = read_image(path)
    return Frame(
        image, timestamp_ns=now_ns(), source=str(path), capture_ms=(time.perf_counter() - start) * 1e3
    )
