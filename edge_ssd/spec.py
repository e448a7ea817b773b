"""The spec: the JSON file beside an ONNX file that says what its input and outputs mean.

With it, any SSD that ends in raw offsets and class scores runs, whoever trained it.
The format is "edge_ssd/1"; `SsdSpec.load` and `.save` are its two ends.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from . import limits
from .files import StrPath, flush, replacing
from .files.inside import file_inside, place_inside, stays_inside
from .files.json_fields import (
    BadKey,
    check_keys,
    finite_number,
    finite_numbers,
    fraction,
    inside,
    list_of,
    parse_json,
    positive_numbers,
    read_json,
    short,
    shown,
    text_of,
    whole_number,
)

FORMAT = "edge_ssd/1"

COLORS = ("rgb", "bgr")
RESIZE_MODES = ("stretch", "letterbox", "letterbox_top_left")
INPUT_LAYOUTS = ("nchw", "nhwc")
INPUT_DTYPES = ("float", "uint8")
SCORE_ACTIVATIONS = ("softmax", "sigmoid", "none")
LOC_ORDERS = ("cxcywh", "cycxhw")
BOX_CODINGS = ("center_size", "linear", "corners")
HEAD_LAYOUTS = ("prior_column", "column_prior")
CLIP_BOXES = ("before_nms", "after_nms")

# In `postprocess.score_threshold`, the threshold of the classes that are not named.
OTHER_CLASSES = "*"

_Part = TypeVar("_Part")

# Of a field that JSON leaves out where it has its default.
_OPTIONAL = {"is_optional": True}

# Where the box coding has no variance.
_NO_VARIANCE = (1.0, 1.0)


def _set(instance: object, **values: object) -> None:
    for name, value in values.items():
        object.__setattr__(instance, name, value)


@dataclass(frozen=True)
class InputSpec:
    """What the network's one input (B, 3, height, width) holds: x = (pixel - mean) / std.

    mean, std, pad_value: three numbers each, in the order of `color`, on the 0..255 scale.
    resize: "letterbox" centres the image, "letterbox_top_left" pads at the bottom and the right alone.
    layout: "nhwc" for an input (B, height, width, 3).   dtype: "uint8" for one of whole numbers 0..255, with mean 0
    and std 1.   batch_axis: False for a model of one image, whose input and outputs lack the first axis.
    """

    name: str
    height: int
    width: int
    color: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: str = "stretch"
    pad_value: tuple[float, float, float] = (0.0, 0.0, 0.0)
    layout: str = field(default="nchw", metadata=_OPTIONAL)
    dtype: str = field(default="float", metadata=_OPTIONAL)
    batch_axis: bool = field(default=True, metadata=_OPTIONAL)

    def __post_init__(self) -> None:
        pad = self.pad_value
        if not isinstance(pad, (list, tuple)):
            pad = (finite_number(pad, "pad_value"),) * 3
        _set(
            self,
            name=text_of(self.name, "name"),
            height=whole_number(self.height, "height"),
            width=whole_number(self.width, "width"),
            color=text_of(self.color, "color", COLORS),
            mean=finite_numbers(self.mean, "mean", 3),
            std=positive_numbers(self.std, "std", 3),
            resize=text_of(self.resize, "resize", RESIZE_MODES),
            pad_value=finite_numbers(pad, "pad_value", 3),
            layout=text_of(self.layout, "layout", INPUT_LAYOUTS),
            dtype=text_of(self.dtype, "dtype", INPUT_DTYPES),
        )
        if not isinstance(self.batch_axis, bool):
            raise BadKey("batch_axis", f"expected true or false, got {shown(self.batch_axis)}")
        if self.dtype == "uint8" and (any(self.mean) or self.std != (1, 1, 1)):
            raise BadKey(
                "dtype", "expected mean 0 and std 1 with uint8: such a model takes the pixels as they are"
            )
        if self.height * self.width > limits.MOST_INPUT_PIXELS:
            raise BadKey(
                "height",
                f"expected at most {limits.MOST_INPUT_PIXELS} pixels, got {shown(self.height)} x {shown(self.width)}",
            )

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the network input, pixels."""
        return self.height, self.width


