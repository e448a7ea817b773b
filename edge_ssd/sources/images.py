"""Still images: one file, or a folder of them in the order of their names, numbers by value."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from ..files import IMAGE_SUFFIXES, StrPath, count_text, natural_key, suffixes_text
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
    """The images of a folder in the order of their names, frame2 before frame10; one that cannot be read is named in
    the log and counted. What else lies there is counted, too."""

    is_live = False
    fps = 0.0

    def __init__(self, folder: StrPath, allocate: Allocate | None = None) -> None:
        self._folder, self._allocate = Path(folder), allocate
        there = sorted(self._folder.iterdir(), key=natural_key)
        folders = {path for path in there if path.is_dir()}
        self._paths = [p for p in there if p.suffix.lower() in IMAGE_SUFFIXES and p not in folders]
        left_out = _left_out(set(there) - folders - set(self._paths), folders)
        if not self._paths:
            found = f"; there is: {left_out}" if left_out else ""
            raise ValueError(f"{folder}: no image in this folder ({', '.join(IMAGE_SUFFIXES)}){found}")
        if left_out:
            log.warning("%s: left out %s", folder, left_out)
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


def _left_out(files: set[Path], folders: set[Path]) -> str:
    """What a folder holds besides its images, hidden files apart: 3 files (.avif, .heic) and 1 folder."""
    files, folders = ({p for p in paths if not p.name.startswith(".")} for paths in (files, folders))
    texts = []
    if files:
        texts.append(f"{count_text(len(files), 'file')} ({suffixes_text(p.suffix.lower() for p in files)})")
    if folders:
        texts.append(count_text(len(folders), "folder"))
    return " and ".join(texts)


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
