"""Objects of other images put into an image, so that what lies around an object does not tell its class.

Few masks exist, so an object is told from the floor around it by its colour: a plane is fitted to the rim
outside its box, and what differs from it is the object. Rests of the old floor fade into the new one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from ..boxes import iou_matrix
from ..datasets import Dataset, Truth

# Objects that one image is given, at most.
MOST = 3
# Of the longer side of the box: what is cut out around an object.
_MARGIN = 0.12
# An object is made this much smaller or larger, but not larger than this share of the image.
_SCALES, _LARGEST = (0.5, 1.5), 0.8
# Places that are tried before an object is left out; none may cover another object by more than this.
_TRIALS, _OVERLAP = 8, 0.05
# Share of pasted objects of which the whole rectangle is taken: some are of the floor's colour.
_WHOLE = 0.25
# A mask tells where an object lies when its extent has this IoU with the object's box; then it may be rotated.
_TRUSTED = 0.65
# Light on a pasted object against that of its own image: factor of all channels, and of each.
_BRIGHTNESS, _TINT = (0.6, 1.5), (0.9, 1.1)
# Pixels of the longer side of a mask: more made pasting twice as slow, and the pictures look the same.
_MASK_SIDE = 64


class Cutout(NamedTuple):
    """pixels: (h, w, 3) float32 BGR.   alpha: (h, w) float32, 0..1.   box: x1 y1 x2 y2 in its pixels."""

    pixels: np.ndarray
    alpha: np.ndarray
    box: tuple[float, float, float, float]


class ObjectPaster:
    """Pastes objects of a data set, each class as often as any other.

    dataset: see `edge_ssd.datasets`; its annotations are read at the first use. Difficult objects and those cut
    off by the edge of their image are left where they are.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self._objects: list[list[tuple[int, int]]] | None = None

    def paste(self, image: np.ndarray, truth: Truth, rng: np.random.Generator) -> tuple[np.ndarray, Truth]:
        """A copy of `image`, (H, W, 3) uint8 BGR, with one to MOST more objects, and its Truth."""
        image, boxes, labels = image.copy(), list(truth.boxes), list(truth.labels)
        for _ in range(rng.integers(1, MOST + 1)):
            label, cutout = self._draw(rng)
            if cutout is None:
                break
            cutout = _fitted(cutout, image.shape[:2], rng)
            corner = _free_place(cutout, image.shape[:2], boxes, rng)
            if corner is not None:
                boxes.append(put(image, cutout, corner))
                labels.append(label)
        new = len(boxes) - len(truth.boxes)
        return image, Truth(
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array(labels, np.int32),
            np.append(truth.difficult, np.zeros(new, bool)),
            image.shape[:2],
        )

    def _draw(self, rng: np.random.Generator) -> tuple[int, Cutout | None]:
        """The label and the Cutout of a random object, lit and turned anew; -1 and None where there is none to give."""
        if self._objects is None:
            self._objects = whole_objects(self.dataset)
        if not self._objects:
            return -1, None
        of_class = self._objects[rng.integers(len(self._objects))]
        index, row = of_class[rng.integers(len(of_class))]
        truth = self.dataset.truth(index)
        whole = rng.random() < _WHOLE
        cutout = _relit(_turned(cut_out(self.dataset.image(index), truth.boxes[row], whole), rng), rng)
        return int(truth.labels[row]), cutout if whole else _rotated(cutout, rng)


def whole_objects(dataset: Dataset) -> list[list[tuple[int, int]]]:
    """The objects that may be pasted, by class: list of lists of (index of the image, row of its boxes)."""
    found: dict[int, list[tuple[int, int]]] = {}
    for index in range(len(dataset)):
        truth = dataset.truth(index)
        height, width = truth.image_size
        inside = (truth.boxes[:, :2] >= 2).all(axis=1) & (truth.boxes[:, 2:] <= (width - 2, height - 2)).all(
            axis=1
        )
        for row in np.flatnonzero(inside & ~truth.difficult):
            found.setdefault(int(truth.labels[row]), []).append((index, int(row)))
    return [found[label] for label in sorted(found)]


