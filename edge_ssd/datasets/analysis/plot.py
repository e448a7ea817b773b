"""Statistics of a data set as a picture: histograms and a contact sheet."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.patches import Rectangle

from ...files import StrPath
from ...files.image import shrunk
from ...files.plot_file import plot_file, plot_name, plot_title
from ..dataset import Dataset
from .statistics import DataStatistics

_SHEET_ROWS, _SHEET_COLUMNS = 4, 6
# Pixels of an image of the sheet, which are kept until all are drawn.
_LONGEST_SIDE = 800
# Classes that there is room for: those with the most boxes.
_MOST_BARS = 100


def plot_statistics(statistics: DataStatistics, dataset: Dataset, path: StrPath) -> None:
    """Writes histograms of `statistics`, and annotated images spread over `dataset`, to `path`, a PNG."""
    with plot_file(path, dpi=80, figsize=(18, 17), layout="constrained") as figure:
        top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=(1, 2.4)).ravel()
        title = plot_title(dataset.address)
        top.suptitle(f"{title}: {len(dataset)} images, {len(statistics.labels)} boxes")
        _draw_histograms(top.subplots(1, 4), statistics)
        indices = np.linspace(0, len(dataset) - 1, _SHEET_ROWS * _SHEET_COLUMNS).round().astype(int)
        axes = bottom.subplots(_SHEET_ROWS, _SHEET_COLUMNS).ravel()
        for axis in axes:
            axis.axis("off")
        for axis, index in zip(axes, np.unique(indices)):
            _draw_image(axis, dataset, int(index))


def _draw_histograms(axes, statistics):
    by_class, by_size, by_count, by_light = axes
    counts = np.bincount(statistics.labels, minlength=len(statistics.class_names))
    most = np.sort(np.argsort(-counts, kind="stable")[:_MOST_BARS])
    by_class.barh(range(len(most)), counts[most])
    by_class.set_yticks(range(len(most)), [plot_name(statistics.class_names[k]) for k in most])
    by_class.invert_yaxis()
    by_class.set_title("boxes of each class")
    sides = statistics.sides[statistics.sides > 0]
    by_size.hist(sides, bins=np.geomspace(min(sides, default=0.01), 1, 25))
    by_size.set(xscale="log", title="shorter side / image's shorter side")
    by_size.set_xticks([v for v in (0.02, 0.05, 0.1, 0.2, 0.4, 0.8) if v >= min(sides, default=0)])
    by_size.xaxis.set_major_formatter("{x:.0%}")
    by_size.xaxis.set_minor_formatter("")
    by_count.hist(statistics.boxes_per_image, bins=np.arange(statistics.boxes_per_image.max() + 2) - 0.5)
    by_count.set_title("boxes of an image")
    by_light.hist(statistics.brightness, bins=np.linspace(0, 255, 26))
    by_light.set_title("brightness of an image, 0..255")


def _draw_image(axis, dataset, index):
    truth = dataset.truth(index)
    height, width = truth.image_size
    axis.imshow(shrunk(dataset.image(index), _LONGEST_SIDE)[..., ::-1], extent=(0, width, height, 0))
    colors = mpl.colormaps["tab10"]
    for (x1, y1, x2, y2), label, difficult in zip(truth.boxes.tolist(), truth.labels, truth.difficult):
        color, style = colors(int(label) % 10), ":" if difficult else "-"
        axis.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, color=color, linestyle=style))
        name = plot_name(dataset.class_names[label])
        axis.text(x1, y1, name, fontsize=6, color="white", backgroundcolor=(*color[:3], 0.6), va="bottom")
