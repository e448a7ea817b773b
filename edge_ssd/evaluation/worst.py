"""The images that a detector gets most wrong, as one picture."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from ..datasets import Dataset
from ..files import StrPath
from ..files.image import shrunk
from ..files.plot_file import plot_file, plot_name, plot_title
from .errors import SCORE_THRESHOLD, badness
from .predictions import Predictions

COUNT = 20
_COLUMNS = 5
# Pixels of an image in it, which are kept until all are drawn.
_LONGEST_SIDE = 800


def plot_worst(predictions: Predictions, dataset: Dataset, path: StrPath, title: str = "") -> None:
    """Writes the COUNT images with the most errors, worst first, to `path`, a PNG.

    predictions: of every image of `dataset`, in its order. Truth is drawn in green, dotted where it is difficult,
    detections above SCORE_THRESHOLD in red. Images without an error are left out.
    """
    points = np.array([badness(*pair) for pair in zip(predictions.truths, predictions.detections)])
    worst = [int(i) for i in np.argsort(-points, kind="stable")[:COUNT] if points[i] > 0]
    rows = max(1, math.ceil(len(worst) / _COLUMNS))
    legend = f"green: truth; red: detected; {len(worst)} worst of {len(points)} images"
    with plot_file(path, dpi=75, figsize=(4 * _COLUMNS, 4.2 * rows), layout="constrained") as figure:
        figure.suptitle(f"{plot_title(title)}\n{legend}")
        axes = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
        for axis in axes:
            axis.axis("off")
        for axis, index in zip(axes, worst):
            _draw(axis, dataset, predictions, index)


def _draw(axis: Axes, dataset: Dataset, predictions: Predictions, index: int) -> None:
    truth, found = predictions.truths[index], predictions.detections[index]
    height, width = truth.image_size
    axis.imshow(shrunk(dataset.image(index), _LONGEST_SIDE)[..., ::-1], extent=(0, width, height, 0))
    axis.set_title(plot_name(dataset.image_name(index).rsplit("/", 1)[-1]), fontsize=8)
    for box, label, difficult in zip(truth.boxes, truth.labels, truth.difficult):
        _draw_box(
            axis,
            box,
            plot_name(predictions.class_names[label]),
            "#00c800",
            ":" if difficult else "-",
            "bottom",
        )
    for box, score, label in found[found.scores > SCORE_THRESHOLD]:
        _draw_box(
            axis, box, f"{plot_name(predictions.class_names[label])} {score:.2f}", "#ff2020", "-", "top"
        )


def _draw_box(axis, box, text, color, style, place):
    """Truth has its text above the box, a detection below it."""
    x1, y1, x2, y2 = (float(v) for v in box)
    axis.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, color=color, linestyle=style))
    y = y1 if place == "bottom" else y2
    axis.text(x1, y, text, fontsize=7, color=color, va=place, clip_on=True)