def cut_out(image: np.ndarray, box: np.ndarray, whole: bool = False) -> Cutout:
    """The Cutout of the object in `box`, x1 y1 x2 y2 in pixels of `image`, (H, W, 3) uint8 BGR.

    whole: of the whole box, not only of what differs from its surroundings.
    """
    height, width = image.shape[:2]
    margin = max(4, _MARGIN * max(box[2] - box[0], box[3] - box[1]))
    left, top = (max(0, int(v - margin)) for v in box[:2])
    right, bottom = min(width, int(box[2] + margin) + 1), min(height, int(box[3] + margin) + 1)
    pixels = image[top:bottom, left:right].astype(np.float32)
    x1, y1, x2, y2 = (float(v) for v in np.asarray(box) - (left, top, left, top))
    alpha = _fading(pixels.shape[:2], (x1, y1, x2, y2))
    if not whole:
        alpha *= _differing(pixels, np.array((x1, y1, x2, y2)))
    return Cutout(pixels, alpha, (x1, y1, x2, y2))


def _fading(size: tuple[int, int], box: tuple[float, float, float, float]) -> np.ndarray:
    """(h, w) float32: 1 within the box, falling to 0 at the edge of the cutout."""
    sides = []
    for length, low, high in ((size[0], box[1], box[3]), (size[1], box[0], box[2])):
        centres = np.arange(length, dtype=np.float32) + 0.5
        before, after = centres / max(low, 1), (length - centres) / max(length - high, 1)
        sides.append(np.clip(np.minimum(before, after), 0, 1))
    return np.outer(*sides)


def _differing(pixels: np.ndarray, box: np.ndarray) -> np.ndarray:
    """(h, w) float32, 0..1: how much each pixel differs from the plane of colours outside the box."""
    full_size = pixels.shape[1], pixels.shape[0]
    shrunk = min(1.0, _MASK_SIDE / max(full_size))
    width, height = (max(1, round(side * shrunk)) for side in full_size)
    pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    x1, y1, x2, y2 = (box * shrunk).astype(int)
    rim = np.ones((height, width), bool)
    rim[y1 : y2 + 1, x1 : x2 + 1] = False
    if not rim.any():  # the object fills its image: nothing tells its floor
        return np.ones(full_size[::-1], np.float32)
    y, x = np.mgrid[:height, :width].astype(np.float32) / max(height, width)
    places = np.stack([np.ones_like(x), x, y], axis=-1)
    plane, *_ = np.linalg.lstsq(places[rim], pixels[rim], rcond=None)
    distance = np.abs(pixels - places @ plane).max(axis=-1)
    noise = 2.5 * float(np.median(distance[rim])) + 4  # levels
    mask = np.clip((distance - noise) / (noise + 8), 0, 1)
    side = max(3, int(min(x2 - x1, y2 - y1) / 4) | 1)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    # Closed: the inside of an object may have the colour of the floor.
    mask = cv2.blur(cv2.morphologyEx(cv2.blur(mask, (3, 3)), cv2.MORPH_CLOSE, kernel), (3, 3))
    return cv2.resize(mask, full_size, interpolation=cv2.INTER_LINEAR)


def _turned(cutout: Cutout, rng: np.random.Generator) -> Cutout:
    """The cutout in one of its eight orientations."""
    pixels, alpha, (x1, y1, x2, y2) = cutout
    transposed, upside_down, mirrored = rng.random(3) < 0.5
    if transposed:
        pixels, alpha, x1, y1, x2, y2 = pixels.transpose(1, 0, 2), alpha.T, y1, x1, y2, x2
    if upside_down:
        pixels, alpha, y1, y2 = pixels[::-1], alpha[::-1], len(alpha) - y2, len(alpha) - y1
    if mirrored:
        width = alpha.shape[1]
        pixels, alpha, x1, x2 = pixels[:, ::-1], alpha[:, ::-1], width - x2, width - x1
    return Cutout(np.ascontiguousarray(pixels), np.ascontiguousarray(alpha), (x1, y1, x2, y2))


