"""Caffe's SSD: what deploy.prototxt says of a model."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ..spec import PriorLevel, PriorSpec
from .options import DraftOptions
from .text_proto import entries, number, numbers, text, texts

_CONVOLUTIONS = ("Convolution", "DepthwiseConvolution", "ConvolutionDepthwise", "Deconvolution")


class _Blob(NamedTuple):
    """Height and width of a tensor."""

    height: int
    width: int


def options_of_prototxt(message: Any) -> DraftOptions:
    """The DraftOptions of a deploy.prototxt. Raises ValueError naming what does not fit."""
    layers = entries(message, "layer") or entries(message, "layers")
    boxes = [layer for layer in layers if text(layer, "type") == "PriorBox"]
    if not boxes:
        raise ValueError("expected layers of type PriorBox, got none")
    blobs = _blobs(message, layers)
    image = _input_size(message, layers)
    boxes = _in_order(layers, boxes)
    output = next((layer for layer in layers if text(layer, "type") == "DetectionOutput"), [])
    parameters = [("p", entry) for entry in entries(output, "detection_output_param")]
    code = text(parameters, "p", "code_type", default="CORNER")
    if output and code not in ("CENTER_SIZE", "2"):
        raise ValueError(f"detection_output_param: code_type: expected CENTER_SIZE, got {code}")
    mean, scale = (
        numbers(message, "layer", "transform_param", "mean_value"),
        numbers(message, "layer", "transform_param", "scale"),
    )
    in_target = text(parameters, "p", "variance_encoded_in_target", default="false") == "true"
    nms = [("nms", entry) for entry in entries(parameters, "p", "nms_param")]
    keep = int(number(parameters, "p", "keep_top_k", default=-1))
    top = int(number(nms, "nms", "top_k", default=-1))
    return DraftOptions(
        size=image,
        color="bgr",
        mean=tuple(mean) if len(mean) in (1, 3) else None,
        std=(1 / scale[0],) if scale and scale[0] > 0 else ((1.0,) if mean else None),
        resize="stretch",
        priors=PriorSpec(tuple(_level(layer, blobs, image) for layer in boxes), clip=_clip(boxes)),
        loc_order="cxcywh",
        variance=(1.0, 1.0) if in_target else _variance(boxes),
        background=int(number(parameters, "p", "background_label_id", default=0)) if output else None,
        iou_threshold=number(nms, "nms", "nms_threshold", default=0.3) if output else None,
        score_threshold=max(0.0, number(parameters, "p", "confidence_threshold", default=0.0))
        if output
        else None,
        top_k=top if top > 0 else None,
        max_detections=keep if keep > 0 else None,
    )


def _in_order(layers: list[Any], boxes: list[Any]) -> list[Any]:
    """The PriorBox layers as they are put behind each other."""
    by_top = {name: layer for layer in boxes for name in texts(layer, "top")}
    for layer in layers:
        names = texts(layer, "bottom")
        if text(layer, "type") == "Concat" and names and all(name in by_top for name in names):
            return [by_top[name] for name in names]
    return boxes


def _input_size(message: Any, layers: list[Any]) -> tuple[int, int]:
    shape = (
        numbers(message, "input_shape", "dim")
        or numbers(message, "input_dim")
        or numbers(message, "layer", "input_param", "shape", "dim")
    )
    if len(shape) < 4:
        resize = [
            ("r", entry) for layer in layers for entry in entries(layer, "transform_param", "resize_param")
        ]
        shape = [1, 3, number(resize, "r", "height", default=0), number(resize, "r", "width", default=0)]
    height, width = int(shape[2]), int(shape[3])
    if min(height, width) < 1:
        raise ValueError(
            "input_shape: expected 1, 3, height and width of the input, got none; is this the deploy file?"
        )
    return height, width


def _blobs(message: Any, layers: list[Any]) -> dict[str, _Blob]:
    """Height and width of what the layers make, by Caffe's rules of rounding."""
    height, width = _input_size(message, layers)
    made = {name: _Blob(height, width) for name in texts(message, "input")}
    for layer in layers:
        tops, bottoms = texts(layer, "top"), texts(layer, "bottom")
        if not bottoms:
            made.update((name, _Blob(height, width)) for name in tops)
            continue
        before = made.get(bottoms[0])
        if before is None or not tops:
            continue
        kind = text(layer, "type")
        if kind in _CONVOLUTIONS:
            after = _convolved(layer, before, kind == "Deconvolution")
        elif kind == "Pooling":
            after = _pooled(layer, before)
        else:
            after = before
        made.update((name, after) for name in tops)
    return made


