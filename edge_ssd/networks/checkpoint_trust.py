"""Whether a checkpoint may be read: what torch before 2.10 cannot keep a file from doing.

`torch.load(weights_only=True)` runs no code from a file, it says. Up to 2.5.1 it could be made to (CVE-2025-32434),
before 2.10 a file could write into the memory of the process (CVE-2026-24747). Jetsons have such versions. There, a
file is read that this user's own trainings wrote, or one that is called trusted.

A hash beside the file would prove nothing, since whoever makes the one makes the other; so it is keyed: beside
last.pt lies last.pt.own, the HMAC-SHA256 of the file with a key that this user alone can read.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from pathlib import Path

import torch

from ..files import StrPath, file_sha256, replacing

SAFE_TORCH = (2, 10)

_KEY_BYTES = 32


def check_trusted(path: StrPath, trusted: bool = False) -> None:
    """Raises ValueError for a checkpoint that this torch cannot read safely: one from elsewhere, not called trusted."""
    if trusted or is_safe() or _is_own(path):
        return
    raise ValueError(
        f"{path}: comes from elsewhere, and torch {torch.__version__} does not load it safely "
        "(CVE-2025-32434, CVE-2026-24747). Install torch 2.10 or newer; or export the checkpoint where that is: "
        "edge-ssd export; or, if you trust who made it: --trust-checkpoint, "
        "Detector.load(..., trust_checkpoint=True)"
    )


def is_safe() -> bool:
    """Whether this torch reads any file without doing what the file says."""
    # TorchVersion gets its operators when torch is imported, which no checker sees.
    return torch.__version__ >= SAFE_TORCH  # pyright: ignore[reportOperatorIssue]


def sign(path: StrPath, content: StrPath) -> None:
    """Notes beside the checkpoint `path` that this user wrote it; where this torch needs no such note, nothing.

    content: the file that is about to take the name `path`. What has it now stays noted, too: a power cut between the
    two leaves one's own checkpoint, whichever it is.
    """
    if is_safe():
        return
    # Without a home that can be written to, the checkpoint is one from elsewhere.
    with suppress(OSError, RuntimeError):
        lines = [_signature(content, _key(may_make=True)), *_noted(path)[:1]]
        with replacing(_note_of(path)) as temporary:
            temporary.write_text("\n".join(lines) + "\n")


def _is_own(path: StrPath) -> bool:
    noted = _noted(path)
    if not noted:
        return False
    try:
        signature = _signature(path, _key())
    except (OSError, RuntimeError):  # RuntimeError: no home
        return False
    return any(hmac.compare_digest(line, signature) for line in noted)


def _noted(path: StrPath) -> list[str]:
    try:
        return _note_of(path).read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError):
        return []


def _note_of(path: StrPath) -> Path:
    return Path(path).with_name(f"{Path(path).name}.own")


def _signature(path: StrPath, key: bytes) -> str:
    return hmac.new(key, file_sha256(path).encode(), hashlib.sha256).hexdigest()


def _key(may_make: bool = False) -> bytes:
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "edge_ssd"
    path = folder / "checkpoint.key"
    if may_make and not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):  # another process was faster
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(_KEY_BYTES))
    status = path.stat()
    if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o077):
        raise OSError(f"{path}: expected a file that its owner alone, this user, can read")
    key = path.read_bytes()
    if len(key) != _KEY_BYTES:  # one that others could guess
        raise OSError(f"{path}: expected {_KEY_BYTES} bytes, got {len(key)}")
    return key