@dataclass(frozen=True)
class OutputSpec:
    """The names of the two graph outputs that are read; others are ignored.

    Either may be several names, one output for each level, in order of the priors.
    """

    loc: str | tuple[str, ...]
    conf: str | tuple[str, ...]

    def __post_init__(self) -> None:
        _set(self, loc=_output_names(self.loc, "loc"), conf=_output_names(self.conf, "conf"))
        for name in self.conf_names:
            if name in self.loc_names:
                raise BadKey("conf", f"expected another output than loc, got {shown(name)} for both")

    @property
    def loc_names(self) -> tuple[str, ...]:
        """The outputs of offsets, in order of the priors."""
        return (self.loc,) if isinstance(self.loc, str) else self.loc

    @property
    def conf_names(self) -> tuple[str, ...]:
        """The outputs of class scores, in order of the priors."""
        return (self.conf,) if isinstance(self.conf, str) else self.conf

    @property
    def names(self) -> tuple[str, ...]:
        """Every output that is read, those of offsets first."""
        return self.loc_names + self.conf_names


def _output_names(value: Any, key: str) -> str | tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        return text_of(value, key)
    names: tuple[str, ...] = tuple(text_of(name, f"{key}[{i}]") for i, name in enumerate(value))
    if not names:
        raise BadKey(key, "expected at least one output, got none")
    for i, name in enumerate(names):
        if name in names[:i]:
            raise BadKey(f"{key}[{i}]", f"expected each output once, got {shown(name)} twice")
    return names[0] if len(names) == 1 else names


@dataclass(frozen=True)
class PriorLevel:
    """The default boxes of one feature map.

    feature_size: (rows, columns).   step: (y, x), input pixels.
    sizes: (w, h) of each box of a cell, input pixels.   offset: the centre within a cell, in steps.
    """

    feature_size: tuple[int, int]
    step: tuple[float, float]
    sizes: tuple[tuple[float, float], ...]
    offset: float = 0.5

    def __post_init__(self) -> None:
        sizes = list_of(self.sizes, "sizes")
        if not sizes:
            raise BadKey("sizes", "expected at least one (w, h), got none")
        _set(
            self,
            feature_size=tuple(
                whole_number(v, f"feature_size[{i}]")
                for i, v in enumerate(list_of(self.feature_size, "feature_size", 2))
            ),
            step=positive_numbers(self.step, "step", 2),
            sizes=tuple(positive_numbers(v, f"sizes[{i}]", 2) for i, v in enumerate(sizes)),
            offset=finite_number(self.offset, "offset"),
        )

    @property
    def count(self) -> int:
        """Default boxes of this level."""
        return self.feature_size[0] * self.feature_size[1] * len(self.sizes)


@dataclass(frozen=True)
class PriorSpec:
    """The default boxes: either `levels`, or `file`, the name of an .npy file beside the spec; neither for none.

    clip: the corners are clipped to 0..1 and turned back into centre form (Caffe's rule).
    """

    levels: tuple[PriorLevel, ...] = ()
    file: str = ""
    clip: bool = False

    def __post_init__(self) -> None:
        levels = tuple(list_of(self.levels, "levels"))
        for i, level in enumerate(levels):
            if not isinstance(level, PriorLevel):
                raise BadKey(f"levels[{i}]", f"expected a PriorLevel, got {shown(level)}")
        if not isinstance(self.file, str):
            raise BadKey("file", f"expected a text, got {shown(self.file)}")
        if self.file and not stays_inside(self.file):
            raise BadKey("file", f"expected a file beside the spec, got {shown(self.file)}")
        if levels and self.file:
            raise BadKey("levels", "expected either levels (not empty) or file, got both")
        if not isinstance(self.clip, bool):
            raise BadKey("clip", f"expected true or false, got {shown(self.clip)}")
        count = sum(level.count for level in levels)
        if count > limits.MOST_PRIORS:  # each takes memory before it is compared with the model
            raise BadKey("levels", f"expected at most {limits.MOST_PRIORS} priors in all, got {shown(count)}")
        _set(self, levels=levels)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.levels or self.file)


