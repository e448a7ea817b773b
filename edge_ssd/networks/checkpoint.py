"""Checkpoints: all that a run needs to go on, and a detector to run, in one file of plain types and tensors."""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..files import StrPath, replacing
from ..spec import SsdSpec
from . import build_model
from .checkpoint_trust import check_trusted, sign
from .ssd import Ssd

FORMAT = "edge_ssd/checkpoint-1"


def save_checkpoint(path: StrPath, model: Ssd, spec: SsdSpec, **state: Any) -> None:
    """Writes a checkpoint to `path`; the last one stays when that fails half-way.

    model: Ssd.   spec: its SsdSpec.
    state: what else belongs to the run: ema, optimizer, epoch, ... (plain types and tensors).
    Raises OSError when it cannot be written.
    """
    content = {
        "format": FORMAT,
        "arch": model.arch,
        "options": model.options,
        "spec": spec.to_json(),
        "model": model.state_dict(),
        "ema": None,
        **state,
    }
    try:
        with replacing(path) as temporary, temporary.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())  # or a power cut may leave the new name on an empty file
            sign(path, temporary)
    except RuntimeError as error:  # what torch makes of a full disk
        kept = "; the last one stays" if Path(path).exists() else ""
        raise OSError(f"{path}: could not be written{kept}. Is the disk full? ({error})") from error


def load_checkpoint(path: StrPath, trusted: bool = False) -> dict[str, Any]:
    """The dictionary in the checkpoint `path`, on the CPU. Runs no code from the file.

    trusted: read it with a torch before 2.10, too, which cannot promise that; see `checkpoint_trust`.
    Raises FileNotFoundError, or ValueError for a file that is cut off, of another kind, holds code or is not trusted.
    """
    content = _read(path, trusted)
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise ValueError(
            f"{path}: expected format {FORMAT!r}, got {found!r}; is it a file of plain weights? "
            "Train from it: edge-ssd train --weights"
        )
    return content


def read_weights(path: StrPath, trusted: bool = False) -> dict[str, torch.Tensor]:
    """The state dict in a checkpoint (the averaged one, where there is one) or in a file of plain weights.

    trusted: as of `load_checkpoint`.
    Raises FileNotFoundError, or ValueError for a file that holds neither or is not trusted.
    """
    content = _read(path, trusted)
    if isinstance(content, dict) and content.get("format") == FORMAT:
        return content["ema"] or content["model"]
    if not isinstance(content, dict) or not all(isinstance(v, torch.Tensor) for v in content.values()):
        raise ValueError(f"{path}: expected a checkpoint or a dictionary of tensors by name")
    return content


def _read(path: StrPath, trusted: bool) -> Any:
    """What torch finds in a file without running code from it."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint")
    check_trusted(path, trusted)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own words about a file of another kind, beside ours
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(
            f"{path}: expected a checkpoint of edge-ssd train, got a pickle of other objects; it was not run"
        ) from None
    except (RuntimeError, EOFError, OSError, KeyError, ValueError, AttributeError, TypeError):
        raise ValueError(
            f"{path}: not a readable checkpoint; it is cut off, or no checkpoint at all"
        ) from None


def load_model(path: StrPath, trusted: bool = False) -> tuple[Ssd, SsdSpec]:
    """The network in the checkpoint `path`, in evaluation mode, and its spec.

    The averaged weights where the run kept them.   trusted: as of `load_checkpoint`.
    Returns Ssd, SsdSpec. Raises as `load_checkpoint`.
    """
    content = load_checkpoint(path, trusted)
    try:
        spec = SsdSpec.from_json(content["spec"])
        model = build_model(content["arch"], spec.num_columns, **content["options"])
    except TypeError as error:
        raise ValueError(f"{path}: was made by another version of edge_ssd ({error})") from None
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None
    load_weights(model, content["ema"] or content["model"], path)
    return model.eval(), spec


def load_weights(model: Ssd, weights: Mapping[str, torch.Tensor], name: StrPath) -> None:
    """Puts the state dict `weights` into `model`. Raises ValueError naming the first parameter that does not fit.

    name: of the file, for the message.
    """
    expected = model.state_dict()
    for key in (*expected, *weights):
        found, wanted = (tuple(d[key].shape) if key in d else "none" for d in (weights, expected))
        if found != wanted:
            raise ValueError(
                f"{name}: {key}: {model.arch} with {model.num_classes} classes (background included) "
                f"expects shape {wanted}, got {found}"
            )
    model.load_state_dict(weights)
