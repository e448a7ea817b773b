"""Files that another file names: they lie in its folder, links resolved, and are regular files."""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath

from . import StrPath, kind_of_file


def stays_inside(name: str) -> bool:
    """Whether a name is that of a file below the folder that it is resolved in, on any system."""
    parts = PurePosixPath(name).parts
    return (
        bool(parts)
        and not name.startswith("/")
        and not any(part.strip(". ") == "" for part in parts)  # Windows takes ".. " for ".."
        and not any(character in "\\:" or character < " " for character in name)
    )


def place_inside(folder: StrPath, name: str) -> Path:
    """The path of a file called `name` below `folder`, for writing: neither the name nor a link leads out of it.

    Raises ValueError for a name that leaves the folder, and for a link that does.
    """
    if not stays_inside(name):
        raise ValueError(f"{name!r}: expected the name of a file in {folder}; it would leave that folder")
    path = Path(folder, PurePosixPath(name))
    try:
        is_inside = path.resolve().is_relative_to(Path(folder).resolve())
    except (OSError, RuntimeError) as error:  # a circle of links
        raise ValueError(f"{path}: cannot be resolved ({error})") from None
    if not is_inside:
        raise ValueError(f"{path}: is a link out of its folder; put the file itself there")
    return path


def file_inside(folder: StrPath, name: str) -> Path:
    """The path of the regular file `name` below `folder`, for reading.

    Raises what `place_inside` does, FileNotFoundError for no file, and ValueError for a folder, a pipe or a device.
    """
    path = place_inside(folder, name)
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"{path}: no such file") from None
    if not stat.S_ISREG(mode):
        raise ValueError(f"{path}: expected a regular file, got {kind_of_file(mode)}")
    return path
