"""What a detector says of a data set's images, beside what is true."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ..datasets import Dataset, Truth
from ..detections import Detections
from ..files.terminal import progress_bar

# Gives what is in a (H, W, 3) uint8 BGR image.
Detect = Callable[[np.ndarray], Detections]


@runtime_checkable
class DetectsAll(Protocol):
    """What may work on several images at once, as a Detector does."""

    def detect_all(self, frames: Iterable[np.ndarray], /) -> Iterator[tuple[Any, Detections, Any]]:
        """A tuple for each image, in order; its second entry is what was found."""
        ...


@dataclass(frozen=True)
class Predictions:
    """Detections and truths of the same images, labels indexing `class_names`.

    difficult_is_crowd: see `Dataset`.   left_out: detections of classes that the data set does not have.
    areas: of each image (N,) float64, by which its N objects are small or large; those of the boxes when empty.
    """

    class_names: tuple[str, ...]
    truths: tuple[Truth, ...]
    detections: tuple[Detections, ...]
    difficult_is_crowd: bool = False
    left_out: int = 0
    areas: tuple[np.ndarray, ...] = ()

    def __post_init__(self) -> None:
        if len(self.truths) != len(self.detections):
            raise ValueError(
                f"detections: expected one for each of {len(self.truths)} images, got {len(self.detections)}"
            )


def predict(
    detect: Detect | DetectsAll,
    dataset: Dataset,
    class_names: Sequence[str] = (),
    progress: bool = False,
) -> Predictions:
    """Runs `detect`, a Detector or a function, on every image of `dataset`; arguments and errors as of `evaluate`."""
    if not len(dataset):
        raise ValueError(f"{dataset.address}: no images to evaluate on")
    table = _label_table(class_names or dataset.class_names, dataset)
    truths, areas, detections, left_out = [], [], [], 0

    def images() -> Iterator[np.ndarray]:
        for index in _shown(range(len(dataset)), progress):
            # With its image: a data set may render both at once, and keep the latest alone.
            truths.append(dataset.truth(index))
            areas.append(dataset.areas(index))
            yield dataset.image(index)

    if isinstance(detect, DetectsAll):
        everything = (found for _, found, _ in detect.detect_all(images()))
    else:
        everything = map(detect, images())
    for found in everything:
        found = replace(found, labels=table[found.labels])
        detections.append(found[found.labels >= 0])
        left_out += len(found) - len(detections[-1])
    return Predictions(
        dataset.class_names,
        tuple(truths),
        tuple(detections),
        dataset.difficult_is_crowd,
        left_out,
        tuple(areas),
    )


def _label_table(class_names: Sequence[str], dataset: Dataset) -> np.ndarray:
    """(len(class_names),) int32: the data set's label of each of the detector's, -1 where it has none."""
    missing = [name for name in dataset.class_names if name not in class_names]
    if missing:
        raise ValueError(
            f"the model lacks class {', '.join(missing)} of {dataset.address}; "
            f"it has {', '.join(class_names)}"
        )
    return np.array(
        [dataset.class_names.index(n) if n in dataset.class_names else -1 for n in class_names], np.int32
    )


def _shown(indices: Iterable[int], progress: bool) -> Iterable[int]:
    if not progress:
        return indices
    try:
        return progress_bar(indices, desc="evaluate", unit="image")
    except ImportError:  # a bar is no reason to stop
        return indices
