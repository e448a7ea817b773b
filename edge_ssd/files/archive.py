"""Zip files from elsewhere: read within limits, and every way to be broken is one error."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from .. import limits
from . import StrPath, kind_of_file

_BLOCK_BYTES = 1 << 20


class BrokenArchive(ValueError):
    """A zip file that cannot be read; the text says why, without the path."""


@contextmanager
def open_archive(path: StrPath) -> Iterator[zipfile.ZipFile]:
    """The zip file at `path`, its list of entries read.

    Raises BrokenArchive, ValueError for what is no regular file, OSError.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        raise ValueError(f"expected a regular file, got {kind_of_file(mode)}")
    with _Reader(io.FileIO(path)) as file:
        with _breakage_said():
            archive = zipfile.ZipFile(file)
        with archive:
            yield archive


def entries_of(archive: zipfile.ZipFile, methods: Collection[int]) -> dict[str, zipfile.ZipInfo]:
    """{name: entry} of a zip file.

    methods: of compression, as `zipfile` numbers them, that are read. Raises BrokenArchive for an entry that is
    encrypted or compressed in another way, and for a name that is there twice.
    """
    found: dict[str, zipfile.ZipInfo] = {}
    for entry in archive.infolist():
        if entry.filename in found:
            raise BrokenArchive(f"{entry.filename!r} is there twice")
        if entry.flag_bits & 1:
            raise BrokenArchive(f"{entry.filename!r} is encrypted")
        if entry.compress_type not in methods:
            raise BrokenArchive(f"{entry.filename!r} is compressed by method {entry.compress_type}")
        found[entry.filename] = entry
    return found


def read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, most_bytes: int) -> bytes:
    """The content of an entry. Raises ValueError when it unpacks to more than `most_bytes`, BrokenArchive."""
    with _breakage_said(), archive.open(entry) as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(f"{entry.filename}: unpacks to more than {most_bytes} bytes; refused")
    return content


def blocks_of(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    """The content of an entry in blocks, never more than it claims. Raises BrokenArchive, also when it is less."""
    came = 0
    with _breakage_said():
        file = archive.open(entry)
    with file:
        while True:
            with _breakage_said():
                block = file.read(_BLOCK_BYTES)
            if not block:
                break
            came += len(block)
            if came > entry.file_size:
                break
            yield block
    if came != entry.file_size:
        raise BrokenArchive(f"{entry.filename!r} claims {entry.file_size} bytes and holds others")


class _Reader(io.BufferedReader):
    """A file that hands out some megabytes at once: `zipfile` reads the list of entries whatever size it claims."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > limits.MOST_ARCHIVE_LIST_BYTES:
            raise zipfile.BadZipFile(f"a list of entries of {size} bytes")
        return super().read(size)


@contextmanager
def _breakage_said() -> Iterator[None]:
    """Around what `zipfile` and the decompressors do: they raise a dozen kinds of errors for bytes that are no zip."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        reason = " ".join(str(error).strip("'\"").split()) or type(error).__name__
        raise BrokenArchive(reason[:200]) from None
