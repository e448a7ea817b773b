"""One writer at a time: a second export, build or training into the same place is refused."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from . import StrPath, lock


@contextmanager
def only_writer(path: StrPath, other: str, advice: str) -> Iterator[None]:
    """Holds the lock of a file or folder that is being written; that of a process that is gone does not count.

    other: who else would be writing, such as "another build is writing this file"; advice: what to do instead of
    waiting; both for the message.
    Raises ValueError when another process, or another part of this one, holds the lock; OSError when nothing can be
    written beside `path`.
    """
    lock_path = Path(path).with_name(f".{Path(path).name}.lock")
    descriptor = _opened(lock_path, path)
    try:
        # False, too, when the one before has removed the lock between our opening and locking it.
        if not lock(descriptor, lock_path):
            raise ValueError(f"{path}: {other}; wait for it, or {advice}")
        try:
            yield
        finally:
            with suppress(OSError):
                lock_path.unlink()
    finally:
        os.close(descriptor)


def _opened(lock_path: Path, path: StrPath) -> int:
    """A descriptor of the lock's file, made where there is none. What somebody has put there is not touched."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(lock_path, flags, 0o666)
    except OSError as error:
        raise OSError(f"{path}: cannot be written ({lock_path.name}: {error.strerror})") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError(f"{lock_path}: expected the lock of {Path(path).name}, a regular file; remove it")
    return descriptor