@dataclass(frozen=True)
class PostprocessSpec:
    """Limits of post-processing. A score must be > score_threshold; a box is dropped at IoU > iou_threshold.

    score_threshold: one for all classes, or one for each: given as {class name: number}, "*" for the rest; kept as
    pairs.
    """

    score_threshold: float | Mapping[str, float] | tuple[tuple[str, float], ...]
    iou_threshold: float
    top_k: int
    max_detections: int
    clip_boxes: str = "after_nms"

    def __post_init__(self) -> None:
        _set(
            self,
            score_threshold=_score_threshold(self.score_threshold),
            iou_threshold=fraction(self.iou_threshold, "iou_threshold"),
            top_k=whole_number(self.top_k, "top_k"),
            max_detections=whole_number(self.max_detections, "max_detections"),
            clip_boxes=text_of(self.clip_boxes, "clip_boxes", CLIP_BOXES),
        )
        if self.max_detections > limits.MOST_DETECTIONS:  # so many rows are filled for each image
            raise BadKey(
                "max_detections",
                f"expected at most {limits.MOST_DETECTIONS}, got {shown(self.max_detections)}",
            )


def _score_threshold(value: Any) -> float | tuple[tuple[str, float], ...]:
    if isinstance(value, tuple):
        value = dict(value)
    if not isinstance(value, Mapping):
        return fraction(value, "score_threshold")
    if not value:
        raise BadKey("score_threshold", "expected a number, or an object with one for each class, got none")
    return tuple(
        (text_of(name, "score_threshold"), fraction(v, f"score_threshold.{short(name)}"))
        for name, v in value.items()
    )


