"""How a run begins: its network, the spec of that, and weights from elsewhere."""

from __future__ import annotations

import sys
from dataclasses import replace

from ..spec import SsdSpec
from .base_weights import load_base_weights
from .checkpoint import read_weights
from .models import build_model, parse_input_size


def new_model(run, options, class_names):
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
        _say(f"{run.weights}: {start_from(model, read_weights(run.weights), run.weights)}")
    if run.base_weights:
        _say(f"{run.base_weights}: new: {load_base_weights(model, run.base_weights, spec)}")
    return model, spec


def _model_options(run, options, boxes):
    """What `build_model` is told besides the class count. boxes: the spec that holds the default boxes, or None."""
    given = {
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
    options = {name: value for name, value in given.items() if value and value != usual.get(name)}
    # A classifier's weights are those of the full tail.
    return options | ({"reduced_tail": False} if run.base_weights and "mobilenet" in run.arch else {})


def _fitting(boxes, spec, path):
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


def start_from(model, weights, name):
    """Puts the state dict `weights` into `model` where names and shapes fit; the heads may be of other classes.

    name: of the file, for messages.   Returns what was taken and what is new, as text.
    Raises ValueError when the base's shapes differ, or it has none of the base.
    """
    state = model.state_dict()
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
    return "; ".join(parts)


def _part(key):
    """What a parameter belongs to: head.classification_head, neck, backbone.extra.1, ..."""
    parts = key.split(".")
    if parts[0] == "backbone":
        return ".".join(parts[: 3 if parts[1] == "extra" else 2])
    return ".".join(parts[: 2 if parts[0] == "head" else 1])


def resumed_model(run, checkpoint, class_names):
    """The network of the run in `checkpoint`, newly initialised, and its spec. Raises ValueError when `run` asks
    for another network or other classes."""
    if run.arch and run.arch != checkpoint["arch"]:
        raise ValueError(f"arch: {run.resume} holds {checkpoint['arch']}, got {run.arch}; leave --arch out")
    spec = SsdSpec.from_json(checkpoint["spec"])
    if spec.class_names != tuple(class_names):
        raise ValueError(
            f"{run.resume} was trained on the classes {', '.join(spec.class_names)}; "
            f"{run.data} has {', '.join(class_names)}"
        )
    return build_model(checkpoint["arch"], spec.num_columns, **checkpoint["options"]), spec


def _say(text):
    print(text, file=sys.stderr)
