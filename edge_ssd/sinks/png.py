"""A folder of annotated PNG files."""

from __future__ import annotations

import os
from pathlib import Path

import cv2

from ..files import IMAGE_SUFFIXES, StrPath, replacing
from ..frames import Frame
from .sink import FrameResult


class PngFolderSink:
    """One PNG per frame: named after the image it came from, or by the frame's number.

    Raises OSError naming the file when one cannot be written, ValueError for a folder that holds the
    images themselves.
    """

    def __init__(self, folder: StrPath) -> None:
        self._folder = Path(folder)
        self._stems: set[str] = set()
        self._written = 0

    def write(self, result: FrameResult) -> None:
        path = self._folder / f"{self._name(result.frame)}.png"
        _, data = cv2.imencode(".png", result.annotated)
        try:
            with replacing(path, durable=False) as partial:
                partial.write_bytes(data.tobytes())
        except OSError as error:
            raise OSError(f"{path}: {error.strerror}; {self._written} pictures are kept") from error
        self._written += 1

    def _name(self, frame: Frame) -> str:
        number = f"{frame.sequence:06d}"
        source = Path(frame.source)
        if source.suffix.lower() not in IMAGE_SUFFIXES or not source.is_file():
            return number
        if os.path.samefile(source.parent, self._folder):
            raise ValueError(f"{self._folder}: holds the images themselves; choose another folder")
        name = source.stem
        if name in self._stems:  # a.jpg beside a.png
            name = f"{name}_{number}"
        self._stems.add(name)
        return name

    def close(self) -> None:
        pass
