"""What a checkpoint claims, against what its file has: before torch reads it, and of what torch has read."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from .. import limits
from ..files.archive import BrokenArchive, entries_of, open_archive

_ZIP_START = b"PK\3\4"  # by which torch tells its own format from the one before 1.6

# Of the fields that a checkpoint of `edge-ssd train` has; those of a run are missing in one of weights alone.
_REQUIRED = {"arch": str, "options": dict, "spec": str}
_OF_A_RUN = {
    "epoch": int,
    "ema_steps": int,
    "optimizer": dict,
    "training": dict,
    "origin": dict,
    "metrics": dict,
}


def check_file(path: Path) -> None:
    """Raises ValueError for a file that would take far more memory than it has bytes.

    torch stores tensors as they are; a file that is compressed, or claims more than it has, is none of torch's.
    """
    size = path.stat().st_size
    if size > limits.MOST_CHECKPOINT_BYTES:
        raise ValueError(
            f"{path}: has {size / 1e9:.1f} GB, more than the {limits.MOST_CHECKPOINT_BYTES / 1e9:.1f} GB that are read"
        )
    with path.open("rb") as file:
        if file.read(len(_ZIP_START)) != _ZIP_START:
            return
    try:
        with open_archive(path) as archive:
            claimed = sum(entry.file_size for entry in entries_of(archive, (zipfile.ZIP_STORED,)).values())
    except BrokenArchive as error:
        raise ValueError(
            f"{path}: not a readable checkpoint ({error}); it is cut off, or no checkpoint at all"
        ) from None
    if claimed > size:
        raise ValueError(
            f"{path}: not a readable checkpoint; it has {size} bytes and claims to hold {claimed}"
        )


def check_content(content: Mapping[str, Any]) -> None:
    """Raises ValueError, without the path, for a checkpoint of ours with fields of other types than training writes."""
    for name, kind in _REQUIRED.items():
        if name not in content:
            raise ValueError(f"{name} is missing")
        _check_type(name, content[name], kind)
    for name, kind in _OF_A_RUN.items():
        if name in content:
            _check_type(name, content[name], kind)
    if content.get("epoch", 0) < 0:
        raise ValueError(f"epoch: expected 0 or more, got {content['epoch']}")
    for name in ("options", "training", "origin"):
        if not all(isinstance(key, str) for key in content.get(name, ())):
            raise ValueError(f"{name}: expected names, got a key of another type")
    if not all(isinstance(value, str) for value in content.get("origin", {}).values()):
        raise ValueError("origin: expected texts")
    for name in ("model", "ema"):
        if name not in content:
            raise ValueError(f"{name} is missing")
    check_weights("model", content["model"])
    if content["ema"] is not None:
        check_weights("ema", content["ema"])


def check_weights(name: str, weights: Any) -> None:
    """Raises ValueError unless it is a dictionary of tensors by name, each with as many numbers as it claims."""
    if not isinstance(weights, dict):
        raise ValueError(f"{name}: expected a dictionary of tensors by name, got {type(weights).__name__}")
    for key, tensor in weights.items():
        if not isinstance(key, str) or not isinstance(tensor, torch.Tensor):
            raise ValueError(
                f"{name}: expected a dictionary of tensors by name, with {str(key)[:60]!r} it is none"
            )
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
            raise ValueError(f"{name}: {key[:60]!r}: expected a plain tensor")
        # One with steps of 0 claims any size.
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise ValueError(f"{name}: {key[:60]!r} claims more numbers than the file has")


def _check_type(name: str, value: Any, kind: type) -> None:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{name}: expected {kind.__name__}, got {type(value).__name__}")
