"""How well default boxes cover the objects of a data set, and boxes that are fitted to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from ...boxes import centre_to_corners, intersections, iou_matrix
from ...files.terminal import short_name
from ...resize import plan_resize
from ...spec import InputSpec
from ..dataset import Dataset

# Below this IoU with every default box, an object is matched by the one that it takes for itself only.
COVERED_IOU = 0.5
# Limits of the table's size groups: sqrt(width x height) of an object, in shares of sqrt(the input's area).
SIZE_LIMITS = (0.0, 0.03, 0.06, 0.12, 0.25, 0.5, 1.0)
# An object of 2.25 steps overlaps a box of its own size by IoU > 0.5 in 94 % of the places that it can have
# between four cells; by 0.64 when it is half a step off one way, by 0.43 both ways.
LEAST_STEPS = 2.25
# Pairs of object and default box that are compared in one go: bounds the memory.
_CHUNK_PAIRS = 1 << 22


@dataclass(frozen=True)
class Objects:
    """The objects of a data set in a network's input; difficult ones are left out.

    boxes: (N, 4) float32 corners, normalised to the input.   labels: (N,) int32, index into class_names.
    """

    class_names: tuple[str, ...]
    boxes: np.ndarray
    labels: np.ndarray

    @property
    def scales(self) -> np.ndarray:
        """(N,) float32 sqrt(width x height), in shares of the input."""
        sides = self.boxes[:, 2:] - self.boxes[:, :2]
        return np.sqrt(sides.prod(axis=1))


@dataclass(frozen=True)
class Coverage:
    """Of N objects: best_iou (N,) float32 with any default box; best_prior (N,) int64, which one that is;
    matches (N,) int64, default boxes with IoU > 0.5."""

    best_iou: np.ndarray
    best_prior: np.ndarray
    matches: np.ndarray


def read_objects(dataset: Dataset, input_spec: InputSpec, indices: Iterable[int] | None = None) -> Objects:
    """The Objects of a data set in an input of `input_spec`.

    indices: to go over, such as a progress bar. Raises ValueError for a data set without objects.
    """
    boxes, labels = [], []
    for index in range(len(dataset)) if indices is None else indices:
        truth = dataset.truth(index)
        plan = plan_resize(truth.image_size, input_spec.size, input_spec.resize)
        keeps = ~truth.difficult & (truth.boxes[:, 2:] > truth.boxes[:, :2]).all(axis=1)
        boxes.append(plan.to_input(truth.boxes[keeps]))
        labels.append(truth.labels[keeps])
    if not sum(map(len, labels)):
        raise ValueError(f"{dataset.address}: no objects that count")
    return Objects(dataset.class_names, np.concatenate(boxes).astype(np.float32), np.concatenate(labels))


def measure_coverage(objects: Objects, priors: np.ndarray) -> Coverage:
    """The Coverage of `objects` by `priors`, (P, 4) float32 cx cy w h in 0..1."""
    corners = centre_to_corners(priors)
    parts = []
    rows = max(1, _CHUNK_PAIRS // len(priors))
    for start in range(0, len(objects.boxes), rows):
        iou = iou_matrix(objects.boxes[start : start + rows], corners)
        parts.append((iou.max(axis=1), iou.argmax(axis=1), (iou > COVERED_IOU).sum(axis=1)))
    return Coverage(*(np.concatenate(values) for values in zip(*parts)))


def coverage_text(objects: Objects, coverage: Coverage) -> str:
    """Coverage over all, by class and by size, as a table for people."""
    names = [short_name(name) for name in objects.class_names]
    width = max([8, *map(len, names)])
    head = f"{'objects':>8} {'IoU > 0.5':>9} {'best IoU':>8} {'matches':>8}"
    lines = [f"{'class':{width}} {head}"]
    for label, name in enumerate(names):
        lines.append(f"{name:{width}} {_row(coverage, objects.labels == label)}")
    lines.append(f"{'all':{width}} {_row(coverage, np.ones(len(objects.labels), bool))}")
    lines += ["", f"{'size':{width}} {head}"]
    for low, high in pairwise(SIZE_LIMITS):
        of_size = (objects.scales >= low) & (objects.scales < high if high < 1 else True)
        lines.append(f"{f'{low:.0%} to {high:.0%}':{width}} {_row(coverage, of_size)}")
    return "\n".join(lines)


def _row(coverage: Coverage, chosen: np.ndarray) -> str:
    count = int(chosen.sum())
    if not count:
        return f"{0:8d} {'-':>9} {'-':>8} {'-':>8}"
    covered = (coverage.best_iou[chosen] > COVERED_IOU).mean()
    return (
        f"{count:8d} {covered:9.1%} {coverage.best_iou[chosen].mean():8.3f} "
        f"{coverage.matches[chosen].mean():8.2f}"
    )


def fit_sizes(sides: ArrayLike, count: int, rounds: int = 100) -> np.ndarray:
    """`count` box sizes that overlap boxes of the given sizes best, centres alike (as YOLO9000's section 2).

    sides: (N, 2) float (w, h), any unit.   K-medians on 1 - IoU, from sizes spread evenly over the areas;
    no random numbers.   Returns (count, 2) float64, smallest area first. Fewer different sides than `count`
    give sizes twice.
    """
    sides = np.asarray(sides, np.float64)
    order = np.argsort(sides.prod(axis=1), kind="stable")
    starts = ((np.arange(count) + 0.5) / count * len(sides)).astype(int)
    sizes, nearest = sides[order[starts]], None
    for _ in range(rounds):
        found = shape_iou(sides, sizes).argmax(axis=1)
        if nearest is not None and (found == nearest).all():
            break
        nearest = found
        for k in range(count):
            if (nearest == k).any():  # an empty group keeps its size
                sizes[k] = np.median(sides[nearest == k], axis=0)
    return sizes[np.argsort(sizes.prod(axis=1), kind="stable")]


def shape_iou(first: ArrayLike, second: ArrayLike) -> np.ndarray:
    """IoU of boxes with one centre: (N, 2), (M, 2) (w, h) -> (N, M)."""
    first, second = np.asarray(first), np.asarray(second)
    zeros_first, zeros_second = np.zeros_like(first), np.zeros_like(second)
    inter = intersections(
        np.concatenate([zeros_first, first], axis=1)[:, None],
        np.concatenate([zeros_second, second], axis=1)[None],
    )
    return inter / (first.prod(axis=1)[:, None] + second.prod(axis=1)[None] - inter)


def fit_levels(
    objects: Objects,
    input_size: tuple[int, int],
    steps: Sequence[tuple[float, float]],
    counts: Sequence[int],
) -> list[np.ndarray]:
    """Box sizes for each feature map, fitted to `objects`.

    input_size: (height, width).   steps: (y, x) of a cell of each map, input pixels, finest first.
    counts: boxes of a cell, per map.

    An object belongs to the coarsest map whose step is at most LEAST_STEPS-th of its scale, so that an object
    between two cells still overlaps boxes of theirs; smaller ones than that to the finest. A map with
    too few objects has boxes of the scales that would be its own, in three shapes; none is wider or higher
    than the input. Returns a list of (count, 2) float64 (w, h), input pixels.
    """
    sides = (objects.boxes[:, 2:] - objects.boxes[:, :2]).astype(np.float64) * input_size[::-1]
    least = np.array([LEAST_STEPS * np.sqrt(np.prod(step)) for step in steps])
    level = np.clip(np.searchsorted(least, np.sqrt(sides.prod(axis=1)), side="right") - 1, 0, None)
    sizes = []
    for k, count in enumerate(counts):
        own = sides[level == k]
        few = len(own) < 4 * count
        sizes.append(_even_sizes(least[k], count, input_size) if few else fit_sizes(own, count))
    return sizes


def _even_sizes(scale: float, count: int, input_size: tuple[int, int]) -> np.ndarray:
    """(w, h) of `count` boxes from `scale` on: square, 2 : 1, 1 : 2, then the same at sqrt(2) times the scale, ...

    From a smaller scale where the largest square would not fit in the input; sides are cut at it.
    """
    shapes = [(1.0, 1.0), (2**0.5, 0.5**0.5), (0.5**0.5, 2**0.5)]
    scale = min(scale, min(input_size) / 2 ** ((count - 1) // 3 / 2))
    sizes = np.array([np.array(shapes[k % 3]) * scale * 2 ** (k // 3 / 2) for k in range(count)])
    return np.minimum(sizes, input_size[::-1])
