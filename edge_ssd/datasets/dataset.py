"""What a data set is: images, and the boxes that are in them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from .. import limits
from ..files import StrPath

# Of an image, or of the set as a whole (None): what is wrong or odd.
Finding = tuple[int | None, str]


def is_background(name: str) -> bool:
    """Whether a class name says background, as the frameworks write it: background, BACKGROUND, __background__."""
    return name.strip("_ -").casefold() == "background"


# Problems that one error names.
_SHOWN = 10


@dataclass(frozen=True)
class Truth:
    """The objects of one image.

    boxes: (N, 4) float32 x1 y1 x2 y2 in pixels of the image, pixel i covering i..i+1, within the image.
    labels: (N,) int32, index into the data set's class_names.
    difficult: (N,) bool, ignored in scoring.   image_size: (height, width), pixels.
    """

    boxes: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray
    image_size: tuple[int, int]


@dataclass(frozen=True)
class Annotation:
    """The objects of one image as the file has them, right or wrong.

    boxes: (N, 4) float64 corners in pixels of the image.   names: tuple of N class names.
    difficult: (N,) bool.   image_size: (height, width), pixels.
    Raises ValueError for more objects or longer sides than any image has.
    """

    boxes: np.ndarray
    names: tuple[str, ...]
    difficult: np.ndarray
    image_size: tuple[int, int]

    def __post_init__(self) -> None:
        if max(self.image_size) > limits.MOST_IMAGE_SIDE:
            raise ValueError(f"size: expected sides of at most {limits.MOST_IMAGE_SIDE} pixels")
        if len(self.boxes) > limits.MOST_OBJECTS:
            raise ValueError(f"expected at most {limits.MOST_OBJECTS} objects, got {len(self.boxes)}")


class Dataset(ABC):
    """Images with truth, by index from 0. Can be pickled, so worker processes may have a copy each.

    class_names: tuple, without background.   address: where it is, for messages.
    """

    # What scoring ignores are single objects, each named by its own box (VOC's difficult ones),
    # or areas full of them (COCO's crowds), of which a detection may take any part.
    difficult_is_crowd = False

    # What lies in the data set's folder and is not taken: a text for each reason, with a count.
    left_out: tuple[str, ...] = ()

    def __init__(self, address: str, class_names: Sequence[str]) -> None:
        self.address, self.class_names = address, tuple(class_names)
        if len(set(self.class_names)) != len(self.class_names):
            raise ValueError(f"{address}: class_names: expected each name once, got {', '.join(class_names)}")
        self._labels = {name: label for label, name in enumerate(self.class_names)}

    @abstractmethod
    def __len__(self) -> int:
        """Number of images."""

    @abstractmethod
    def image_name(self, index: int) -> str:
        """What the image is called in messages and reports: a file's path, where there is one."""

    @abstractmethod
    def image(self, index: int) -> np.ndarray:
        """The image, (H, W, 3) uint8 BGR. Raises FileNotFoundError or ValueError naming the file."""

    @abstractmethod
    def annotation(self, index: int) -> Annotation:
        """The Annotation of an image. Raises FileNotFoundError or ValueError naming the file."""

    def areas(self, index: int) -> np.ndarray:
        """(N,) float64 areas of an image's objects, by which scoring tells small from large ones: of their boxes."""
        boxes = self.truth(index).boxes.astype(np.float64)
        return (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)

    def findings(self, indices: Iterable[int] | None = None) -> tuple[list[Finding], list[Finding]]:
        """What is wrong with the images and their truth, and what is odd, decoding none: (problems, remarks).

        Both are lists of (index, text that names the file); index None for what concerns the whole set. Remarks are
        for people to judge and stop nothing. indices: to go over, such as a progress bar.
        """
        return [], []

    def check(self) -> list[str]:
        """The remarks, list of text. Raises one ValueError that names each offending file (the first ten, and how
        many more) and the command that writes the list of the others."""
        problems, remarks = self.findings()
        if problems:
            texts = [text for _, text in problems]
            count = f"{len(texts)} problems: " if len(texts) > 1 else ""
            more = [f"and {len(texts) - _SHOWN} more"] if len(texts) > _SHOWN else []
            # Without an image to leave out there is nothing to clean.
            fix_hint = [self.fix_hint()] if any(index is not None for index, _ in problems) else []
            raise ValueError(
                f"{self.address}: {count}{'; '.join([*texts[:_SHOWN], *more, *filter(None, fix_hint)])}"
            )
        return [text for _, text in remarks]

    def fix_hint(self) -> str:
        """What to do about images with problems, for a message; empty where there is nothing."""
        return ""

    def write_part(self, indices: Sequence[int], path: StrPath) -> None:
        """Writes the images `indices` to `path` in the form in which such a data set lists a split.

        Raises ValueError for one that has no such form.
        """
        raise ValueError(f"{self.address}: has no list of images that could be written")

    def scene(self, index: int) -> int:
        """The number of the scene that an image belongs to: without videos, each is one of its own."""
        return index

    def truth(self, index: int) -> Truth:
        """The Truth of an image, its boxes clipped to the image.

        Raises what `annotation` raises, and ValueError for an unknown class and a box that is not finite.
        """
        found = self.annotation(index)
        if not np.isfinite(found.boxes).all():
            raise ValueError(f"{self.image_name(index)}: a box is not finite")
        height, width = found.image_size
        boxes = np.clip(found.boxes, 0, (width, height, width, height)).astype(np.float32)
        try:
            labels = np.array([self._labels[name] for name in found.names], np.int32)
        except KeyError as error:
            raise ValueError(
                f"{self.image_name(index)}: class {error} is not among {', '.join(self.class_names)}"
            ) from None
        return Truth(boxes, labels, found.difficult, found.image_size)
