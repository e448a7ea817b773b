"""Files that are either whole or not there, regular files alone, hashes, and what an image is called."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Union

try:
    import fcntl
except ImportError:  # not on Windows: what a killed process leaves there stays
    fcntl = None

# What a path may be given as.
StrPath = Union[str, "os.PathLike[str]"]

# Of image files, as all of OpenCV's builds read them.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
# Of images that are not read: not every build of OpenCV can, or none.
OTHER_IMAGE_SUFFIXES = (
    ".heic",
    ".heif",
    ".avif",
    ".jxl",
    ".jp2",
    ".gif",
    ".dng",
    ".cr2",
    ".nef",
    ".arw",
    ".psd",
)


# What to do where the cache cannot be used.
_OTHER_CACHE = "let XDG_CACHE_HOME name a folder that can be written to"


def natural_key(path: StrPath) -> tuple[tuple[int | str, ...], str]:
    """A key to sort paths of one folder by, numbers by their value: frame2 comes before frame10."""
    parts = re.split("([0-9]+)", os.path.basename(path))
    return tuple(int(part) if i % 2 else part for i, part in enumerate(parts)), str(path)


def count_text(count: int, noun: str) -> str:
    """ "1 image", "2 images"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def suffixes_text(suffixes: Iterable[str], most: int = 10) -> str:
    """Suffixes of files for a message, each once, in order."""
    names = sorted({suffix or "no suffix" for suffix in suffixes})
    return ", ".join([*names[:most], *(["..."] if len(names) > most else [])])


def user_cache_folder() -> Path:
    """edge_ssd in the user's cache folder; OSError where the user has no home."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edge_ssd"
    except RuntimeError:
        raise OSError(f"this user has no home folder; {_OTHER_CACHE}") from None


def cache_folder() -> Path:
    """Where downloads, and what is remembered of models, are kept: EDGE_SSD_CACHE, else `user_cache_folder`."""
    given = os.environ.get("EDGE_SSD_CACHE")
    return Path(given) if given else user_cache_folder()


def make_cache_folder(folder: Path) -> None:
    """Makes a folder below the user's cache. Raises OSError, with what to do, where it cannot be made or written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"{folder}: cannot be made ({error.strerror}); {_OTHER_CACHE}") from error
    if not os.access(folder, os.W_OK):
        raise OSError(f"{folder}: cannot be written to; {_OTHER_CACHE}")


def user_path(name: StrPath) -> Path:
    """The path that a user gave, with ~ and ~NAME as home folders. Raises ValueError where nobody has that name."""
    if "\0" in str(name):
        raise ValueError(f"{str(name)!r}: expected a path, which has no NUL")
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise ValueError(f"{name}: there is no such user, or no home folder") from None


# Of a file that is being written: NAME.RANDOM.tmp. Whoever writes it holds a lock on it; what has no lock was left
# behind by a process that is gone.
_TEMPORARY = re.compile(r".+\.[0-9a-f]{16}\.tmp")
_TRIES = 10
_BLOCK_BYTES = 1 << 20
_cleaned: set[Path] = set()  # folders that this process has looked through


@contextmanager
def replacing(path: StrPath, durable: bool = True) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its place at the end; removed when the block fails.

    The file is made here, under a name that nobody can guess or plant. What killed processes have left in the folder
    is removed.   durable: waits until the disk has it, so that a power cut leaves the old or the new file; False for
    one frame of many.
    """
    path = Path(path)
    remove_leftovers(path.parent)
    temporary, descriptor = _made_beside(path)
    try:
        yield temporary
        if durable:
            flush(temporary)
        os.replace(temporary, path)
        if durable:
            flush(path.parent)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    finally:
        os.close(descriptor)


def write_text(path: StrPath, text: str) -> None:
    """Writes a text file in UTF-8, whole or not at all; see `replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _made_beside(path: Path) -> tuple[Path, int]:
    """A new, locked file beside `path`, and its descriptor."""
    for _ in range(_TRIES):
        temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.tmp")
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        if lock(descriptor, temporary):
            return temporary, descriptor
        os.close(descriptor)  # another process took it for a leftover in the moment before it was locked
        with suppress(OSError):
            temporary.unlink()
    raise OSError(f"{path}: cannot be written, files beside it are removed at once")


def lock(descriptor: int, path: StrPath, without_locks: bool = True) -> bool:
    """Locks an open file or folder until it is closed; whether it is ours now, and still the one at `path`.

    False: somebody else holds the lock, or has removed the file since it was opened.
    without_locks: the answer where files cannot be locked.
    """
    if fcntl is None:
        return without_locks
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return without_locks
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def flush(path: StrPath) -> None:
    """Waits until the disk has a file, or the names in a folder."""
    with suppress(PermissionError):  # a folder that may be written and not read
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Removes the temporary files of `replacing` in a folder whose writers are gone; once for each process."""
    if fcntl is None or folder in _cleaned:
        return
    _cleaned.add(folder)
    with suppress(OSError):  # whoever writes next says what is wrong with the folder
        for name in [name for name in os.listdir(folder) if _TEMPORARY.fullmatch(name)]:
            with suppress(OSError):
                _remove_if_left(folder / name)


def _remove_if_left(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode) and lock(descriptor, path, without_locks=False):
            path.unlink()
    finally:
        os.close(descriptor)


def read_file(path: StrPath, most_bytes: int) -> bytes:
    """The content of a regular file; symbolic links to one are followed.

    Raises FileNotFoundError and other OSErrors; ValueError for a pipe, a device or a folder, which might never end,
    and for more than `most_bytes`.
    """
    _check_regular(path, os.stat(path), most_bytes)  # before it is opened: a device may act on that
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        _check_regular(path, status, most_bytes)
        # No more at a time: `read` allocates what it is asked for.
        parts = [file.read(status.st_size + 1)]
        # It has grown, or its file system tells no sizes.
        while parts[-1] and sum(map(len, parts)) <= most_bytes:
            parts.append(file.read(_BLOCK_BYTES))
    if sum(map(len, parts)) > most_bytes:
        raise ValueError(f"{path}: has more than the {most_bytes} bytes that are read")
    return parts[0] if len(parts) < 3 else b"".join(parts)  # the last is empty


def read_text(path: StrPath, most_bytes: int, expected: str = "a text file") -> str:
    """The text in a file, in UTF-8; a byte order mark is skipped.

    expected: what the file should be, for the message. Raises what `read_file` does, and ValueError for other bytes.
    """
    try:
        return read_file(path, most_bytes).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not {expected} ({error.reason} at byte {error.start})") from None


def _check_regular(path: StrPath, status: os.stat_result, most_bytes: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path}: expected a regular file, got {kind_of_file(status.st_mode)}")
    if status.st_size > most_bytes:
        raise ValueError(f"{path}: has {status.st_size} bytes, more than the {most_bytes} that are read")


def kind_of_file(mode: int) -> str:
    """What a file is that is not a regular one, for a message.   mode: st_mode of `os.stat`."""
    kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))
    return next((name for test, name in kinds if test(mode)), "a device")


def file_sha256(path: StrPath) -> str:
    """The SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
