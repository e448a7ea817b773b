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
from .checkpoint_check import check_content, check_file, check_weights
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
        shown = (
            repr(found[:60]) if isinstance(found, str) else "None" if found is None else type(found).__name__
        )
        raise ValueError(
            f"{path}: expected format {FORMAT!r}, got {shown}; is it a file of plain weights? "
            "Train from it: edge-ssd train --weights"
        )
    try:
        check_content(content)
    except ValueError as error:
        raise ValueError(f"{path}: not a whole checkpoint: {error}") from None
    _check_network(content, path)
    return content


def _check_network(content: Mapping[str, Any], path: StrPath) -> None:
    """Raises ValueError for a network that cannot be built, or that the weights of the checkpoint are not of."""
    try:
        spec = SsdSpec.from_json(content["spec"])
        with torch.device("meta"):  # without memory: it may ask for a network far larger than its weights
            model = build_model(content["arch"], spec.num_columns, **content["options"])
    except MemoryError:
        raise
    except TypeError as error:
        raise ValueError(f"{path}: was made by another version of edge_ssd ({error})") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    except Exception as error:  # options are what the file says
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{path}: options: {content['arch']} cannot be built with them ({reason})") from None
    check_shapes(model, content["model"], path)


def read_weights(path: StrPath, trusted: bool = False) -> dict[str, torch.Tensor]:
    """The state dict in a checkpoint (the averaged one, where there is one) or in a file of plain weights.

    trusted: as of `load_checkpoint`.
    Raises FileNotFoundError, or ValueError for a file that holds neither or is not trusted.
    """
    content = _read(path, trusted)
    try:
        if isinstance(content, dict) and content.get("format") == FORMAT:
            check_content(content)
            return content["ema"] or content["model"]
        check_weights("expected a checkpoint or a dictionary of tensors by name", content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return content


def _read(path: StrPath, trusted: bool) -> Any:
    """What torch finds in a file without running code from it."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint")
    check_file(path)
    check_trusted(path, trusted)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own words about a file of another kind, beside ours
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(
            f"{path}: expected a checkpoint of edge-ssd train, got a pickle of other objects; it was not run"
        ) from None
    except MemoryError:
        raise
    except Exception:  # the reader trusts what it unpickles, so a broken file ends in any error
        raise ValueError(
            f"{path}: not a readable checkpoint; it is cut off, or no checkpoint at all"
        ) from None


def load_model(path: StrPath, trusted: bool = False) -> tuple[Ssd, SsdSpec]:
    """The network in the checkpoint `path`, in evaluation mode, and its spec.

    The averaged weights where the run kept them.   trusted: as of `load_checkpoint`.
    Returns Ssd, SsdSpec. Raises as `load_checkpoint`.
    """
    content = load_checkpoint(path, trusted)
    spec = SsdSpec.from_json(content["spec"])
    model = build_model(content["arch"], spec.num_columns, **content["options"])
    load_weights(model, content["ema"] or content["model"], path)
    return model.eval(), spec


def load_weights(model: Ssd, weights: Mapping[str, torch.Tensor], name: StrPath) -> None:
    """Puts the state dict `weights` into `model`. Raises ValueError naming the first parameter that does not fit.

    name: of the file, for the message.
    """
    check_shapes(model, weights, name)
    model.load_state_dict(weights)


def check_shapes(model: Ssd, weights: Mapping[str, torch.Tensor], name: StrPath) -> None:
    """Raises ValueError naming the first parameter of a network that the state dict lacks, or has in another shape.

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
