"""Still images: one file, or a folder of them in name order."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from ..files import IMAGE_SUFFIXES, StrPath
from ..files.image import read_image
from ..frames import Frame, now_ns
from .retrieve import buffered
from .source import Allocate

log = logging.getLogger("edge_ssd")


class ImageReader:
    """One image file, once."""

    is_live = False
    fps = 0.0
    frame_count = 1
    skipped = 0

    def __init__(self, path: StrPath, allocate: Allocate | None = None) -> None:
        self._frame: Frame | None = read_frame(path, allocate)

    def read(self) -> Frame | None:
        frame, self._frame = self._frame, None
        return frame

    def close(self) -> None:
        self._frame = None


class ImageFolderReader:
    """The images of a folder in name order; one that cannot be read is named in the log and counted."""

    is_live = False
    fps = 0.0

    def __init__(self, folder: StrPath, allocate: Allocate | None = None) -> None:
        self._folder, self._allocate = Path(folder), allocate
        self._paths = sorted(
            p for p in self._folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.is_dir()
        )
        if not self._paths:
            raise ValueError(f"{folder}: no image in this folder ({', '.join(IMAGE_SUFFIXES)})")
        self.frame_count = len(self._paths)
        self.skipped = self._next = 0

    def read(self) -> Frame | None:
        while self._next < len(self._paths):
            path = self._paths[self._next]
            self._next += 1
            try:
                return read_frame(path, self._allocate)
            except (OSError, ValueError) as error:
                self.skipped += 1
                log.warning("skipped %s", error)
        if self.skipped == len(self._paths):
            raise ValueError(
                f"{self._folder}: none of the {self.skipped} images in this folder could be read"
            )
        return None

    def close(self) -> None:
        self._next = len(self._paths)


def read_frame(path: StrPath, allocate: Allocate | None = None) -> Frame:
    """The Frame of an image file; its timestamp is when it was read. Errors as `read_image`.

    allocate: of the memory to copy it to; see `open_source`.
    """
    start = time.perf_counter()
    image, copies = buffered(read_image(path), allocate)
    return Frame(
        image,
        timestamp_ns=now_ns(),
        source=str(path),
        capture_ms=(time.perf_counter() - start) * 1e3,
        copies=copies,
    )
