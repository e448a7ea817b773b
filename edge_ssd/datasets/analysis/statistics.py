"""What is in a data set: sizes, classes, overlaps, light."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ...boxes import iou_matrix
from ...files.terminal import short_name
from ..dataset import Dataset, Truth

# Two objects of an image overlap when their boxes' IoU is above this.
OVERLAP_IOU = 0.1
# Pairs of boxes that are compared in one go: bounds the memory.
_CHUNK_PAIRS = 1 << 20

# Limits of the table's size groups, in shares of the image's shorter side; each doubles the last.
SIZE_LIMITS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.0)


@dataclass(frozen=True)
class DataStatistics:
    """Of I images with N boxes in all.

    image_sizes: how often each (height, width) occurs.   boxes_per_image: (I,) int64.
    labels: (N,) int32.   difficult: (N,) bool.
    sides: (N,) float64, shorter side of each box in shares of the image's shorter side.
    has_overlap: (I,) bool, two boxes with IoU > OVERLAP_IOU.   scenes: (I,) int64, number of its scene.
    brightness: (I,) float64, mean level of all channels, 0..255.
    """

    class_names: tuple[str, ...]
    image_sizes: Counter[tuple[int, int]]
    boxes_per_image: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray
    sides: np.ndarray
    has_overlap: np.ndarray
    scenes: np.ndarray
    brightness: np.ndarray

    @property
    def overlapping_scenes(self) -> tuple[int, int]:
        """(scenes in which an image has an overlap, scenes in all)."""
        return len(np.unique(self.scenes[self.has_overlap])), len(np.unique(self.scenes))


def measure(dataset: Dataset, indices: Iterable[int] | None = None) -> DataStatistics:
    """The DataStatistics of a data set, every image decoded. indices: to go over, such as a progress bar.

    Raises ValueError for a data set without images, and what `truth` and `image` raise.
    """
    if not len(dataset):
        raise ValueError(f"{dataset.address}: no images")
    images = []
    for index in range(len(dataset)) if indices is None else indices:
        truth = dataset.truth(index)
        images.append((truth, _overlap(truth.boxes), dataset.scene(index), dataset.image(index).mean()))
    truths, overlaps, scenes, brightness = zip(*images)
    return DataStatistics(
        class_names=dataset.class_names,
        image_sizes=Counter(truth.image_size for truth in truths),
        boxes_per_image=np.array([len(truth.boxes) for truth in truths]),
        labels=np.concatenate([truth.labels for truth in truths]),
        difficult=np.concatenate([truth.difficult for truth in truths]),
        sides=np.concatenate([_sides(truth) for truth in truths]),
        has_overlap=np.array(overlaps, bool),
        scenes=np.array(scenes),
        brightness=np.array(brightness),
    )


def _overlap(boxes: np.ndarray) -> bool:
    """Whether two of the boxes of an image have an IoU above OVERLAP_IOU."""
    rows = max(1, _CHUNK_PAIRS // max(1, len(boxes)))
    for start in range(0, len(boxes), rows):
        iou = iou_matrix(boxes[start : start + rows], boxes[start:])
        if (np.triu(iou, k=1) > OVERLAP_IOU).any():
            return True
    return False


def _sides(truth: Truth) -> np.ndarray:
    return (truth.boxes[:, 2:] - truth.boxes[:, :2]).min(axis=1).astype(np.float64) / min(truth.image_size)


def statistics_text(statistics: DataStatistics) -> str:
    """The statistics as a table for people."""
    return "\n".join([*_image_lines(statistics), "", *_size_lines(statistics), "", *_class_lines(statistics)])


def _image_lines(s: DataStatistics) -> list[str]:
    sizes = ", ".join(f"{w}x{h} ({n})" for (h, w), n in s.image_sizes.most_common(4))
    more = f" and {len(s.image_sizes) - 4} more sizes" if len(s.image_sizes) > 4 else ""
    counts, boxes = s.boxes_per_image, len(s.labels)
    overlaps = _percent(s.has_overlap.sum(), len(counts))
    overlapping, scenes = s.overlapping_scenes
    low, middle, high = np.percentile(s.brightness, (5, 50, 95))
    lines = [
        f"{len(counts)} images: {sizes}{more}",
        f"{boxes} boxes: {counts.mean():.2f} an image, from {counts.min()} to {counts.max()}; "
        f"{_percent(s.difficult.sum(), boxes)} difficult",
        f"objects overlap (IoU > {OVERLAP_IOU}) in {overlaps} of the images",
        f"brightness: {middle:.0f} in the middle, 90 % from {low:.0f} to {high:.0f}",
    ]
    if scenes < len(counts):
        lines[0] += f", in {scenes} scenes"
        lines[2] += f", {_percent(overlapping, scenes)} of the scenes"
    return lines


def _size_lines(s: DataStatistics) -> list[str]:
    shares = np.histogram(s.sides, SIZE_LIMITS)[0]
    lines = ["shorter side / image's shorter side"]
    for low, high, count in zip(SIZE_LIMITS, SIZE_LIMITS[1:], shares):
        lines.append(f"  {low:5.0%} to {high:4.0%} {count:8d} {_percent(count, len(s.sides)):>8}")
    return lines


def _class_lines(s: DataStatistics) -> list[str]:
    names = [short_name(name) for name in s.class_names]
    width = max([8, *map(len, names)])
    lines = [f"{'class':{width}} {'boxes':>8} {'share':>8} {'difficult':>9} {'median side':>11}"]
    for label, name in enumerate(names):
        of_class = s.labels == label
        count = int(of_class.sum())
        median = f"{np.median(s.sides[of_class]):.1%}" if count else "-"
        difficult = int(s.difficult[of_class].sum())
        lines.append(
            f"{name:{width}} {count:8d} {_percent(count, len(s.labels)):>8} {difficult:9d} {median:>11}"
        )
    return lines


def _percent(count: int, total: int) -> str:
    return f"{count / total:.1%}" if total else "-"
