"""One picture that always shows the latest annotated frame: for a robot without a screen."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

import cv2

# Encoding takes longer than detecting; people look about once a second.
_INTERVAL_S = 1.0


class SnapshotSink:
    """Writes the annotated frame to `path` (.png, .jpg) about once a second, and the last one at the end.

    The picture is replaced as a whole, so that whoever reads it never sees half of one.
    Raises OSError naming the file when it cannot be written.
    """

    def __init__(self, path):
        self._path = Path(path)
        self._next = 0.0
        self._unwritten = None

    def write(self, result):
        self._unwritten = result
        if time.monotonic() >= self._next:
            self._replace()
            self._next = time.monotonic() + _INTERVAL_S

    def _replace(self):
        _, data = cv2.imencode(self._path.suffix, self._unwritten.annotated)
        partial = self._path.with_name(f".{self._path.name}.part")
        try:
            partial.write_bytes(data)
            os.replace(partial, self._path)
        except OSError as error:
            with suppress(OSError):
                partial.unlink()
            raise OSError(f"{self._path}: {error.strerror}") from error
        self._unwritten = None

    def close(self):
        if self._unwritten is not None:
            self._replace()
        elif self._path.is_file() and self._path.stat().st_size == 0:
            self._path.unlink()  # made when the run began, and no frame came
