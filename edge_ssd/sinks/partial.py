"""A file under a name of its own until it is complete: what was there before stays until then, whatever happens."""

from __future__ import annotations

import logging
import os
import stat
from contextlib import suppress
from pathlib import Path

from ..files import StrPath, flush, lock

_log = logging.getLogger("edge_ssd")


def partial_path(path: StrPath) -> Path:
    """Where a video is while it is recorded: clip.partial.mp4 for clip.mp4. A killed run leaves it there."""
    path = Path(os.path.realpath(path))
    return path.with_name(f"{path.stem}.partial{path.suffix}")


def cut_off_path(path: StrPath) -> Path:
    """Where the longest recording of a killed run is moved when the next run begins: clip.cut-off.mp4."""
    path = Path(os.path.realpath(path))
    return path.with_name(f"{path.stem}.cut-off{path.suffix}")


class PartialFile:
    """A file that is being recorded, and locked as long as it is.

    path: whose place it takes in the end; behind a symbolic link, the file itself.
    partial: where it is until then; empty at first.
    Raises OSError when it cannot be made, ValueError when another run records it.
    """

    def __init__(self, path: StrPath) -> None:
        self.path, self.partial = Path(os.path.realpath(path)), partial_path(path)
        if self.path.is_dir():
            raise OSError(f"{path}: cannot be written (Is a directory)")
        try:
            self._descriptor = self._claimed(path)
        except OSError as error:
            raise OSError(f"{path}: cannot be written ({error.strerror or error})") from error

    def _claimed(self, path: StrPath) -> int:
        """A descriptor of the empty, locked file. What a killed run has left there is kept under another name."""
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        while True:
            descriptor = os.open(self.partial, flags, 0o666)
            try:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise OSError(f"{self.partial.name} is no regular file")
                if not lock(descriptor, self.partial):
                    raise ValueError(
                        f"{path}: another run is recording this file; give this one another --output"
                    )
                if status.st_size == 0:
                    return descriptor
                self._keep_longest(status.st_size)
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def _keep_longest(self, size: int) -> None:
        kept = cut_off_path(self.path)
        if kept.is_file() and kept.stat().st_size >= size:
            self.partial.unlink()
        else:
            os.replace(self.partial, kept)
            _log.warning("%s: what a run recorded that was killed", kept)

    def finish(self) -> None:
        """Gives the file its name."""
        flush(self.partial)
        os.replace(self.partial, self.path)
        flush(self.path.parent)
        os.close(self._descriptor)

    def leave(self) -> None:
        """Leaves the file where it is, incomplete."""
        os.close(self._descriptor)

    def discard(self) -> None:
        """Removes it: nothing came."""
        with suppress(OSError):
            self.partial.unlink()
        os.close(self._descriptor)
