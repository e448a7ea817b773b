"""TensorFlow's Object Detection API: what pipeline.config says of an SSD."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from ..spec import PriorLevel, PriorSpec
from .layouts import tensorflow_levels, tensorflow_scales
from .options import DraftOptions
from .text_proto import entries, number, numbers, text

# The converters of scores; others do what no spec says.
_ACTIVATIONS = {"SIGMOID": "sigmoid", "SOFTMAX": "softmax", "IDENTITY": "none"}


def options_of_pipeline(message: Any) -> DraftOptions:
    """The DraftOptions of a pipeline.config. Raises ValueError for a model that is no SSD, or has other anchors."""
    ssd = entries(message, "model", "ssd")
    if not ssd:
        raise ValueError("model: expected ssd, which alone has a spec")
    options = replace(_thresholds(ssd[0]), loc_order="cycxhw", variance=_variance(ssd[0]))
    size, resize = _resizer(ssd[0])
    kind = text(ssd[0], "feature_extractor", "type")
    # Of the slim models: MobileNet, Inception and PNASNet take -1..1, ResNet takes pixels less those of VGG.
    mean, std = ((123.68, 116.779, 103.939), (1.0,)) if "resnet" in kind else ((127.5,), (127.5,))
    converter = text(ssd[0], "post_processing", "score_converter", default="IDENTITY")
    if converter not in _ACTIVATIONS:
        raise ValueError(f"score_converter: expected one of {', '.join(_ACTIVATIONS)}, got {converter}")
    background = text(ssd[0], "add_background_class", default="true") in ("true", "True", "t", "1")
    return replace(
        options,
        size=size,
        color="rgb",
        mean=mean,
        std=std,
        resize=resize,
        activation=_ACTIVATIONS[converter],
        background=0 if background else -1,
        priors=PriorSpec(_levels(ssd[0], size)),
    )


def _resizer(ssd: Any) -> tuple[tuple[int, int], str]:
    """(height, width) of the input, and how an image gets there."""
    fixed = entries(ssd, "image_resizer", "fixed_shape_resizer")
    keeping = entries(ssd, "image_resizer", "keep_aspect_ratio_resizer")
    if fixed:
        size = int(number(fixed[0], "height", default=0)), int(number(fixed[0], "width", default=0))
        resize = "stretch"
    elif keeping:
        least, most = (int(number(keeping[0], f"{n}_dimension", default=0)) for n in ("min", "max"))
        if least != most or text(keeping[0], "pad_to_max_dimension") != "true":
            raise ValueError(
                f"keep_aspect_ratio_resizer: expected one min and max_dimension, and pad_to_max_dimension, got {least} "
                f"and {most}: its input has no fixed size"
            )
        size, resize = (least, most), "letterbox_top_left"
    else:
        raise ValueError("image_resizer: expected fixed_shape_resizer or keep_aspect_ratio_resizer")
    if min(size) < 1:
        raise ValueError(f"image_resizer: expected height and width above 0, got {size[0]}x{size[1]}")
    return size, resize


def _thresholds(ssd: Any) -> DraftOptions:
    nms = [("nms", entry) for entry in entries(ssd, "post_processing", "batch_non_max_suppression")]
    return DraftOptions(
        score_threshold=number(nms, "nms", "score_threshold", default=0.0),
        iou_threshold=number(nms, "nms", "iou_threshold", default=0.6),
        top_k=int(number(nms, "nms", "max_detections_per_class", default=100)),
        max_detections=int(number(nms, "nms", "max_total_detections", default=100)),
    )


def _variance(ssd: Any) -> tuple[float, float]:
    """One over the scales of the coder."""
    y, x, height, width = (
        number(ssd, "box_coder", "faster_rcnn_box_coder", f"{name}_scale", default=default)
        for name, default in (("y", 10.0), ("x", 10.0), ("height", 5.0), ("width", 5.0))
    )
    if y != x or height != width or min(y, height) <= 0:
        raise ValueError(
            f"box_coder: expected one scale of y and x and one of both sides, got {y} {x} {height} {width}"
        )
    return 1 / y, 1 / height


def _levels(ssd: Any, size: tuple[int, int]) -> tuple[PriorLevel, ...]:
    generators = entries(ssd, "anchor_generator", "ssd_anchor_generator")
    if generators:
        return _ssd_levels(generators[0], size)
    generators = entries(ssd, "anchor_generator", "multiscale_anchor_generator")
    if generators:
        return _multiscale_levels(generators[0], size)
    raise ValueError("anchor_generator: expected ssd_anchor_generator or multiscale_anchor_generator")


def _ssd_levels(generator: Any, size: tuple[int, int]) -> tuple[PriorLevel, ...]:
    for name in ("base_anchor_height", "base_anchor_width"):
        if number(generator, name, default=1.0) != 1.0:
            raise ValueError(
                f"{name}: expected 1, got {number(generator, name, default=1.0):g}; see --levels"
            )
    for name in ("height_stride", "width_stride", "height_offset", "width_offset"):
        if numbers(generator, name):
            raise ValueError(f"{name}: expected none, as steps follow from the maps; see --levels")
    count = int(number(generator, "num_layers", default=6))
    if not 1 <= count <= 20:
        raise ValueError(f"num_layers: expected 1 to 20, got {count}")
    scales = numbers(generator, "scales")
    if scales and len(scales) != count:
        raise ValueError(f"scales: expected {count}, one for each layer, got {len(scales)}")
    least, most = number(generator, "min_scale", default=0.2), number(generator, "max_scale", default=0.95)
    scales = [*scales, 1.0] if scales else tensorflow_scales(count, least, most)
    ratios = numbers(generator, "aspect_ratios")
    if min([*scales, *ratios]) <= 0 or max(map(abs, [*scales, *ratios])) > 1e6:
        raise ValueError("scales, aspect_ratios: expected numbers above 0")
    return tensorflow_levels(
        *size,
        scales,
        ratios,
        text(generator, "reduce_boxes_in_lowest_layer", default="true") in ("true", "True", "t", "1"),
        number(generator, "interpolated_scale_aspect_ratio", default=1.0),
    )


def _multiscale_levels(generator: Any, size: tuple[int, int]) -> tuple[PriorLevel, ...]:
    """FPN's: a map for each power of two; ratios one after the other, each with all scales of its octave."""
    first, last = (int(number(generator, n, default=d)) for n, d in (("min_level", 3), ("max_level", 7)))
    octave = int(number(generator, "scales_per_octave", default=2))
    base, ratios = number(generator, "anchor_scale", default=4.0), numbers(generator, "aspect_ratios")
    if not 0 <= first <= last <= 12 or not 1 <= octave <= 20 or not ratios or min([base, *ratios]) <= 0:
        raise ValueError(
            "multiscale_anchor_generator: expected levels of 0 to 12, scales, and ratios above 0"
        )
    levels = []
    for level in range(first, last + 1):
        step = 2**level
        scales = [base * step * 2 ** (k / octave) for k in range(octave)]
        boxes = tuple((s * math.sqrt(r), s / math.sqrt(r)) for r in ratios for s in scales)
        offsets = {0.5 if side % step == 0 else 0.0 for side in size}
        if len(offsets) > 1:
            raise ValueError(
                f"multiscale_anchor_generator: a step of {step} divides one side of the input alone"
            )
        maps = math.ceil(size[0] / step), math.ceil(size[1] / step)
        levels.append(PriorLevel(maps, (step, step), boxes, offsets.pop()))
    return tuple(levels)