def _sides(parameters: Any, name: str, default: int) -> tuple[int, int]:
    """(along y, along x) of kernel, stride or pad, which have names of their own for each."""
    short = name.split("_", maxsplit=1)[0]
    values = numbers(parameters, "p", name) or [default]
    y, x = (
        number(parameters, "p", f"{short}_{axis}", default=values[i % len(values)])
        for i, axis in enumerate("hw")
    )
    return int(y), int(x)


def _convolved(layer: Any, before: _Blob, is_transposed: bool) -> _Blob:
    parameters = [("p", entry) for entry in entries(layer, "convolution_param")]
    kernel, pad = _sides(parameters, "kernel_size", 1), _sides(parameters, "pad", 0)
    stride, wide = _sides(parameters, "stride", 1), _sides(parameters, "dilation", 1)
    after = []
    for side, k, p, s, d in zip(before, kernel, pad, stride, wide):
        whole = d * (k - 1) + 1
        after.append(
            s * (side - 1) + whole - 2 * p if is_transposed else (side + 2 * p - whole) // max(1, s) + 1
        )
    return _Blob(*after)


def _pooled(layer: Any, before: _Blob) -> _Blob:
    parameters = [("p", entry) for entry in entries(layer, "pooling_param")]
    if text(parameters, "p", "global_pooling") == "true":
        return _Blob(1, 1)
    kernel, pad = _sides(parameters, "kernel_size", 1), _sides(parameters, "pad", 0)
    stride, after = _sides(parameters, "stride", 1), []
    for side, k, p, s in zip(before, kernel, pad, stride):
        cells = math.ceil((side + 2 * p - k) / max(1, s)) + 1
        if p and (cells - 1) * s >= side + p:  # the last window would begin in the padding
            cells -= 1
        after.append(cells)
    return _Blob(*after)


def _level(layer: Any, blobs: dict[str, _Blob], image: tuple[int, int]) -> PriorLevel:
    parameters = [("p", entry) for entry in entries(layer, "prior_box_param")]
    shown = f"layer {text(layer, 'name')!r}"
    sizes = _sizes(parameters, shown)
    bottoms = texts(layer, "bottom")
    maps = blobs.get(bottoms[0]) if bottoms else None
    step = number(parameters, "p", "step", default=0.0)
    steps = [number(parameters, "p", f"step_{axis}", default=step) for axis in "hw"]
    if maps is None and min(steps) > 0:
        maps = _Blob(*(math.ceil(side / step) for side, step in zip(image, steps)))
    if maps is None or min(maps) < 1:
        raise ValueError(f"{shown}: the size of its map cannot be told; give --levels")
    taken = tuple(step if step > 0 else side / cells for step, side, cells in zip(steps, image, maps))
    return PriorLevel(
        (maps.height, maps.width), (taken[0], taken[1]), sizes, number(parameters, "p", "offset", default=0.5)
    )


def _sizes(parameters: Any, shown: str) -> tuple[tuple[float, float], ...]:
    """(w, h) in Caffe's order: for each smallest size its square, the one to the largest, then the ratios."""
    least, most = numbers(parameters, "p", "min_size"), numbers(parameters, "p", "max_size")
    if not least or (most and len(most) != len(least)):
        raise ValueError(
            f"{shown}: expected as many max_size as min_size or none, got {len(least)} and {len(most)}"
        )
    ratios = [1.0]
    flip = text(parameters, "p", "flip", default="true") == "true"
    for ratio in numbers(parameters, "p", "aspect_ratio"):
        if ratio <= 0:
            raise ValueError(f"{shown}: aspect_ratio: expected a number above 0, got {ratio:g}")
        if all(abs(ratio - other) >= 1e-6 for other in ratios):
            ratios += [ratio, 1 / ratio] if flip else [ratio]
    sizes = []
    for k, side in enumerate(least):
        sizes.append((side, side))
        if most:
            sizes.append((math.sqrt(side * most[k]),) * 2)
        sizes += [(side * math.sqrt(r), side / math.sqrt(r)) for r in ratios[1:]]
    return tuple(sizes)


def _clip(boxes: list[Any]) -> bool:
    said = {text(layer, "prior_box_param", "clip", default="false") for layer in boxes}
    if len(said) > 1:
        raise ValueError("prior_box_param: clip: expected the same for all layers")
    return said == {"true"}


def _variance(boxes: list[Any]) -> tuple[float, float]:
    said = {tuple(numbers(layer, "prior_box_param", "variance")) for layer in boxes}
    values = said.pop()
    if len(values) == 1:
        values = values * 4
    values = values or (0.1,) * 4
    if said or len(values) != 4 or values[0] != values[1] or values[2] != values[3]:
        raise ValueError(
            "prior_box_param: variance: expected one for both center coordinates and one for both sides"
        )
    return values[0], values[2]
