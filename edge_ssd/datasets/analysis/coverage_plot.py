"""Default boxes and the objects that they should cover, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib.ticker import LogLocator

from ...files import StrPath
from ...files.plot_file import plot_file, plot_name, plot_title
from ...spec import PriorLevel
from .coverage import COVERED_IOU, SIZE_LIMITS, Coverage, Objects

# Classes that there is room for: those with the most objects.
_MOST_BARS = 200


def plot_coverage(
    objects: Objects,
    coverage: Coverage,
    levels: Sequence[PriorLevel],
    input_size: tuple[int, int],
    title: str,
    path: StrPath,
) -> None:
    """Writes a PNG to `path`: sizes of objects and default boxes, best IoU by size, and coverage by class.

    coverage: of `objects` by the boxes of `levels`.   input_size: (height, width), pixels.   title: above it all.
    """
    rows = min(_MOST_BARS, len(objects.class_names))
    with plot_file(path, dpi=80, figsize=(18, max(5.5, 2 + 0.18 * rows)), layout="constrained") as figure:
        figure.suptitle(plot_title(title))
        shapes, by_size, by_class = figure.subplots(1, 3)
        _draw_shapes(shapes, objects, levels, input_size)
        _draw_sizes(by_size, objects, coverage)
        _draw_classes(by_class, objects, coverage)


def _draw_shapes(axis, objects, levels, input_size):
    sides = (objects.boxes[:, 2:] - objects.boxes[:, :2]) * np.array(input_size[::-1])
    axis.plot(*sides.T, ".", color="0.6", markersize=2, label="objects")
    for level in levels:
        rows, columns = level.feature_size
        axis.plot(*np.array(level.sizes).T, "o", label=f"boxes of {rows} x {columns}")
    axis.set(xscale="log", yscale="log", xlabel="width, input pixels", ylabel="height", title="sizes")
    axis.set_aspect("equal")
    for one in (axis.xaxis, axis.yaxis):
        _number_ticks(one, "{x:.0f}")
    axis.legend(fontsize=8)


def _number_ticks(axis, form):
    """Plain numbers on a logarithmic axis."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(form)
    axis.set_minor_formatter("")


def _draw_sizes(axis, objects, coverage):
    axis.plot(objects.scales, coverage.best_iou, ".", color="0.6", markersize=2)
    for low, high in pairwise(SIZE_LIMITS):
        of_size = (objects.scales >= low) & (objects.scales <= high)
        if of_size.any():
            axis.hlines(coverage.best_iou[of_size].mean(), max(low, objects.scales.min()), high, color="C0")
    axis.axhline(COVERED_IOU, color="C3", linestyle=":")
    axis.set(
        xscale="log", ylim=(0, 1), xlabel="sqrt(area) / input", title="best IoU with a default box; mean"
    )
    _number_ticks(axis.xaxis, "{x:.0%}")


def _draw_classes(axis, objects, coverage):
    covered = coverage.best_iou > COVERED_IOU
    counts = np.bincount(objects.labels, minlength=len(objects.class_names))
    most = np.sort(np.argsort(-counts, kind="stable")[:_MOST_BARS])
    shares = [covered[objects.labels == label].mean() if counts[label] else 0.0 for label in most]
    axis.barh(range(len(most)), shares)
    axis.set_yticks(range(len(most)), [plot_name(objects.class_names[label]) for label in most])
    axis.invert_yaxis()
    axis.tick_params(axis="y", labelsize=7)
    axis.set(xlim=(0, 1), title=f"share of objects with a default box of IoU > {COVERED_IOU}")
