"""MMDetection: what a config.py says of an SSD. It is read as text, and never run."""

from __future__ import annotations

import ast
import math
import reprlib
from pathlib import Path
from typing import Any

from .. import limits
from ..files import read_file
from ..spec import PriorLevel, PriorSpec
from .options import DraftOptions

# Configurations on which one is based, and so on; MMDetection's own are two deep.
_MOST_BASES = 20
_MOST_DEPTH = 50


def options_of_config(content: str, path: Path) -> DraftOptions:
    """The DraftOptions of a configuration and of those in its `_base_`, which are looked for beside it.

    Raises ValueError for one that is no SSD's, or whose anchors come from code.
    """
    config = _Files().config(content, path)
    model = _dict(config.get("model"))
    head = _dict(model.get("bbox_head"))
    anchors = _dict(head.get("anchor_generator"))
    if anchors.get("type") != "SSDAnchorGenerator":
        raise ValueError(
            f"anchor_generator: expected SSDAnchorGenerator, got {reprlib.repr(anchors.get('type'))}"
        )
    coder, test = _dict(head.get("bbox_coder")), _dict(model.get("test_cfg")) or _dict(config.get("test_cfg"))
    stds = _numbers(coder.get("target_stds", (0.1, 0.1, 0.2, 0.2)), "target_stds", 4)
    means = _numbers(coder.get("target_means", (0, 0, 0, 0)), "target_means", 4)
    if stds[0] != stds[1] or stds[2] != stds[3] or min(stds) <= 0 or any(means):
        raise ValueError(
            "bbox_coder: expected means of 0, one std of both center coordinates and one of both sides"
        )
    side = int(_number(anchors.get("input_size", 300), "input_size"))
    pixels = _dict(model.get("data_preprocessor")) or _dict(config.get("img_norm_cfg"))
    swapped = pixels.get("bgr_to_rgb", pixels.get("to_rgb"))
    count = head.get("num_classes")
    nms = _dict(test.get("nms"))
    return DraftOptions(
        size=(side, side),
        color=None if swapped is None else ("rgb" if swapped else "bgr"),
        mean=_numbers(pixels["mean"], "mean", 3) if "mean" in pixels else None,
        std=_numbers(pixels["std"], "std", 3) if "std" in pixels else None,
        resize="stretch",
        classes=_classes(config),
        priors=PriorSpec(_levels(anchors, side)),
        loc_order="cxcywh",
        variance=(stds[0], stds[2]),
        background=count if isinstance(count, int) else None,  # behind the classes
        iou_threshold=_optional(nms, "iou_threshold"),
        score_threshold=_optional(test, "score_thr"),
        max_detections=test["max_per_img"] if isinstance(test.get("max_per_img"), int) else None,
    )


def _classes(config: dict[str, Any]) -> tuple[str, ...]:
    names = _dict(config.get("metainfo")).get("classes", config.get("classes", ()))
    return tuple(str(name) for name in names) if isinstance(names, (list, tuple)) else ()


def _levels(anchors: dict[str, Any], side: int) -> tuple[PriorLevel, ...]:
    """SSDAnchorGenerator's: sizes cut to whole pixels, centers in the middle of a step."""
    steps = _numbers(anchors.get("strides"), "strides")
    ratios = anchors.get("ratios")
    if not isinstance(ratios, (list, tuple)) or len(ratios) != len(steps) or min(steps) <= 0:
        raise ValueError("anchor_generator: expected ratios for each of the strides, which are above 0")
    if "min_sizes" in anchors or "max_sizes" in anchors:
        least = _numbers(anchors.get("min_sizes"), "min_sizes", len(steps))
        most = _numbers(anchors.get("max_sizes"), "max_sizes", len(steps))
    else:
        span = _numbers(anchors.get("basesize_ratio_range", (0.15, 0.9)), "basesize_ratio_range", 2)
        least, most = _sizes_from_range((span[0], span[1]), side, len(steps))
    if min(*least, *most) <= 0:
        raise ValueError("min_sizes, max_sizes: expected numbers above 0")
    scale_major = anchors.get("scale_major", True)
    return tuple(
        PriorLevel(
            (math.ceil(side / step), math.ceil(side / step)),
            (step, step),
            _boxes(least[k], most[k], _numbers(ratios[k], f"ratios[{k}]"), scale_major),
        )
        for k, step in enumerate(steps)
    )


