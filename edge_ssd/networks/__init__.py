"""The SSD networks by name. `build_model` is all that other parts need."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..spec import PostprocessSpec
from .fpn import PyramidNeck
from .heads import Predictor, SsdHead
from .layers import conv_predictor, lite_predictor
from .levels import Levels, MapSizes, even_levels, lite_sets, sized_levels, ssd300_sets, ssd512_sets
from .mobilenet import MobileNetBase
from .resnet import SlimResNetBase
from .ssd import Layout, Ssd
from .vgg import SSD300_EXTRAS, SSD512_EXTRAS, VggBase

# ImageNet's mean as Caffe's VGG has it, in torchvision's digits; no division.
_VGG_MEAN = (255 * 0.48235, 255 * 0.45882, 255 * 0.40784)
_VGG_STD = (1.0, 1.0, 1.0)
_HALF_RANGE = (127.5, 127.5, 127.5)
_SSD_POSTPROCESS = PostprocessSpec(0.01, 0.45, 400, 200, "before_nms")
_LITE_POSTPROCESS = PostprocessSpec(0.001, 0.55, 300, 300, "before_nms")
_SMALL_POSTPROCESS = PostprocessSpec(0.01, 0.5, 200, 100)

NECKS = ("none", "fpn")

# The bases of the networks here; `Ssd` takes any module with `out_channels`.
Base = VggBase | MobileNetBase | SlimResNetBase


@dataclass(frozen=True)
class Architecture:
    """What `build_model` makes a network of.

    base: (finest_stride, further options) -> module; see `Ssd`.   predictor: see `SsdHead`.
    input_size: side of the square that is the default.   multiple, smallest: what other sides must be.
    finest_strides: of the first feature map; the first of them is the default.
    mean, std, postprocess: see SsdSpec.   level_sets: (maps, input_size, finest_stride) -> default boxes by
    the name of their sizes; every set has the same boxes per cell.   neck_width: channels of a pyramid's maps.
    """

    base: Callable[..., Base]
    predictor: Predictor
    input_size: int
    multiple: int
    smallest: int
    finest_strides: tuple[int, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    postprocess: PostprocessSpec
    level_sets: Callable[[MapSizes, tuple[int, int], int], dict[str, Levels]]
    neck_width: int


def build_model(
    arch: str,
    num_classes: int,
    input_size: int | Sequence[int] | None = None,
    finest_stride: int | None = None,
    neck: str = "none",
    priors: str | Sequence[Sequence[Sequence[float]]] = "coco",
    **base_options: bool,
) -> Ssd:
    """The network `arch`, newly initialised.

    arch: a key of ARCHITECTURES.   num_classes: background included, at least 2.
    input_size: side of the square input, or (height, width), pixels.   finest_stride: 4 adds a feature map for
    small objects (8 too where the network has 16).   neck: "fpn" puts a feature pyramid before the heads.
    priors: name of a set of default boxes (see `levels`), or (w, h) in input pixels, a list for each map.
    base_options: reduced_tail (ssdlite320_mobilenet_v3_large; see `mobilenet_v3_large`).

    Returns `Ssd`: `forward(batch) -> (loc, conf)`, `.spec(class_names, priors="coco") -> SsdSpec`.
    Raises ValueError for an unknown name or option, a size that does not fit, or a count of classes below 2.
    """
    if arch not in ARCHITECTURES:
        raise ValueError(f"arch: expected one of {', '.join(ARCHITECTURES)}, got {arch!r}")
    if num_classes < 2:
        raise ValueError(f"num_classes: expected at least 2 (background and one class), got {num_classes}")
    if neck not in NECKS:
        raise ValueError(f"neck: expected one of {', '.join(NECKS)}, got {neck!r}")
    architecture = ARCHITECTURES[arch]
    size = _checked_size(architecture, input_size)
    stride = _checked_stride(architecture, finest_stride)
    _check_base_options(arch, architecture, base_options)
    maps = _feature_sizes(architecture.base, size, stride, base_options)
    layout = _layout(arch, architecture, size, stride, maps, priors)
    base = architecture.base(stride, **base_options)
    channels, pyramid = base.out_channels, None
    if neck == "fpn":
        pyramid = PyramidNeck(channels, architecture.neck_width, architecture.predictor is lite_predictor)
        channels = pyramid.out_channels
    head = SsdHead(channels, layout.boxes_per_cell, num_classes, architecture.predictor)
    given: dict[str, Any] = {
        "input_size": input_size,
        "finest_stride": finest_stride,
        "neck": neck,
        "priors": priors,
    }
    usual = {"input_size": None, "finest_stride": None, "neck": "none", "priors": "coco"}
    options = {name: value for name, value in given.items() if value != usual[name]} | base_options
    return Ssd(layout, base, head, num_classes, options, pyramid)


def parse_input_size(text: str) -> int | tuple[int, int] | None:
    """The input size that a user gave: "" -> None, "320" -> 320, "240x320" -> (240, 320). Raises ValueError."""
    try:
        sides = [int(side) for side in text.split("x")] if text else []
    except ValueError:
        sides = [0, 0, 0]
    if len(sides) > 2:
        raise ValueError(f"input_size: expected a side or HEIGHTxWIDTH, got {text!r}")
    if len(sides) == 2:
        return sides[0], sides[1]
    return sides[0] if sides else None


def _checked_size(architecture: Architecture, input_size: int | Sequence[int] | None) -> tuple[int, int]:
    """(height, width). Raises ValueError when the base does not take it."""
    if input_size is None:
        input_size = architecture.input_size
    sides = (input_size, input_size) if isinstance(input_size, int) else tuple(input_size)
    if len(sides) != 2 or any(s < architecture.smallest or s % architecture.multiple for s in sides):
        raise ValueError(
            f"input_size: expected a multiple of {architecture.multiple} from {architecture.smallest} on, "
            f"got {input_size}"
        )
    return sides[0], sides[1]


def _checked_stride(architecture: Architecture, finest_stride: int | None) -> int:
    if finest_stride is None:
        return architecture.finest_strides[0]
    if finest_stride not in architecture.finest_strides:
        known = ", ".join(map(str, architecture.finest_strides))
        raise ValueError(f"finest_stride: expected one of {known}, got {finest_stride}")
    return finest_stride


def _check_base_options(arch: str, architecture: Architecture, base_options: Mapping[str, bool]) -> None:
    known = list(inspect.signature(architecture.base).parameters)[1:]
    unknown = [name for name in base_options if name not in known]
    if unknown:
        raise ValueError(f"options: {arch} does not take {', '.join(unknown)}")


def _feature_sizes(
    make_base: Callable[..., Base],
    input_size: tuple[int, int],
    finest_stride: int,
    base_options: Mapping[str, bool],
) -> MapSizes:
    """(rows, columns) of each map, by a run of the base that computes shapes only."""
    with torch.device("meta"):
        maps = make_base(finest_stride, **base_options).eval()(torch.empty(1, 3, *input_size))
    return [(x.shape[2], x.shape[3]) for x in maps]


def _layout(
    arch: str,
    architecture: Architecture,
    input_size: tuple[int, int],
    finest_stride: int,
    maps: MapSizes,
    priors: str | Sequence[Sequence[Sequence[float]]],
) -> Layout:
    """The Layout whose default set is the one that `priors` names or holds."""
    levels = {
        **architecture.level_sets(maps, input_size, finest_stride),
        "even": even_levels(maps, input_size),
    }
    if not isinstance(priors, str):
        levels["fitted"] = sized_levels(maps, input_size, priors)
        priors = "fitted"
    if priors not in levels:
        raise ValueError(f"priors: expected one of {', '.join(levels)} for {arch}, got {priors!r}")
    return Layout(
        arch, input_size, architecture.mean, architecture.std, levels, priors, architecture.postprocess
    )


def _ssd300_base(finest_stride: int) -> VggBase:
    return VggBase(SSD300_EXTRAS, finest_stride)


def _ssd512_base(finest_stride: int) -> VggBase:
    return VggBase(SSD512_EXTRAS, finest_stride)


def _small_sets(maps: MapSizes, input_size: tuple[int, int], finest_stride: int) -> dict[str, Levels]:
    return {"coco": even_levels(maps, input_size)}


# ssd300_vgg16: SSD300 (the paper's figure 2), 8732 default boxes; weights of torchvision's model of this name fit.
# ssd512_vgg16: SSD512 with the paper's maps 64, 32, 16, 8, 4, 2, 1: 24564 default boxes.
# ssdlite320_mobilenet_v3_large: SSDLite on MobileNetV3-Large, 3234 default boxes; weights of torchvision's model of
#   this name fit.   ssd320_resnet16: a small SSD on a slim residual network.
ARCHITECTURES = {
    "ssd300_vgg16": Architecture(
        base=_ssd300_base,
        predictor=conv_predictor,
        input_size=300,
        multiple=4,
        smallest=300,
        finest_strides=(8, 4),
        mean=_VGG_MEAN,
        std=_VGG_STD,
        postprocess=_SSD_POSTPROCESS,
        level_sets=ssd300_sets,
        neck_width=256,
    ),
    "ssd512_vgg16": Architecture(
        base=_ssd512_base,
        predictor=conv_predictor,
        input_size=512,
        multiple=4,
        smallest=452,
        finest_strides=(8, 4),
        mean=_VGG_MEAN,
        std=_VGG_STD,
        postprocess=_SSD_POSTPROCESS,
        level_sets=ssd512_sets,
        neck_width=256,
    ),
    "ssdlite320_mobilenet_v3_large": Architecture(
        base=MobileNetBase,
        predictor=lite_predictor,
        input_size=320,
        multiple=32,
        smallest=96,
        finest_strides=(16, 8, 4),
        mean=_HALF_RANGE,
        std=_HALF_RANGE,
        postprocess=_LITE_POSTPROCESS,
        level_sets=lite_sets,
        neck_width=128,
    ),
    "ssd320_resnet16": Architecture(
        base=SlimResNetBase,
        predictor=conv_predictor,
        input_size=320,
        multiple=32,
        smallest=96,
        finest_strides=(8, 4),
        mean=_HALF_RANGE,
        std=_HALF_RANGE,
        postprocess=_SMALL_POSTPROCESS,
        level_sets=_small_sets,
        neck_width=96,
    ),
}
