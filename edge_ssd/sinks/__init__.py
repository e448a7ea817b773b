"""Sinks: where the results of a run go. `open_sink` chooses by the name of the output."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from io import FileIO
from pathlib import Path

from ..files import StrPath, user_path
from ..sources.address import without_login
from .sink import FrameResult, Sink

__all__ = ["FrameResult", "NullSink", "Sink", "kind_of_output", "open_sink"]

_SUFFIXES = {
    "jsonl": (".jsonl",),
    "video": (".mp4", ".mov", ".mkv", ".avi"),
    "snapshot": (".png", ".jpg"),
}

# Room for some lines at least, before an older file of theirs is emptied.
_LEAST_ROOM_BYTES = 64 << 10


def open_sink(target: StrPath, fps: float = 0.0, is_live: bool = False) -> Sink:
    """The sink of an output: "-" (JSON lines on standard output), F.jsonl, F.mp4 (.mov, .mkv, .avi), F.png
    (the latest frame), a folder for PNG files (a name without a suffix), "null", or "window".

    fps: of the source, 0 when unknown.   is_live: frames come by the clock, some may be missing.
    Missing folders are made.

    Raises ValueError for another kind of name, OSError when it cannot be written.
    """
    kind = kind_of_output(target)
    if kind == "null":
        return NullSink()
    if kind == "window":
        from .window import WindowSink

        return WindowSink()
    if kind == "-":
        from .jsonl import JsonlSink

        return JsonlSink(os.fdopen(os.dup(1), "wb", buffering=0), "standard output")
    return _FILE_SINKS[kind](user_path(target), fps, is_live)


def kind_of_output(target: StrPath) -> str:
    """What kind of output a name stands for: "-", "null", "window", "jsonl", "video", "snapshot" or "folder".

    Raises ValueError naming the known ones for a suffix that is none of them.
    """
    if isinstance(target, str) and target in ("-", "null", "window"):
        return target
    path = Path(target)
    if not path.suffix or str(target).endswith("/"):
        return "folder"
    for kind, suffixes in _SUFFIXES.items():
        if path.suffix.lower() in suffixes:
            return kind
    if user_path(target).is_dir():
        return "folder"
    known = ", ".join(suffix for suffixes in _SUFFIXES.values() for suffix in suffixes)
    raise ValueError(f"{without_login(str(target))}: expected an output ending in {known}, or a folder")


def _jsonl_sink(path: Path, _fps: float, _is_live: bool) -> Sink:
    from .jsonl import JsonlSink

    return JsonlSink(_create(path), str(path))


def _video_sink(path: Path, fps: float, is_live: bool) -> Sink:
    from .video import VideoSink

    _make_folder(path.parent)
    return VideoSink(path, fps, is_live)


def _snapshot_sink(path: Path, _fps: float, _is_live: bool) -> Sink:
    from .snapshot import SnapshotSink

    _make_folder(path.parent)
    try:
        tempfile.TemporaryFile(dir=path.parent).close()  # the picture is made beside its place
        path.unlink(missing_ok=True)  # an earlier run's would pass for the present
    except OSError as error:
        raise OSError(f"{path}: cannot be written ({error.strerror})") from error
    return SnapshotSink(path)


def _folder_sink(path: Path, _fps: float, _is_live: bool) -> Sink:
    from .png import PngFolderSink

    _make_folder(path)
    return PngFolderSink(path)


_FILE_SINKS: dict[str, Callable[[Path, float, bool], Sink]] = {
    "jsonl": _jsonl_sink,
    "video": _video_sink,
    "snapshot": _snapshot_sink,
    "folder": _folder_sink,
}


def _create(path: Path) -> FileIO:
    """An empty file at `path`, opened for writing without a buffer. What was there stays when the disk is full."""
    _make_folder(path.parent)
    try:
        if path.is_file() and shutil.disk_usage(path.parent).free < _LEAST_ROOM_BYTES:
            raise OSError(errno.ENOSPC, "the disk is full, and the file that is there would be lost")
        return path.open("wb", buffering=0)
    except OSError as error:
        raise OSError(f"{path}: cannot be written ({error.strerror})") from error


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"{path}: cannot make this folder ({error.strerror})") from error


class NullSink:
    """Takes everything, keeps nothing: for measuring."""

    def write(self, result: FrameResult) -> None:
        pass

    def close(self) -> None:
        pass