def _sizes_from_range(span: tuple[float, float], side: int, count: int) -> tuple[list[float], list[float]]:
    first, last = int(span[0] * 100), int(span[1] * 100)
    apart = (last - first) // (count - 2) if count > 2 else 0
    if apart < 1:
        raise ValueError(
            f"basesize_ratio_range: expected a range for {count} levels, got {span[0]:g} to {span[1]:g}"
        )
    # Of the first map, in per cent of the input: SSD's for COCO and VOC.
    before = {(300, 15): 7, (300, 20): 10, (512, 10): 4, (512, 15): 7}.get((side, first))
    if before is None:
        raise ValueError(
            "basesize_ratio_range: expected one of SSD300 (0.15 or 0.2) or SSD512 (0.1 or 0.15), or "
            "min_sizes and max_sizes"
        )
    shares = range(first, last + 1, apart)
    least: list[float] = [int(side * before / 100), *(int(side * share / 100) for share in shares)]
    most: list[float] = [int(side * first / 100), *(int(side * (share + apart) / 100) for share in shares)]
    if len(least) < count:
        raise ValueError(
            f"basesize_ratio_range: makes {len(least)} sizes, expected {count}, one for each stride"
        )
    return least[:count], most[:count]


def _boxes(
    least: float, most: float, ratios: tuple[float, ...], scale_major: Any
) -> tuple[tuple[float, float], ...]:
    """(w, h): of the anchors of two scales, which the generator lists, those that it keeps."""
    if any(r <= 0 for r in ratios):
        raise ValueError("ratios: expected numbers above 0")
    heights = [1.0, *(value for r in ratios for value in (1 / r, r))]
    scales = 1.0, math.sqrt(most / least)
    order = (
        [(s, r) for r in heights for s in scales]
        if scale_major
        else [(s, r) for s in scales for r in heights]
    )
    kept = [0, len(heights), *range(1, len(heights))]
    return tuple(
        (least * s / math.sqrt(r), least * s * math.sqrt(r)) for s, r in (order[index] for index in kept)
    )


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: Any, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e9:
        raise ValueError(f"{key}: expected a number, got {reprlib.repr(value)}")
    return value


def _numbers(value: Any, key: str, count: int = 0) -> tuple[float, ...]:
    if not isinstance(value, (list, tuple)) or not value or (count and len(value) != count):
        raise ValueError(f"{key}: expected a list of {count or 'some'} numbers, got {reprlib.repr(value)}")
    return tuple(_number(v, key) for v in value)


def _optional(values: dict[str, Any], key: str) -> float | None:
    return _number(values[key], key) if key in values else None


class _Files:
    """Configurations, each with those on which it is based below it."""

    def __init__(self) -> None:
        self._bases_left = _MOST_BASES
        self._values_left = limits.MOST_DESCRIPTION_VALUES

    def config(self, content: str, path: Path) -> dict[str, Any]:
        try:
            tree = ast.parse(content)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            said = str(error).splitlines() or [type(error).__name__]
            raise ValueError(f"not Python ({said[0]})") from None
        values: dict[str, Any] = {}
        for node in tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                values[node.targets[0].id] = self._value(node.value, values, 0)
        names = values.pop("_base_", ())
        below: dict[str, Any] = {}
        for name in [names] if isinstance(names, str) else names if isinstance(names, (list, tuple)) else ():
            below = _merged(below, self._base(str(name), path))
        return _merged(below, values)

    def _base(self, name: str, path: Path) -> dict[str, Any]:
        self._bases_left -= 1
        if self._bases_left < 0:
            raise ValueError(f"_base_: expected at most {_MOST_BASES} files")
        file = path.parent / name
        if file.suffix != ".py" or not file.is_file():
            return {}  # what it says may come from options
        content = read_file(file, limits.MOST_DESCRIPTION_BYTES).decode("utf-8", "replace")
        return self.config(content, file)

    def _value(self, node: ast.expr, known: dict[str, Any], depth: int) -> Any:
        """What an expression of literals, lists, dictionaries and earlier names says; None for all else."""
        self._count()
        if depth > _MOST_DEPTH:
            return None
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, (ast.List, ast.Tuple)):
            return [self._value(entry, known, depth + 1) for entry in node.elts]
        if isinstance(node, ast.Dict):
            return {
                key.value: self._value(value, known, depth + 1)
                for key, value in zip(node.keys, node.values)
                if isinstance(key, ast.Constant) and isinstance(key.value, str)
            }
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
            return {word.arg: self._value(word.value, known, depth + 1) for word in node.keywords if word.arg}
        if isinstance(node, ast.Name):
            return self._copied(known.get(node.id))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            value = self._value(node.operand, known, depth + 1)
            return -value if isinstance(value, (int, float)) else None
        return None

    def _copied(self, value: Any) -> Any:
        """A value that is named again, counted as often: names of names grow without bounds."""
        self._count()
        if isinstance(value, list):
            return [self._copied(entry) for entry in value]
        if isinstance(value, dict):
            return {key: self._copied(entry) for key, entry in value.items()}
        return value

    def _count(self) -> None:
        self._values_left -= 1
        if self._values_left < 0:
            raise ValueError(f"expected at most {limits.MOST_DESCRIPTION_VALUES} values")


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """MMDetection's rule: dictionaries are filled up, unless `_delete_` stands in the upper one."""
    if above.get("_delete_"):
        return {key: value for key, value in above.items() if key != "_delete_"}
    found = dict(below)
    for key, value in above.items():
        inner = found.get(key)
        found[key] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return found