@dataclass(frozen=True)
class SsdSpec:
    """Everything that is known of an SSD besides its weights.

    class_names: the foreground classes only.   background_index: the column of `conf` that is
    background, or None when it has none.   variance: scaling of the offsets, (centre, size), with "center_size".
    box_coding: what `loc` holds. "center_size": the paper's offsets. "linear": offsets without an exponential, in
    input pixels divided by coding_scale (y, x), which is the size of the input when it is empty. "corners": x1 y1 x2 y2
    normalised to the input, without priors.
    keypoints: names of K points of each box; then `loc` has 4 + 2 K columns, x and y of each point behind the box (y
    and x with "cycxhw"), coded as centres are.
    loc_layout, conf_layout: "column_prior" for an output (B, 4, P) or (B, C, P), or maps (B, boxes * 4, rows, columns).
    folder: where the file of `priors.file` lies; set by `load`, not part of the spec itself.

    Raises ValueError naming the key for every value that does not fit.
    """

    name: str
    input: InputSpec
    outputs: OutputSpec
    class_names: tuple[str, ...]
    background_index: int | None
    score_activation: str
    loc_order: str
    variance: tuple[float, float]
    priors: PriorSpec
    postprocess: PostprocessSpec
    box_coding: str = field(default="center_size", metadata=_OPTIONAL)
    coding_scale: tuple[float, ...] = field(default=(), metadata=_OPTIONAL)
    keypoints: tuple[str, ...] = field(default=(), metadata=_OPTIONAL)
    loc_layout: str = field(default="prior_column", metadata=_OPTIONAL)
    conf_layout: str = field(default="prior_column", metadata=_OPTIONAL)
    folder: str = field(default=".", compare=False, repr=False)

    def __post_init__(self) -> None:
        names = list_of(self.class_names, "class_names")
        if not names:
            raise BadKey("class_names", "expected at least one foreground class, got none")
        if len(names) > limits.MOST_CLASSES:
            raise BadKey("class_names", f"expected at most {limits.MOST_CLASSES} classes, got {len(names)}")
        _set(
            self,
            name=text_of(self.name, "name"),
            class_names=tuple(text_of(v, f"class_names[{i}]") for i, v in enumerate(names)),
            score_activation=text_of(self.score_activation, "score_activation", SCORE_ACTIVATIONS),
            loc_order=text_of(self.loc_order, "loc_order", LOC_ORDERS),
            variance=positive_numbers(self.variance, "variance", 2),
        )
        if self.background_index is not None:
            index = whole_number(self.background_index, "background_index", least=0)
            if index > len(names):
                columns = f"a column from 0 to {len(names)} ({len(names)} classes + background)"
                raise BadKey("background_index", f"expected null or {columns}, got {index}")
            _set(self, background_index=index)
        self._check_coding()
        self._check_thresholds()

    def _check_coding(self) -> None:
        points = list_of(self.keypoints, "keypoints")
        if len(points) > limits.MOST_KEYPOINTS:
            raise BadKey("keypoints", f"expected at most {limits.MOST_KEYPOINTS} points, got {len(points)}")
        scale = list_of(self.coding_scale, "coding_scale")
        _set(
            self,
            box_coding=text_of(self.box_coding, "box_coding", BOX_CODINGS),
            coding_scale=positive_numbers(scale, "coding_scale", 2) if scale else (),
            keypoints=tuple(text_of(v, f"keypoints[{i}]") for i, v in enumerate(points)),
            loc_layout=text_of(self.loc_layout, "loc_layout", HEAD_LAYOUTS),
            conf_layout=text_of(self.conf_layout, "conf_layout", HEAD_LAYOUTS),
        )
        if self.coding_scale and self.box_coding != "linear":
            raise BadKey(
                "coding_scale", f"expected with box_coding linear alone, got {shown(self.box_coding)}"
            )
        if self.box_coding == "corners":
            if self.priors:
                raise BadKey(
                    "priors", "expected none with box_coding corners, whose boxes are whole; remove the key"
                )
        elif not self.priors:
            raise BadKey("priors.levels", "expected either levels (not empty) or file, got neither")

    def _check_thresholds(self) -> None:
        thresholds = self.postprocess.score_threshold
        if not isinstance(thresholds, tuple):
            return
        given = dict(thresholds)
        for name in given:
            if name != OTHER_CLASSES and name not in self.class_names:
                raise BadKey(
                    f"postprocess.score_threshold.{short(name)}", 'no such class; "*" stands for the rest'
                )
        missing = [name for name in self.class_names if name not in given]
        if missing and OTHER_CLASSES not in given:
            raise BadKey(
                "postprocess.score_threshold",
                f'expected one for {shown(missing[0])}, too; "*" stands for classes that are not named',
            )

    @property
    def num_columns(self) -> int:
        """C: columns of `conf`, background included."""
        return len(self.class_names) + (self.background_index is not None)

    @property
    def loc_columns(self) -> int:
        """Columns of `loc`: 4, and two for each key point."""
        return 4 + 2 * len(self.keypoints)

    @property
    def linear_scale(self) -> tuple[float, float]:
        """(y, x) by which offsets of "linear" are divided: `coding_scale`, else the size of the input."""
        return (self.coding_scale[0], self.coding_scale[1]) if self.coding_scale else self.input.size

    @property
    def score_thresholds(self) -> float | tuple[float, ...]:
        """The score threshold of all classes, or where they have their own, one for each of class_names."""
        thresholds = self.postprocess.score_threshold
        if isinstance(thresholds, (int, float)):
            return thresholds
        given = dict(thresholds)
        return tuple(given[name] if name in given else given[OTHER_CLASSES] for name in self.class_names)

    def to_json(self) -> str:
        """The spec as JSON text; `from_json` reads it back to an equal spec."""
        return _layout(_to_dict(self)) + "\n"

    @classmethod
    def from_json(cls, text: str) -> SsdSpec:
        """The spec in `text`. Raises ValueError naming the first key that is missing, unknown or wrong."""
        return _from_dict(parse_json(text, _no_duplicates))

    @classmethod
    def load(cls, path: StrPath) -> SsdSpec:
        """The spec in the file `path`. Raises FileNotFoundError, or ValueError naming file and key."""
        path = Path(path)
        data = read_json(path, make_object=_no_duplicates)
        try:
            spec = _from_dict(data)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        _set(spec, folder=str(path.parent))
        return spec

    def save(self, path: StrPath) -> None:
        """Writes the spec to `path`, and beside it the priors' file, where it has one from another folder.

        Each is whole or as it was. Raises OSError when one cannot be written, ValueError when the priors' file lies
        outside of the spec's folder, or is no regular file.
        """
        path = Path(path)
        with replacing(path) as temporary, replacing_priors_file(self, path.parent):
            temporary.write_text(self.to_json(), encoding="utf-8")


