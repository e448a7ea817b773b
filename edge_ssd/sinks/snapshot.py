"""One picture that always shows the latest annotated frame: for a robot without a screen."""

from __future__ import annotations

import time
from pathlib import Path

import cv2

from ..files import StrPath, replacing
from .sink import FrameResult

# Encoding takes longer than detecting; people look about once a second.
_INTERVAL_S = 1.0


class SnapshotSink:
    """Writes the annotated frame to `path` (.png, .jpg) about once a second, and the last one at the end.

    The picture is replaced as a whole, so that whoever reads it never sees half of one.
    Raises OSError naming the file when it cannot be written.
    """

    def __init__(self, path: StrPath) -> None:
        self._path = Path(path)
        self._next = 0.0
        self._unwritten: FrameResult | None = None

    def write(self, result: FrameResult) -> None:
        self._unwritten = result
        if time.monotonic() >= self._next:
            self._replace(result)
            self._next = time.monotonic() + _INTERVAL_S

    def _replace(self, result: FrameResult) -> None:
        _, data = cv2.imencode(self._path.suffix, result.annotated)
        try:
            with replacing(self._path, durable=False) as partial:
                partial.write_bytes(data.tobytes())
        except OSError as error:
            raise OSError(f"{self._path}: {error.strerror}") from error
        self._unwritten = None

    def close(self) -> None:
        if self._unwritten is not None:
            self._replace(self._unwritten)
