"""A bundle from elsewhere, unpacked: whole, inside its folder and within limits, or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from .. import limits
from ..files import flush, lock, make_cache_folder
from ..files.archive import BrokenArchive, blocks_of, entries_of, open_archive, read_entry
from ..files.inside import stays_inside
from ..files.json_fields import parse_json

FORMAT = "edge_ssd-bundle/1"
INDEX = "bundle.json"
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_UNPACKING = ".unpacking-"
_TRIES = 10


def unpack(path: Path, folder: Path) -> None:
    """Unpacks the bundle `path` into the new folder `folder`, whole or not at all.

    Raises ValueError naming the bundle for one that is damaged or refused; OSError when there is no room.
    """
    make_cache_folder(folder.parent)
    with _folder_beside(folder) as temporary:
        with _named(path), open_archive(path) as archive:
            content, index = read_index(archive, path.stat().st_size)
            entries = entries_of(archive, _METHODS)
            needed = sum(entries[name].file_size for name in index["files"])
            _check_room(path, folder.parent, needed)
            for name, digest in index["files"].items():
                _extract(archive, entries[name], digest, temporary / name)
        (temporary / INDEX).write_bytes(content)
        for place in (temporary / INDEX, temporary):
            flush(place)
        try:
            temporary.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster, with the same content
                raise
        flush(folder.parent)


def check_bundle(path: Path) -> None:
    """Raises ValueError naming the bundle `path` for one that `unpack` would refuse by what it claims."""
    with _named(path), open_archive(path) as archive:
        read_index(archive, path.stat().st_size)


def read_index(archive: zipfile.ZipFile, archive_bytes: int) -> tuple[bytes, dict[str, Any]]:
    """The index of a bundle as bytes and as what they say, checked against the entries.

    Raises BrokenArchive or ValueError, without the path.
    """
    entries = entries_of(archive, _METHODS)
    if INDEX not in entries:
        raise BrokenArchive(f"there is no {INDEX} in it")
    content = read_entry(archive, entries[INDEX], limits.MOST_INDEX_BYTES)
    try:
        index = parse_json(content.decode("utf-8"))
    except ValueError as error:
        raise BrokenArchive(f"{INDEX}: {error}") from None
    _check_types(index)
    _check_names(index)
    for name in index["files"]:
        if name not in entries:
            raise BrokenArchive(f"{name!r} is listed and not in it")
    _check_kinds(index)
    _check_sizes([entries[name].file_size for name in index["files"]], archive_bytes)
    return content, index


def _check_types(index: Any) -> None:
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise ValueError(f"not a bundle of edge-ssd bundle (format {FORMAT!r} expected)")
    for key, kind in (("model", str), ("engines", list), ("files", dict)):
        if not isinstance(index.get(key), kind):
            raise ValueError(f"{INDEX}: {key} is missing, or no {kind.__name__}")
    if not isinstance(index.get("run", []), list):
        raise ValueError(f"{INDEX}: run is no list")
    if not all(isinstance(digest, str) for digest in index["files"].values()):
        raise ValueError(f"{INDEX}: files: expected a hash for each")


def _check_names(index: dict[str, Any]) -> None:
    files = index["files"]
    if len(files) > limits.MOST_BUNDLE_FILES:
        raise ValueError(
            f"{INDEX}: lists {len(files)} files, more than the {limits.MOST_BUNDLE_FILES} that are read"
        )
    for name in (index["model"], *index["engines"], *index.get("run", [])):
        if not isinstance(name, str) or name not in files:
            raise ValueError(f"{repr(name)[:80]} is named and not there")
    for name in files:
        if not stays_inside(name):
            raise ValueError(f"{name!r} would leave the folder that it is unpacked into; refused")
    _check_apart([PurePosixPath(name) for name in (INDEX, *files)])


def _check_kinds(index: dict[str, Any]) -> None:
    """Raises ValueError for a name of what is to be run that is of another kind: a bundle holds no checkpoint."""
    engines, run = index["engines"], index.get("run", [])
    for names, suffixes in (
        ((index["model"],), (".onnx",)),
        (engines, (".engine",)),
        (run, (".onnx", ".engine")),
    ):
        for name in names:
            if not name.endswith(suffixes):
                raise ValueError(f"{name!r}: expected a name that ends in {' or '.join(suffixes)}")


def _check_apart(paths: list[PurePosixPath]) -> None:
    """Raises ValueError where two names are of one file, or one is the folder of another."""
    places: set[PurePosixPath] = set()
    for path in paths:
        if path in places:
            raise ValueError(f"{INDEX}: {str(path)!r} is listed twice")
        places.add(path)
    for path in paths:
        folder = next((parent for parent in path.parents if parent in places), None)
        if folder is not None:
            raise ValueError(f"{INDEX}: {str(folder)!r} is a file and the folder of {str(path)!r}")


def _check_sizes(sizes: list[int], archive_bytes: int) -> None:
    total = sum(sizes)
    if total > limits.MOST_BUNDLE_BYTES:
        raise ValueError(f"unpacks to more than {limits.MOST_BUNDLE_BYTES >> 30} GiB; refused")
    if total > max(limits.HARMLESS_BUNDLE_BYTES, limits.MOST_BUNDLE_RATIO * archive_bytes):
        raise ValueError(
            f"unpacks to {total / max(1, archive_bytes):.0f} times its size, more than "
            f"{limits.MOST_BUNDLE_RATIO} times; refused"
        )


def _check_room(path: Path, folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            errno.ENOSPC,
            f"{needed / 1e6:.0f} MB are needed to unpack {path.name}, {free / 1e6:.0f} MB are free; make room, or let "
            "XDG_CACHE_HOME name another disk",
            str(folder),
        )


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, digest: str, target: Path) -> None:
    if entry.is_dir():
        raise BrokenArchive(f"{entry.filename!r} is a folder")
    seen = hashlib.sha256()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            for block in blocks_of(archive, entry):
                seen.update(block)
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(
            error.errno, f"{error.strerror}; {entry.filename!r} was not unpacked", str(target.parent)
        ) from None
    if seen.hexdigest() != digest:
        raise ValueError(f"{entry.filename!r} is not what was packed; copy the bundle again")


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Around the reading of a bundle: its errors name it."""
    try:
        yield
    except BrokenArchive as error:
        raise ValueError(f"{path}: not a whole bundle of edge-ssd bundle ({error})") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


@contextmanager
def _folder_beside(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder`, locked as long as the block runs; gone at the end unless it was renamed.

    Those of processes that are gone are removed.
    """
    for left in folder.parent.glob(f"{_UNPACKING}*"):
        with suppress(OSError):
            _remove_if_left(left)
    temporary, descriptor = _new_folder(folder.parent)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(descriptor)


def _new_folder(parent: Path) -> tuple[Path, int]:
    for _ in range(_TRIES):
        temporary = Path(tempfile.mkdtemp(dir=parent, prefix=_UNPACKING))
        with suppress(FileNotFoundError):  # as below
            descriptor = os.open(temporary, os.O_RDONLY)
            if lock(descriptor, temporary):
                return temporary, descriptor
            os.close(descriptor)  # another process took it for a leftover in the moment before it was locked
    raise OSError(f"{parent}: cannot be written, folders in it are removed at once")


def _remove_if_left(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0))
    try:
        if lock(descriptor, folder, without_locks=False):
            shutil.rmtree(folder)
    finally:
        os.close(descriptor)
