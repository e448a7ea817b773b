"""Sinks: where the results of a run go. `open_sink` chooses by the name of the output."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ..detections import Detections
from ..frames import Frame

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".avi")
SNAPSHOT_SUFFIXES = (".png", ".jpg")


@dataclass(frozen=True)
class FrameResult:
    """What a run knows of one frame.

    timing_ms: capture, preprocess, infer, postprocess, and age: from the frame's timestamp to its detections.
    """

    frame: Frame
    detections: Detections
    class_names: tuple[str, ...]
    timing_ms: dict[str, float]

    @cached_property
    def annotated(self) -> np.ndarray:
        """(H, W, 3) uint8 BGR: a copy of the image with the detections drawn; made once for all sinks."""
        from .annotate import annotate

        return annotate(self.frame, self.detections, self.class_names)


def open_sink(target, fps=0.0, is_live=False):
    """The sink of an output: "-" (JSON lines on standard output), F.jsonl, F.mp4 (.mov, .mkv, .avi), F.png
    (the latest frame), a folder for PNG files (a name without a suffix), "null", or "window".

    fps: of the source, 0 when unknown.   is_live: frames come by the clock, some may be missing.
    A sink has `write(FrameResult)` and `close()`; missing folders are made.

    Raises ValueError for another kind of name, OSError when it cannot be written.
    """
    if target == "null":
        return NullSink()
    if target == "window":
        from .window import WindowSink

        return WindowSink()
    from .jsonl import JsonlSink

    if target == "-":
        return JsonlSink(os.fdopen(os.dup(1), "wb", buffering=0), "standard output")
    path = Path(target).expanduser()
    if path.suffix == ".jsonl":
        return JsonlSink(_create(path), str(path))
    if path.suffix.lower() in VIDEO_SUFFIXES:
        from .video import VideoSink

        _create(path).close()
        return VideoSink(path, fps, is_live)
    if path.suffix.lower() in SNAPSHOT_SUFFIXES and not path.is_dir():
        from .snapshot import SnapshotSink

        _create(path).close()
        return SnapshotSink(path)
    if path.suffix and not path.is_dir() and not str(target).endswith("/"):
        known = (".jsonl", *VIDEO_SUFFIXES, *SNAPSHOT_SUFFIXES)
        raise ValueError(f"{target}: expected an output ending in {', '.join(known)}, or a folder")
    from .png import PngFolderSink

    _make_folder(path)
    return PngFolderSink(path)


def _create(path):
    """An empty file at `path`, opened for writing without a buffer."""
    _make_folder(path.parent)
    try:
        return path.open("wb", buffering=0)
    except OSError as error:
        raise OSError(f"{path}: cannot be written ({error.strerror})") from error


def _make_folder(path):
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"{path}: cannot make this folder ({error.strerror})") from error


class NullSink:
    """Takes everything, keeps nothing: for measuring."""

    def write(self, result):
        pass

    def close(self):
        pass
