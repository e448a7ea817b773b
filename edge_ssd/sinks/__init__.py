"""Sinks: where the results of a run go. `open_sink` chooses by the name of the output."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from urllib.parse import unquote

from ..files import StrPath
from ..sources.address import local_path, without_login
from .sink import FrameResult, Sink

__all__ = ["FrameResult", "NullSink", "Sink", "kind_of_output", "open_sink"]

_SUFFIXES = {
    "jsonl": (".jsonl",),
    "video": (".mp4", ".mov", ".mkv", ".avi"),
    "snapshot": (".png", ".jpg"),
}

# What is there instead of an output that is an address or a device.
_INSTEAD = (
    "known: F.jsonl, F.mp4, F.png, a folder for PNG files, - (JSON lines on standard output), null; "
    "a picture for a robot without a screen: --output now.png; a window: --show"
)
# Below /dev, memory that holds files.
_DEVICES, _FILES_IN_MEMORY = Path("/dev"), Path("/dev/shm")

# Room for some lines at least, before an older file of theirs is emptied.
_LEAST_ROOM_BYTES = 64 << 10


def open_sink(target: StrPath, fps: float = 0.0, is_live: bool = False) -> Sink:
    """The sink of an output: "-" (JSON lines on standard output), F.jsonl, F.mp4 (.mov, .mkv, .avi), F.png
    (the latest frame), a folder for PNG files (a name without a suffix), "null", or "window". Paths may be given as
    file://...

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
    return _FILE_SINKS[kind](local_path(str(target)), fps, is_live)


def kind_of_output(target: StrPath) -> str:
    """What kind of output a name stands for: "-", "null", "window", "jsonl", "video", "snapshot" or "folder".

    Raises ValueError naming the known ones for a suffix that is none of them, an address, a device or nothing at all.
    """
    if isinstance(target, str) and target in ("-", "null", "window"):
        return target
    shown, (scheme, mark, rest) = without_login(str(target)), str(target).partition("://")
    if not (rest if mark else scheme).strip():
        raise ValueError(f"{shown!r}: is empty; {_INSTEAD}")
    if mark and "/" not in scheme and scheme.lower() != "file":
        raise ValueError(f"{shown}: no output of kind {scheme}://; {_INSTEAD}")
    path = Path(unquote(rest) if mark and scheme.lower() == "file" else target)
    if path.is_relative_to(_DEVICES) and not path.is_relative_to(_FILES_IN_MEMORY):
        raise ValueError(f"{shown}: no output to a device; {_INSTEAD}")
    if not path.suffix or str(target).endswith("/"):
        return "folder"
    for kind, suffixes in _SUFFIXES.items():
        if path.suffix.lower() in suffixes:
            return kind
    if local_path(str(target)).is_dir():
        return "folder"
    known = ", ".join(suffix for suffixes in _SUFFIXES.values() for suffix in suffixes)
    raise ValueError(f"{shown}: expected an output ending in {known}, or a folder")


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
