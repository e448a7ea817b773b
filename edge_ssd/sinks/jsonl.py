"""JSON lines: one object per frame, written at once, so that another program can follow the file."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from io import FileIO
from typing import Any

import numpy as np

from .sink import FrameResult


class JsonlSink:
    """One line of JSON per frame.

    file: binary, unbuffered, opened for writing.   name: for errors.
    When a write fails (a full disk), a file is cut back to its last whole line and OSError is raised.
    """

    def __init__(self, file: FileIO, name: str) -> None:
        self._file, self._name = file, name
        self._lines = 0

    def write(self, result: FrameResult) -> None:
        # In ASCII with escapes: a file's name may hold bytes that are no UTF-8, which JSON must be.
        data = (json.dumps(record(result), separators=(",", ":")) + "\n").encode("ascii")
        # Not tell(): a file that is appended to says 0 before its first write.
        whole = self._file.seek(0, os.SEEK_END) if self._file.seekable() else None
        try:
            while data:
                data = data[self._file.write(data) :]
        except BrokenPipeError:
            raise  # the reader of a pipe has had enough: not a failure
        except OSError as error:
            if whole is not None:
                with suppress(OSError):  # a device has no length
                    self._file.truncate(whole)
            raise OSError(
                f"{self._name}: {error.strerror} after {self._lines} lines, which are kept"
            ) from error
        self._lines += 1

    def close(self) -> None:
        self._file.close()


def record(result: FrameResult) -> dict[str, Any]:
    """The JSON object of a FrameResult: boxes in source pixels, times in milliseconds."""
    frame, detections = result.frame, result.detections
    height, width = detections.image_size
    return {
        "sequence": frame.sequence,
        "source": frame.source,
        "timestamp_ns": frame.timestamp_ns,
        "width": width,
        "height": height,
        "detections": [
            {
                "box": [round(float(v), 3) for v in box],
                "score": round(score, 5),
                "label": result.class_names[label],
                "class_id": label,
                **_keypoints(points),
            }
            for (box, score, label), points in zip(detections, detections.keypoints)
        ],
        "timing_ms": {stage: round(ms, 3) for stage, ms in result.timing_ms.items()},
    }


def _keypoints(points: np.ndarray) -> dict[str, Any]:
    """The key of a detection's key points (K, 2), where there are any."""
    return {"keypoints": [[round(float(v), 3) for v in point] for point in points]} if len(points) else {}
