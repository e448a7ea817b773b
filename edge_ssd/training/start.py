"""How a run begins: its network, the spec of that, and weights from elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..files import StrPath
from ..files.terminal import one_line
from ..networks import ARCHITECTURES, build_model, parse_input_size
from ..networks.checkpoint import load_checkpoint, read_weights
from ..networks.ssd import Ssd
from ..spec import PriorSpec, SsdSpec
from .base_weights import load_base_weights
from .options import RunOptions, TrainOptions
from .published import published_classes, weights_path

# Names that a message lists before it counts the rest.
_LISTED = 10


def new_model(run: RunOptions, options: TrainOptions, class_names: Sequence[str]) -> tuple[Ssd, SsdSpec]:
    """The network of a new run and its spec.

    run: RunOptions.   options: TrainOptions.   What of the weights that were given was left out, and what is new,
    goes to standard error. Raises ValueError and FileNotFoundError.
    """
    boxes = SsdSpec.load(options.priors) if options.priors.endswith(".json") else None
    model = build_model(run.arch, len(class_names) + 1, **_model_options(run, options, boxes))
    spec = model.spec(class_names)
    if boxes:
        spec = replace(spec, priors=_fitting(boxes, spec, options.priors))
    if run.weights:
        path = weights_path(run.weights)
        weights, names = _read_start(path, run.trust_checkpoint)
        _say(f"{path}: {start_from(model, weights, path, names, class_names)}")
    if run.base_weights:
        _say(
            f"{run.base_weights}: new: {load_base_weights(model, run.base_weights, spec, run.trust_checkpoint)}"
        )
    return model, spec


def _model_options(run: RunOptions, options: TrainOptions, boxes: SsdSpec | None) -> dict[str, Any]:
    """What `build_model` is told besides the class count. boxes: the spec that holds the default boxes, or None."""
    given: dict[str, Any] = {
        "input_size": parse_input_size(run.input_size),
        "finest_stride": run.finest_stride,
        "neck": run.neck,
        "priors": options.priors,
    }
    if boxes:
        if not boxes.priors.levels:
            raise ValueError(
                f"{options.priors}: expected default boxes by level; edge-ssd priors --out writes them"
            )
        given["priors"] = [[list(size) for size in level.sizes] for level in boxes.priors.levels]
        given["input_size"] = given["input_size"] or tuple(boxes.input.size)
    usual = {"neck": "none", "priors": "coco"}
    told = {name: value for name, value in given.items() if value and value != usual.get(name)}
    # A classifier's weights are those of the full tail.
    return told | ({"reduced_tail": False} if run.base_weights and "mobilenet" in run.arch else {})


def _fitting(boxes: SsdSpec, spec: SsdSpec, path: str) -> PriorSpec:
    """The priors of the spec `boxes`, which must be for the maps and the input of `spec`."""
    for name, found, wanted in (
        ("input", boxes.input.size, spec.input.size),
        (
            "feature maps",
            [level.feature_size for level in boxes.priors.levels],
            [level.feature_size for level in spec.priors.levels],
        ),
    ):
        if found != wanted:
            raise ValueError(f"{path}: {name}: its default boxes are for {found}, this network has {wanted}")
    return boxes.priors


def _read_start(path: Path, trusted: bool = False) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """The state dict in the checkpoint or file of weights `path`, and its class names; () where it tells none."""
    try:
        content = load_checkpoint(path, trusted)
    except ValueError:
        return read_weights(path, trusted), published_classes(path)
    return content["ema"] or content["model"], SsdSpec.from_json(content["spec"]).class_names


def start_from(
    model: Ssd,
    weights: Mapping[str, torch.Tensor],
    name: StrPath,
    names: Sequence[str] = (),
    new_names: Sequence[str] = (),
) -> str:
    """Puts the state dict `weights` into `model` where names and shapes fit; the heads may be of other classes.

    name: of the file, for messages.   names, new_names: the classes of `weights` and of `model`; a class that is
    in both keeps its rows of the heads, the others are new. Without `names` the heads are taken as they are where
    they have as many classes.   Returns what was taken and what is new, as text.
    Raises ValueError when the base's shapes differ, or it has none of the base.
    """
    state = model.state_dict()
    same = tuple(names) == tuple(new_names)
    if names and not same:
        weights = _with_new_classes(model, weights, list(names), list(new_names))
    fitting = {
        key: tensor for key, tensor in weights.items() if key in state and tensor.shape == state[key].shape
    }
    for key, tensor in weights.items():
        if key in state and key not in fitting and not key.startswith("head."):
            raise ValueError(
                f"{name}: {key}: {model.arch} expects shape {tuple(state[key].shape)}, got {tuple(tensor.shape)}"
            )
    if not any(key.startswith("backbone.") for key in fitting):
        raise ValueError(f"{name}: holds no weights of {model.arch}")
    model.load_state_dict(fitting, strict=False)
    new = sorted({_part(key) for key in state if key not in fitting})
    unused = sorted({_part(key) for key in weights if key not in state})
    parts = [f"{len(fitting)} of {len(state)} tensors taken"]
    parts += [f"new: {', '.join(new)}"] * bool(new) + [f"not used: {', '.join(unused)}"] * bool(unused)
    if any(key in fitting for key in _class_layers(model)):
        parts += _class_text(names, new_names)
    return "; ".join(parts)


def _with_new_classes(
    model: Ssd, weights: Mapping[str, torch.Tensor], names: list[str], new_names: list[str]
) -> dict[str, torch.Tensor]:
    """`weights` with the rows of their class heads that are of a class of `model`, the others from `model`; without
    the class heads where no class is in both or the boxes of a cell differ."""
    state, mixed = model.state_dict(), dict(weights)
    columns, new_columns = len(names) + 1, len(new_names) + 1
    new = [i for i, name in enumerate(new_names, 1) if name in names]
    old = [names.index(new_names[i - 1]) + 1 for i in new]
    for key in _class_layers(model):
        tensor = mixed.pop(key, None)
        boxes = state[key].shape[0] // new_columns
        if tensor is None or not new or tensor.shape != (boxes * columns, *state[key].shape[1:]):
            continue
        # Rows: box of a cell, then class; class 0 is background.
        merged = state[key].reshape(boxes, new_columns, -1).clone()
        merged[:, [0, *new]] = tensor.reshape(boxes, columns, -1)[:, [0, *old]].to(merged.dtype)
        mixed[key] = merged.view(state[key].shape)
    return mixed


def _class_layers(model: Ssd) -> Iterator[str]:
    """Names of the parameters that have rows for each class: of the last convolution of each predictor."""
    for k, predictor in enumerate(model.head.classification_head.module_list):
        last = [name for name, layer in predictor.named_modules() if isinstance(layer, nn.Conv2d)][-1]
        path = ".".join(filter(None, ("head.classification_head.module_list", str(k), last)))
        yield from (f"{path}.weight", f"{path}.bias")


def _class_text(names: Sequence[str], new_names: Sequence[str]) -> list[str]:
    """Which classes of the heads were taken, as parts of a message."""
    if not names:
        return ["classes taken by their number: the file does not name them"]
    taken = [name for name in new_names if name in names]
    new = [name for name in new_names if name not in names]
    return [f"classes taken: {_listed(taken)}"] + [f"new: {_listed(new)}"] * bool(new)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def _part(key: str) -> str:
    """What a parameter belongs to: head.classification_head, neck, backbone.extra.1, ..."""
    parts = key.split(".")
    if parts[0] == "backbone":
        return ".".join(parts[: 3 if parts[1] == "extra" else 2])
    return ".".join(parts[: 2 if parts[0] == "head" else 1])


def resumed_model(
    run: RunOptions, checkpoint: Mapping[str, Any], class_names: Sequence[str], priors: str = ""
) -> tuple[Ssd, SsdSpec]:
    """The network of the run in `checkpoint`, newly initialised, and its spec.

    run: RunOptions.   priors: those that were given for the resumed run, empty when none were.
    Raises ValueError when another network, other default boxes or other classes are asked for.
    """
    spec = SsdSpec.from_json(checkpoint["spec"])
    for name, given, found in _asked_for(run, checkpoint, spec, priors):
        if given != found:
            option = name.replace("_", "-")
            raise ValueError(f"{name}: {run.resume} holds {found}, got {given}; leave --{option} out")
    if spec.class_names != tuple(class_names):
        raise ValueError(
            f"{run.resume} was trained on the classes {', '.join(spec.class_names)}; "
            f"{run.data} has {', '.join(class_names)}"
        )
    return build_model(checkpoint["arch"], spec.num_columns, **checkpoint["options"]), spec


def _asked_for(
    run: RunOptions, checkpoint: Mapping[str, Any], spec: SsdSpec, priors: str
) -> Iterator[tuple[str, Any, Any]]:
    """What of the network was given besides --resume: (name, given, found in the checkpoint)."""
    arch, options = checkpoint["arch"], checkpoint["options"]
    if run.arch:
        yield "arch", run.arch, arch
    if size := parse_input_size(run.input_size):
        size = (size, size) if isinstance(size, int) else size
        yield "input_size", "{}x{}".format(*size), "{}x{}".format(*spec.input.size)
    if run.finest_stride:
        usual = ARCHITECTURES[arch].finest_strides[0]
        yield "finest_stride", run.finest_stride, options.get("finest_stride", usual)
    if run.neck:
        yield "neck", run.neck, options.get("neck", "none")
    if priors:
        found = options.get("priors", "coco")
        if not isinstance(found, str):  # boxes of a file, which may lie elsewhere now
            found = "boxes of a file"
            if priors.endswith(".json") and SsdSpec.load(priors).priors == spec.priors:
                found = priors
        yield "priors", priors, found


def _say(text: str) -> None:
    print(one_line(text), file=sys.stderr)
