"""Precision-recall curves as a picture."""

from __future__ import annotations

import math

from matplotlib.axes import Axes

from ..files import StrPath
from ..files.plot_file import plot_file, plot_name, plot_title
from .predictions import Predictions
from .voc import Curve, area_ap, precision_recall

_MOST_CURVES = 200


def plot_curves(predictions: Predictions, path: StrPath, title: str = "") -> None:
    """Writes the precision-recall curves at IoU 0.5 of every class that has a box to `path`, a PNG.

    Of more than _MOST_CURVES classes those with the most boxes.
    """
    curves = [(k, precision_recall(predictions, k)) for k in range(len(predictions.class_names))]
    curves = sorted((pair for pair in curves if pair[1].positives), key=lambda pair: -pair[1].positives)
    labels = sorted(label for label, _ in curves[:_MOST_CURVES])
    columns = min(4, max(1, len(labels)))
    rows = max(1, math.ceil(len(labels) / columns))
    with plot_file(path, dpi=110, figsize=(3.2 * columns, 2.8 * rows), layout="constrained") as figure:
        axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
        for axis, label in zip(axes, labels):
            _draw(axis, dict(curves)[label], predictions.class_names[label])
        for axis in axes[len(labels) :]:
            axis.axis("off")
        figure.supxlabel("recall")
        figure.supylabel("precision (IoU 0.5)")
        figure.suptitle(plot_title(title))


def _draw(axis: Axes, curve: Curve, name: str) -> None:
    axis.plot([0, *curve.recall], [1, *curve.precision], drawstyle="steps-post", linewidth=1.2)
    axis.set(xlim=(0, 1.02), ylim=(0, 1.05))
    axis.grid(alpha=0.3)
    axis.set_title(f"{plot_name(name)}: AP {area_ap(curve):.3f}, {curve.positives} boxes", fontsize=9)