def _relit(cutout: Cutout, rng: np.random.Generator) -> Cutout:
    """The cutout under another light."""
    gain = np.exp(rng.uniform(*np.log(_BRIGHTNESS))) * rng.uniform(*_TINT, 3)
    return cutout._replace(pixels=np.minimum(cutout.pixels * gain.astype(np.float32), 255))


def _rotated(cutout: Cutout, rng: np.random.Generator) -> Cutout:
    """The cutout at any angle between two quarter turns, where its mask tells the box that it then has."""
    extent = _extent(cutout.alpha)
    if extent is None or iou_matrix(np.array([extent]), np.array([cutout.box])).item() < _TRUSTED:
        return cutout
    height, width = cutout.alpha.shape
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), rng.uniform(-45, 45), 1)
    cosine, sine = np.abs(matrix[0, :2])
    size = int(np.ceil(width * cosine + height * sine)), int(np.ceil(width * sine + height * cosine))
    matrix[:, 2] += ((size[0] - width) / 2, (size[1] - height) / 2)
    pixels = cv2.warpAffine(cutout.pixels, matrix, size, borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.warpAffine(cutout.alpha, matrix, size)
    # The corners are empty: without them there are more places for it.
    seen, box = _extent(alpha, least=0.05), _extent(alpha)
    if seen is None or box is None:  # so thin that the rotation has blurred it away
        return cutout
    left, top, right, bottom = seen
    part = slice(top, bottom), slice(left, right)
    box = (box[0] - left, box[1] - top, box[2] - left, box[3] - top)
    return Cutout(np.ascontiguousarray(pixels[part]), np.ascontiguousarray(alpha[part]), box)


def _extent(alpha: np.ndarray, least: float = 0.5) -> tuple[int, int, int, int] | None:
    """x1 y1 x2 y2 of what is above `least`, pixels; None where nothing is."""
    columns, rows = (np.flatnonzero((alpha > least).any(axis=axis)) for axis in (0, 1))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _fitted(cutout: Cutout, image_size: tuple[int, int], rng: np.random.Generator) -> Cutout:
    """The cutout at another size, at most _LARGEST of the image's sides."""
    height, width = cutout.alpha.shape
    scale = np.exp(rng.uniform(*np.log(_SCALES)))
    scale = min(scale, _LARGEST * image_size[0] / height, _LARGEST * image_size[1] / width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    x1, y1, x2, y2 = np.array(cutout.box) * np.array([size[0] / width, size[1] / height] * 2)
    return Cutout(
        cv2.resize(cutout.pixels, size, interpolation=way),
        cv2.resize(cutout.alpha, size, interpolation=way),
        (x1, y1, x2, y2),
    )


def _free_place(
    cutout: Cutout, image_size: tuple[int, int], boxes: Sequence[np.ndarray], rng: np.random.Generator
) -> tuple[int, int] | None:
    """(left, top) of the cutout where it covers no object; None when none was found."""
    height, width = cutout.alpha.shape
    others = np.array(boxes, np.float32).reshape(-1, 4)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1)
    for _ in range(_TRIALS):
        left, top = rng.integers(image_size[1] - width + 1), rng.integers(image_size[0] - height + 1)
        x1, y1, x2, y2 = np.array(cutout.box) + np.array([left, top, left, top])
        sides = np.minimum(others[:, 2:], (x2, y2)) - np.maximum(others[:, :2], (x1, y1))
        shared = sides.clip(0).prod(axis=1)
        if (shared <= _OVERLAP * np.minimum(areas, (x2 - x1) * (y2 - y1))).all():
            return int(left), int(top)
    return None


def put(image: np.ndarray, cutout: Cutout, corner: tuple[int, int]) -> np.ndarray:
    """Blends the cutout into `image` at corner = (left, top), in place; returns its box, x1 y1 x2 y2."""
    left, top = corner
    height, width = cutout.alpha.shape
    part = image[top : top + height, left : left + width]
    alpha = cutout.alpha[..., None]
    part[:] = np.rint(part + alpha * (cutout.pixels - part)).astype(np.uint8)
    return np.array(cutout.box, np.float32) + np.array([left, top, left, top], np.float32)
