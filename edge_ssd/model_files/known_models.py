"""Models that need no trial any more: shipped, made here, or opened before, by their SHA-256.

The list is a text file in EDGE_SSD_CACHE, else in the user's cache folder, a line for each model and engine. It is a
convenience: where it cannot be read or written, or somebody else may have written it, every model from elsewhere is
tried each time.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from .. import limits
from ..files import StrPath, cache_folder, file_sha256, read_file, replacing
from ..models import SHIPPED
from .onnx_file import BadModel

# In a line, instead of an engine: for all of them.
_MADE_HERE = "made here"
_LINE = re.compile(r"[0-9a-f]{64} [ -~]{1,100}")
_MOST_BYTES = limits.MOST_KNOWN_MODELS * 170

_log = logging.getLogger(__name__)


def digest_of(path: StrPath, file_digest: str, external: Iterable[str]) -> str:
    """The SHA-256 of a model.   file_digest: of its file.   external: the files beside it that hold its weights."""
    lines = [f"{file_sha256(Path(path).parent / name)} {name}" for name in external]
    if not lines:
        return file_digest
    return hashlib.sha256("\n".join([file_digest, *lines]).encode(errors="surrogateescape")).hexdigest()


def is_known(digest: str, engine: str) -> bool:
    """Whether a model is shipped, was made here, or has been opened by this engine.

    digest: see `digest_of`.   engine: its name and version, and whatever else a trial depends on.
    """
    if digest in SHIPPED.values():
        return True
    return not {f"{digest} {engine}", f"{digest} {_MADE_HERE}"}.isdisjoint(_lines())


def remember(digest: str, engine: str = _MADE_HERE) -> None:
    """Adds a model to the list, of which the latest ones stay. Two writers at once may lose a line, no more."""
    try:
        path = _path()
        line = f"{digest} {engine}"
        lines = [known for known in _lines() if known != line]
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with replacing(path, durable=False) as temporary:
            temporary.chmod(0o600)
            temporary.write_text(
                "\n".join([*lines, line][-limits.MOST_KNOWN_MODELS :]) + "\n", encoding="ascii"
            )
    except (OSError, RuntimeError, ValueError) as error:  # read-only, full, no home
        _log.info("the list of known models cannot be written: %s", error)


def remember_made(path: StrPath) -> None:
    """Adds an ONNX file that this machine has just made, so that it opens without a trial."""
    from .onnx_check import check_onnx

    with suppress(BadModel, OSError):  # then it is tried as any other
        remember(digest_of(path, file_sha256(path), check_onnx(path).external))


def _path() -> Path:
    return cache_folder() / "known_models.txt"


def _lines() -> list[str]:
    """The list, without lines that are damaged; empty unless it is the user's own alone."""
    try:
        path = _path()
        if not _is_own(path.lstat()):
            return []
        text = read_file(path, _MOST_BYTES).decode("ascii", "replace")
    except (OSError, RuntimeError, ValueError):
        return []
    return [line for line in text.splitlines() if _LINE.fullmatch(line)]


def _is_own(status: os.stat_result) -> bool:
    if not stat.S_ISREG(status.st_mode):
        return False
    if not hasattr(os, "getuid"):  # Windows keeps a user's cache to the user
        return True
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
