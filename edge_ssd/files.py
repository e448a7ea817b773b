"""Files that are either whole or not there."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path):
    """A temporary path beside `path`, which takes its place at the end; removed when the block fails."""
    path = Path(path)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
