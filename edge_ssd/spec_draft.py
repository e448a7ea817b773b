"""A draft of the spec of an ONNX model from elsewhere: what the model itself tells, and what it cannot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .engines.onnxruntime_engine import INPUT_DTYPES, open_session, run_session
from .files import StrPath
from .files.json_fields import finite_numbers
from .priors import make_priors, ssd300_levels, ssd512_levels, ssdlite_levels
from .spec import InputSpec, OutputSpec, PostprocessSpec, PriorLevel, PriorSpec, SsdSpec

# Layouts that the number of priors gives away.
_KNOWN_LEVELS = {8732: ssd300_levels, 24564: ssd512_levels, 3234: ssdlite_levels}


@dataclass(frozen=True)
class DraftOptions:
    """What the model cannot tell about itself; empty values are guessed, or defaults of SSD.

    mean, std: one number or three, 0..255 scale.   classes: foreground names.
    levels: per level "STEP:SIZE,SIZE,..." in input pixels, a SIZE being a side or WxH; the map has
        ceil(side / STEP) cells. cell_spacing: where STEP does not divide the input, "even" spreads the cells
        evenly over it (torchvision, TensorFlow), "step" keeps them STEP apart (Caffe).
    priors_file: an .npy file (P, 4) cx cy w h beside the model, instead of levels.
    loc, conf: names of the outputs.   background: a column, -1 for none, None to guess.
    """

    color: str = "rgb"
    mean: tuple[float, ...] = (127.5,)
    std: tuple[float, ...] = (127.5,)
    resize: str = "stretch"
    classes: tuple[str, ...] = ()
    levels: tuple[str, ...] = ()
    cell_spacing: str = "even"
    priors_file: str = ""
    loc: str = ""
    conf: str = ""
    activation: str = ""
    background: int | None = None
    loc_order: str = "cxcywh"
    variance: tuple[float, float] = (0.1, 0.2)
    iou_threshold: float = 0.45
    score_threshold: float = 0.01


def draft_spec(path: StrPath, options: DraftOptions) -> tuple[SsdSpec, list[str]]:
    """The spec of the ONNX model `path` as far as it can be told, and a list of what was guessed.

    The network is run once on noise: conf within 0..1 holds probabilities already, and the first or last
    column is background when it wins for most priors.

    Returns SsdSpec, list of str. Raises ValueError saying which option is missing.
    """
    path = Path(path)
    session = open_session(path)
    guesses = []
    name, (height, width) = _input_of(session, path)
    outputs = _run_on_noise(session, path)
    loc_name, conf_name = _head_names(outputs, options)
    levels = _levels(options, (height, width))
    count = _prior_count(outputs[loc_name])
    if levels or options.priors_file:
        priors = PriorSpec(levels, options.priors_file)
    else:
        priors = _known_priors(count, guesses)
    conf = outputs[conf_name].reshape(count, -1)
    activation = options.activation or _activation(conf, guesses)
    background = _background(conf, options, guesses)
    names = options.classes or _numbered(conf.shape[1] - (background is not None), guesses)
    spec = SsdSpec(
        name=path.stem,
        input=InputSpec(
            name,
            height,
            width,
            options.color,
            _three(options.mean, "mean"),
            _three(options.std, "std"),
            options.resize,
        ),
        outputs=OutputSpec(loc_name, conf_name),
        class_names=names,
        background_index=background,
        score_activation=activation,
        loc_order=options.loc_order,
        variance=options.variance,
        priors=priors,
        postprocess=PostprocessSpec(options.score_threshold, options.iou_threshold, 400, 200),
        folder=str(path.parent),
    )
    _check_counts(spec, count, conf.shape[1])
    return spec, guesses


def _input_of(session: Any, path: Path) -> tuple[str, tuple[int, int]]:
    entries = session.get_inputs()
    if len(entries) != 1:
        raise ValueError(f"{path}: expected one input, the model has {', '.join(e.name for e in entries)}")
    entry = entries[0]
    if len(entry.shape) != 4 or entry.shape[1] != 3 or not all(isinstance(n, int) for n in entry.shape[2:]):
        raise ValueError(
            f"{path}: input {entry.name!r} is {entry.shape}; expected (B, 3, H, W) with fixed H and W"
        )
    if entry.type not in INPUT_DTYPES:
        raise ValueError(f"{path}: input {entry.name!r}: expected float32 or float16, got {entry.type}")
    height, width = entry.shape[2:]
    return entry.name, (height, width)


def _run_on_noise(session: Any, path: Path) -> dict[str, np.ndarray]:
    """Name -> first row of each output that may be a head, for normally distributed input."""
    entry = session.get_inputs()[0]
    batch = entry.shape[0] if isinstance(entry.shape[0], int) else 1
    noise = np.random.default_rng(0).normal(size=(batch, *entry.shape[1:])).astype(INPUT_DTYPES[entry.type])
    names = [output.name for output in session.get_outputs()]
    values = run_session(session, names, {entry.name: noise}, path)
    return {
        name: value[:1].astype(np.float32)
        for name, value in zip(names, values)
        if isinstance(value, np.ndarray) and value.ndim >= 2 and value.dtype.kind == "f"
    }


def _head_names(outputs: dict[str, np.ndarray], options: DraftOptions) -> tuple[str, str]:
    shapes = ", ".join(f"{name} {array.shape}" for name, array in outputs.items())
    for key in ("loc", "conf"):
        given = getattr(options, key)
        if given and given not in outputs:
            raise ValueError(f"--{key}: no output {given!r}; the model has {shapes}")
    # With four classes or columns, conf looks like loc: then the user has to say.
    loc = (
        [options.loc]
        if options.loc
        else [n for n, a in outputs.items() if a.shape[-1] == 4 and n != options.conf]
    )
    if len(loc) != 1:
        raise ValueError(f"which output holds the offsets? Give --loc and --conf; the model has {shapes}")
    count = _prior_count(outputs[loc[0]])
    conf = (
        [options.conf]
        if options.conf
        else [n for n, a in outputs.items() if n != loc[0] and a.size % count == 0]
    )
    if len(conf) != 1:
        raise ValueError(f"which output holds the class scores? Give --conf; the model has {shapes}")
    return loc[0], conf[0]


def _prior_count(loc: np.ndarray) -> int:
    return loc.size // 4


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
                f"--levels: expected STEP:SIZE,SIZE,... such as 16:32,48 or 16:32x64, got {text!r}"
            ) from None
        even = (height / rows, width / columns)
        steps = even if options.cell_spacing == "even" else (step, step)
        levels.append(PriorLevel((rows, columns), steps, boxes))
    return tuple(levels)


def _box_size(text: str) -> tuple[float, float]:
    width, _, height = text.partition("x")
    return float(width), float(height or width)


def _known_priors(count: int, guesses: list[str]) -> PriorSpec:
    if count not in _KNOWN_LEVELS:
        raise ValueError(
            f"the model has {count} priors, which is no layout known here; say where they lie with "
            "--levels STEP:SIZE,SIZE ... or --priors-file NAME.priors.npy"
        )
    guesses.append(f"priors: {count} of them, so the usual layout of that size")
    return PriorSpec(levels=_KNOWN_LEVELS[count]())


def _activation(conf: np.ndarray, guesses: list[str]) -> str:
    if conf.min() < 0 or conf.max() > 1:
        guesses.append("score_activation: conf holds logits; softmax is usual, sigmoid is not")
        return "softmax"
    guesses.append("score_activation: conf lies in 0..1, so it holds probabilities already")
    return "none"


def _background(conf: np.ndarray, options: DraftOptions, guesses: list[str]) -> int | None:
    if options.background is not None:
        return None if options.background < 0 else options.background
    index = int(np.bincount(conf.argmax(axis=1), minlength=conf.shape[1]).argmax())
    if options.classes and len(options.classes) == conf.shape[1]:
        return None
    # On noise nearly every prior sees background; foreign models have it first or, seldom, last.
    if index in (0, conf.shape[1] - 1):
        guesses.append(f"background_index: column {index}, which wins on noise")
        return index
    guesses.append(
        f"background_index: column 0, as usual, although column {index} wins on noise; see --background"
    )
    return 0


def _numbered(count: int, guesses: list[str]) -> tuple[str, ...]:
    guesses.append(f"class_names: numbered, class 1 to class {count}")
    return tuple(f"class {i + 1}" for i in range(count))


def _three(values: Sequence[float], key: str) -> tuple[float, float, float]:
    first, second, third = finite_numbers(tuple(values) * (3 if len(values) == 1 else 1), key, 3)
    return first, second, third


def _check_counts(spec: SsdSpec, count: int, columns: int) -> None:
    given = len(make_priors(spec))
    if given != count:
        source = spec.priors.file or "--levels"
        raise ValueError(f"{source}: {given} priors, the model has {count}")
    if spec.num_columns != columns:
        background = "no" if spec.background_index is None else "a"
        raise ValueError(
            f"--classes: {len(spec.class_names)} names and {background} background make {spec.num_columns} "
            f"columns, the model has {columns}"
        )
