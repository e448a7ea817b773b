"""Precision-recall curves as a picture."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..files import StrPath, replacing
from .predictions import Predictions
from .voc import Curve, area_ap, precision_recall


def plot_curves(predictions: Predictions, path: StrPath, title: str = "") -> None:
    """Writes the precision-recall curves at IoU 0.5 of every class that has a box to `path`, a PNG."""
    labels = [k for k in range(len(predictions.class_names)) if precision_recall(predictions, k).positives]
    columns = min(4, max(1, len(labels)))
    rows = max(1, math.ceil(len(labels) / columns))
    figure = Figure(figsize=(3.2 * columns, 2.8 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for axis, label in zip(axes, labels):
        _draw(axis, precision_recall(predictions, label), predictions.class_names[label])
    for axis in axes[len(labels) :]:
        axis.axis("off")
    figure.supxlabel("recall")
    figure.supylabel("precision (IoU 0.5)")
    figure.suptitle(title)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def _draw(axis: Axes, curve: Curve, name: str) -> None:
    axis.plot([0, *curve.recall], [1, *curve.precision], drawstyle="steps-post", linewidth=1.2)
    axis.set(xlim=(0, 1.02), ylim=(0, 1.05))
    axis.grid(alpha=0.3)
    axis.set_title(f"{name}: AP {area_ap(curve):.3f}, {curve.positives} boxes", fontsize=9)
