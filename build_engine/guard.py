"""Around a build: one at a time into a file, room for it, and an end when the user asks for one."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from ..files import StrPath
from ..files.only_writer import only_writer

# Seen at most, of the ONNX file's size: peak memory of a TensorRT-RTX build of SSD300, beyond Python and TensorRT.
_MEMORY_SHARE, _MEMORY_BASE = 5, 512 << 20
# A derived ONNX, the engine and its temporary copy.
_DISK_SHARE, _DISK_BASE = 3, 16 << 20


def only_build(path: StrPath) -> AbstractContextManager[None]:
    """Holds the lock of the file that is being built. Raises ValueError when another build holds it."""
    return only_writer(path, "another build is writing this file", "give this one another --out")


def check_room(folder: StrPath, model_bytes: int) -> None:
    """Raises OSError or MemoryError when disk or memory will not do for a model of this size."""
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"{folder}: no such folder to write to")
    needed = _DISK_SHARE * model_bytes + _DISK_BASE
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            errno.ENOSPC,
            f"{_mib(free)} free, building needs about {_mib(needed)}; make room or give --out",
            str(folder),
        )
    needed, free = _MEMORY_SHARE * model_bytes + _MEMORY_BASE, _available_memory()
    if free is not None and free < needed:
        raise MemoryError(
            f"{_mib(free)} of memory is free, building needs about {_mib(needed)}; "
            "close other programs, or build on a larger machine of the same kind"
        )


def _mib(count: float) -> str:
    return f"{count / 2**20:.0f} MiB"


def _available_memory() -> int | None:
    """Bytes that Linux could give, None elsewhere."""
    info = Path("/proc/meminfo")
    if not info.is_file():
        return None
    for line in info.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


@contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """Gives a function that tells whether Ctrl-C or SIGTERM came; at the end, one that came is raised.

    TensorRT builds in C++ for minutes and asks its progress monitor whether to go on; an exception would not
    pass through it.
    """
    came = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {
        number: signal.signal(number, lambda number, _: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came and came[0] == signal.SIGINT:
            raise KeyboardInterrupt
        if came:
            os.kill(os.getpid(), came[0])
