"""Files that are either whole or not there, their hashes, and what an image is called."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Union

# What a path may be given as.
StrPath = Union[str, "os.PathLike[str]"]

# Of image files, as all of OpenCV's builds read them.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


def user_cache_folder() -> Path:
    """edge_ssd in the user's cache folder; RuntimeError where the user has no home."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edge_ssd"


@contextmanager
def replacing(path: StrPath) -> Iterator[Path]:
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


def file_sha256(path: StrPath) -> str:
    """The SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
