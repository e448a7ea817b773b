"""A folder of annotated PNG files."""

from __future__ import annotations

from pathlib import Path

import cv2


class PngFolderSink:
    """One PNG per frame: named after the image it came from, or by the frame's number for a video.

    Raises OSError naming the file when one cannot be written.
    """

    def __init__(self, folder):
        self._folder = Path(folder)
        self._written = set()

    def write(self, result):
        source = Path(result.frame.source)
        number = f"{result.frame.sequence:06d}"
        name = source.stem if source.suffix and source.is_file() else number
        if name in self._written:  # a.jpg beside a.png, or the next frame of a video
            name = f"{name}_{number}" if source.is_file() and name != number else number
        self._written.add(name)
        path = self._folder / f"{name}.png"
        _, data = cv2.imencode(".png", result.annotated)
        try:
            path.write_bytes(data)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise OSError(f"{path}: {error.strerror}; {len(self._written) - 1} pictures are kept") from error

    def close(self):
        pass