@contextmanager
def replacing_priors_file(spec: SsdSpec, folder: StrPath, durable: bool = True) -> Iterator[None]:
    """Around the writing of a spec into `folder`: at the end the file of its `priors.file` lies there, too.

    It is copied before the block runs, where it is there and comes from another folder.   durable: see `replacing`.
    """
    if not spec.priors.file or not os.path.lexists(Path(spec.folder, spec.priors.file)):
        yield
        return
    source, target = file_inside(spec.folder, spec.priors.file), place_inside(folder, spec.priors.file)
    if target.exists() and os.path.samefile(source, target):
        yield
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target, durable) as temporary:
        shutil.copyfile(source, temporary)
        flush(temporary)
        yield


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    for key, value in pairs:
        if key in seen:
            raise BadKey(short(key), "given twice")
        seen[key] = value
    return seen


def _to_dict(spec: SsdSpec) -> dict[str, Any]:
    data: dict[str, Any] = {"format": FORMAT}
    data.update(_plain(spec))
    if spec.priors:
        del data["priors"]["levels" if spec.priors.file else "file"]
    else:
        del data["priors"]
    if spec.box_coding != "center_size" and spec.variance == _NO_VARIANCE:
        del data["variance"]
    if isinstance(spec.postprocess.score_threshold, tuple):
        data["postprocess"]["score_threshold"] = {
            name: _plain(value) for name, value in spec.postprocess.score_threshold
        }
    return data


def _layout(value: Any, indent: str = "") -> str:
    """JSON with lists of plain values, and lists of those, each on one line, for people to edit."""
    deeper = indent + "  "
    if isinstance(value, dict):
        lines = [f"{deeper}{json.dumps(key)}: {_layout(entry, deeper)}" for key, entry in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(entry, dict) for entry in value):
        return "[\n" + ",\n".join(deeper + _layout(entry, deeper) for entry in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    if hasattr(value, "__dataclass_fields__"):
        return {
            f.name: _plain(getattr(value, f.name))
            for f in fields(value)
            if f.name != "folder" and not (f.metadata and getattr(value, f.name) == f.default)
        }
    if isinstance(value, float) and value == int(value):
        return int(value)
    return value


def _keys(cls: type) -> list[str]:
    return [f.name for f in fields(cls) if f.name != "folder"]


def _checked(data: dict[str, Any], cls: type) -> dict[str, Any]:
    """The values of `data` for the fields of `cls`; unknown and missing keys are errors."""
    required = [f.name for f in fields(cls) if f.default is MISSING]
    check_keys(data, known=_keys(cls), required=required)
    return dict(data)


def _built(value: Any, key: str, cls: type[_Part]) -> _Part:
    """The dataclass `cls` from the JSON object `value`, which stands under `key`."""
    if not isinstance(value, dict):
        raise BadKey(key, f"expected an object, got {shown(value)}")
    with inside(key):
        return cls(**_checked(value, cls))


def _from_dict(data: Any) -> SsdSpec:
    if not isinstance(data, dict):
        raise ValueError(f"expected a JSON object, got {shown(data)}")
    data = dict(data)
    found = data.pop("format", None)
    if found != FORMAT:
        raise BadKey("format", f"expected {shown(FORMAT)}, got {shown(found)}")
    if data.get("box_coding", "center_size") != "center_size":
        data.setdefault("variance", _NO_VARIANCE)
    if data.get("box_coding") == "corners":
        if "priors" in data:
            raise BadKey(
                "priors", "expected none with box_coding corners, whose boxes are whole; remove the key"
            )
        data["priors"] = {}
    data = _checked(data, SsdSpec)
    for key, cls in (("input", InputSpec), ("outputs", OutputSpec), ("postprocess", PostprocessSpec)):
        data[key] = _built(data[key], key, cls)
    priors = data["priors"]
    if isinstance(priors, dict) and isinstance(priors.get("levels"), list):
        levels = [
            _built(level, f"priors.levels[{i}]", PriorLevel) for i, level in enumerate(priors["levels"])
        ]
        priors = {**priors, "levels": levels}
    data["priors"] = _built(priors, "priors", PriorSpec)
    return SsdSpec(**data)


def load_spec_of(path: StrPath) -> SsdSpec:
    """The spec beside a model file: NAME.json for NAME.onnx. FileNotFoundError says how to make one."""
    spec_path = Path(path).with_suffix(".json")
    if not spec_path.is_file():
        raise FileNotFoundError(
            f"{spec_path}: no spec beside {Path(path).name}, so its outputs have no meaning. "
            f"Draft one and fill it in: edge-ssd spec {path}"
        )
    return SsdSpec.load(spec_path)
