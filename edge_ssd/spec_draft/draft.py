"""The draft itself, from what the model tells and what the user says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..datasets.dataset import is_background
from ..files import StrPath
from ..files.json_fields import finite_numbers
from ..priors import make_priors
from ..spec import InputSpec, OutputSpec, PostprocessSpec, PriorLevel, PriorSpec, SsdSpec
from .heads import Heads, are_boxes, are_in_pixels, find_heads
from .layouts import NAMES, known_levels
from .network import run_on_noise
from .options import DraftOptions, assumed, with_usual
from .trial import try_spec


def draft_spec(path: StrPath, options: DraftOptions) -> tuple[SsdSpec, list[str]]:
    """The spec of the ONNX model `path` as far as it can be told, and a list of what was guessed.

    The network is run on noise: x1 < x2 and y1 < y2 everywhere are finished boxes, conf within 0..1 holds probabilities
    already, and the first or last column is background when it wins for most priors. At last it is run as
    `edge-ssd run` does.

    Returns SsdSpec, list of str. Raises ValueError saying which option is missing, or what a run would refuse.
    """
    spec, guesses = sketch_spec(path, options)
    try_spec(Path(path), spec)
    return spec, guesses


def sketch_spec(path: StrPath, options: DraftOptions) -> tuple[SsdSpec, list[str]]:
    """As `draft_spec`, before it is run."""
    path = Path(path)
    network = run_on_noise(path, options.size)
    heads = find_heads(network, options)
    guesses: list[str] = []
    coding = options.box_coding or _box_coding(path, heads, options, guesses)
    priors = PriorSpec() if coding == "corners" else _priors(heads, options, network.size, guesses)
    if coding == "corners":
        options = replace(options, loc_order="cxcywh", variance=(1.0, 1.0))
    if network.dtype == "uint8":
        options = replace(options, mean=(0.0,), std=(1.0,))
    conf = heads.conf_values[0]
    activation = options.activation or _activation(heads, guesses)
    names, background = _classes(conf, options, guesses)
    guesses += assumed(options)
    options = with_usual(options)
    spec = SsdSpec(
        name=path.stem,
        input=InputSpec(
            network.input_name,
            *network.size,
            options.color or "",
            _three(options.mean or (), "mean"),
            _three(options.std or (), "std"),
            options.resize or "",
            layout=network.layout,
            dtype=network.dtype,
            batch_axis=network.batch_axis,
        ),
        outputs=OutputSpec(heads.loc, heads.conf),
        class_names=names,
        background_index=background,
        score_activation=activation,
        loc_order=options.loc_order or "",
        variance=options.variance or (0.1, 0.2),
        priors=priors,
        postprocess=PostprocessSpec(
            options.score_threshold or 0.0,
            options.iou_threshold or 0.0,
            options.top_k or 0,
            options.max_detections or 0,
        ),
        box_coding=coding,
        loc_layout=heads.loc_layout,
        conf_layout=heads.conf_layout,
        folder=str(path.parent),
    )
    _check_counts(spec, heads, options)
    return spec, guesses


def _box_coding(path: Path, heads: Heads, options: DraftOptions, guesses: list[str]) -> str:
    if not are_boxes(heads.loc_values):
        return "center_size"
    shown = f"{_listed(heads.loc)} holds finished boxes, x1 < x2 and y1 < y2 for each of {heads.count} on any image"
    if are_in_pixels(heads.loc_values):
        raise ValueError(
            f"{path}: {shown}, in pixels. Divide them by the input's width and height in the export, or export raw "
            "offsets (pytorch-ssd: is_test=False)"
        )
    left = (
        ""
        if not (options.levels or options.priors or options.priors_file)
        else ", and the given ones are left out"
    )
    guesses.append(
        f"box_coding: corners; {shown}. They are read as x1 y1 x2 y2: where the model gives y first, as those of "
        f"TensorFlow do, swap them in the export. They need no priors{left}; for offsets after all: --box-coding "
        "center_size"
    )
    return "corners"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)


def _priors(
    heads: Heads, options: DraftOptions, input_size: tuple[int, int], guesses: list[str]
) -> PriorSpec:
    if options.priors is not None:
        return options.priors
    if options.priors_file:
        return PriorSpec(file=options.priors_file)
    name = options.levels[0] if len(options.levels) == 1 and ":" not in options.levels[0] else ""
    if name in NAMES or not options.levels:
        return PriorSpec(known_levels(heads.count, input_size, heads.columns, name, guesses))
    return PriorSpec(_levels(options, input_size))


def _levels(options: DraftOptions, input_size: tuple[int, int]) -> tuple[PriorLevel, ...]:
    height, width = input_size
    levels = []
    for text in options.levels:
        step, _, sizes = text.partition(":")
        try:
            step = float(step)
            rows, columns = math.ceil(height / step), math.ceil(width / step)
            boxes = tuple(_box_size(part) for part in sizes.split(","))
        except (ValueError, ZeroDivisionError, OverflowError):
            raise ValueError(
                f"--levels: expected STEP:SIZE,SIZE,... such as 16:32,48 or 16:32x64, or one of {', '.join(NAMES)}, "
                f"got {text!r}"
            ) from None
        even = (height / rows, width / columns)
        steps = even if options.cell_spacing == "even" else (step, step)
        levels.append(PriorLevel((rows, columns), steps, boxes))
    return tuple(levels)


def _box_size(text: str) -> tuple[float, float]:
    width, _, height = text.partition("x")
    return float(width), float(height or width)


def _activation(heads: Heads, guesses: list[str]) -> str:
    if any(conf.min() < 0 or conf.max() > 1 for conf in heads.conf_values):
        guesses.append(
            "score_activation: conf holds logits; softmax is usual, for sigmoid (TensorFlow): --activation sigmoid"
        )
        return "softmax"
    guesses.append(
        "score_activation: conf lies in 0..1, so it holds probabilities already; if not: --activation softmax"
    )
    return "none"


def _classes(
    conf: np.ndarray, options: DraftOptions, guesses: list[str]
) -> tuple[tuple[str, ...], int | None]:
    """The foreground classes, and the column of background."""
    names, columns = options.classes, conf.shape[1]
    called = [i for i, name in enumerate(names) if is_background(name)]
    if len(called) == 1 and len(names) > 1:
        (index,) = called
        name, names = names[index], names[:index] + names[index + 1 :]
        if options.background is not None:
            guesses.append(f"class_names: {name!r} is no class, and left out")
        elif len(names) == columns:
            guesses.append(f"class_names: {name!r} is no class, and the model has no column for it: left out")
            return names, None
        else:
            guesses.append(
                f"background_index: column {index}, which is {name!r} among the names, and no class; see --background"
            )
            return names, index
    background = _background(conf, names, options, guesses)
    return names or _numbered(columns - (background is not None), guesses), background


def _background(
    conf: np.ndarray, names: Sequence[str], options: DraftOptions, guesses: list[str]
) -> int | None:
    if options.background is not None:
        return None if options.background < 0 else options.background
    index = int(np.bincount(conf.argmax(axis=1), minlength=conf.shape[1]).argmax())
    if names and len(names) == conf.shape[1]:
        guesses.append(
            "background_index: none, as there are as many names as columns; where one is background: --background N, "
            "and leave its name out"
        )
        return None
    # On noise nearly every prior sees background; foreign models have it first or, seldom, last.
    if index in (0, conf.shape[1] - 1):
        guesses.append(f"background_index: column {index}, which wins on noise; see --background")
        return index
    guesses.append(
        f"background_index: column 0, as usual, although column {index} wins on noise; see --background"
    )
    return 0


def _numbered(count: int, guesses: list[str]) -> tuple[str, ...]:
    guesses.append(f"class_names: numbered, class 1 to class {count}; to name them: --classes A,B or a file")
    return tuple(f"class {i + 1}" for i in range(count))


def _three(values: Sequence[float], key: str) -> tuple[float, float, float]:
    first, second, third = finite_numbers(tuple(values) * (3 if len(values) == 1 else 1), key, 3)
    return first, second, third


def _check_counts(spec: SsdSpec, heads: Heads, options: DraftOptions) -> None:
    given = len(make_priors(spec)) if spec.priors else heads.count
    if given != heads.count:
        source = spec.priors.file or ("--from" if options.priors else "--levels")
        raise ValueError(f"{source}: {given} priors, the model has {heads.count}")
    if spec.num_columns != heads.columns:
        background = "no" if spec.background_index is None else "a"
        raise ValueError(
            f"--classes: {len(spec.class_names)} names and {background} background make {spec.num_columns} "
            f"columns, the model has {heads.columns}"
        )
