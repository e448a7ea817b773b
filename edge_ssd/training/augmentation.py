"""Random views of training images (the SSD paper's 2.2, "Data augmentation", and 3.6), on OpenCV arrays.

A view is a crop of the image and the place it takes in the network input; so crop, zoom-out and resize
are one bilinear resize, the same as at run time. Colours are changed afterwards, where there are fewest pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from ..boxes import iou_matrix
from ..datasets import Truth
from ..resize import plan_resize
from ..spec import InputSpec, SsdSpec

# The paper's smallest IoU of a crop with an object. 0 stands for any crop.
MIN_OVERLAPS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)
# Crops that are tried, as many as the authors try for each overlap.
CROP_TRIALS = 50
# Standard deviation of a blur along x and along y, pixels of the input.
BLUR = 0.3, 1.5


@dataclass(frozen=True)
class AugmentOptions:
    """Which changes are made to training images, and how far they go.

    crop, zoom_out, flip: probabilities.   crop_scale: smallest side of a crop, as a share of the image's.
    paste: probability that objects of other images are added; see `paste`.
    turn: probability of a quarter or half turn, for cameras that look down on things; see `turned`.
    zoom_out_ratio: largest; the image then fills 1 / ratio of the input's side.
    blur: probability that the input is blurred, as by a lens out of focus or a moving camera.
    photometric: strength of brightness, contrast, saturation and hue noise; 1 is SSD's, 0 is none.
    """

    crop: float = 6 / 7
    crop_scale: float = 0.3
    zoom_out: float = 0.5
    zoom_out_ratio: float = 4.0
    flip: float = 0.5
    paste: float = 0.0
    turn: float = 0.0
    blur: float = 0.0
    photometric: float = 1.0


AUGMENTATIONS = {
    "ssd": AugmentOptions(),
    "light": AugmentOptions(crop=0.3, crop_scale=0.6, zoom_out=0.2, zoom_out_ratio=2.0, photometric=0.5),
    # For few scenes seen from above: things lie on any floor, in any direction, under any light.
    "floor": AugmentOptions(
        crop=0.4, crop_scale=0.5, zoom_out=0.15, zoom_out_ratio=2.0, paste=0.75, turn=0.75, blur=0.2
    ),
    "none": AugmentOptions(crop=0.0, zoom_out=0.0, flip=0.0, photometric=0.0),
}


class View(NamedTuple):
    """crop: x1 y1 x2 y2 in source pixels.   place: x1 y1 x2 y2 in input pixels. Whole numbers."""

    crop: tuple[int, int, int, int]
    place: tuple[int, int, int, int]


def augment(
    image: np.ndarray, truth: Truth, spec: SsdSpec, options: AugmentOptions, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A random view of one image, as the network's input before normalisation.

    image: (H, W, 3) uint8 BGR.   truth: boxes (N, 4) corners in source pixels, labels, difficult.
    spec: the model's SsdSpec; its size, colour order and way of resizing hold.

    Returns image (height, width, 3) uint8, boxes (M, 4) float32 corners normalised to the input, and the
    (M,) indices of their objects. An object stays when its centre lies within the crop; a difficult one or a
    crowd when any of it does, because what is left of it is no background either.
    """
    boxes = truth.boxes
    if options.turn and rng.random() < options.turn:
        image, boxes = turned(image, boxes, spec.input.resize == "stretch", rng)
    view = random_view(image.shape[:2], boxes, spec.input, options, rng)
    boxes, kept = move_boxes(boxes, view, spec.input.size, truth.difficult)
    image = render_view(image, view, spec.input)
    if rng.random() < options.flip:
        image = cv2.flip(image, 1)
        boxes = np.stack([1 - boxes[:, 2], boxes[:, 1], 1 - boxes[:, 0], boxes[:, 3]], axis=1)
    if options.blur and rng.random() < options.blur:
        image = cv2.GaussianBlur(image, (0, 0), *rng.uniform(*BLUR, 2))
    if options.photometric:
        image = distort_colors(image, options.photometric, rng)
    if spec.input.color == "rgb":
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return image, boxes, kept


def turn(image: np.ndarray, boxes: np.ndarray, quarters: int) -> tuple[np.ndarray, np.ndarray]:
    """The image and its boxes, (N, 4) corners in its pixels, turned to the left by 1, 2 or 3 quarters."""
    for _ in range(quarters):
        width = image.shape[1]
        boxes = np.stack([boxes[:, 1], width - boxes[:, 2], boxes[:, 3], width - boxes[:, 0]], axis=1)
        image = cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE)
    return image, boxes


def turned(
    image: np.ndarray, boxes: np.ndarray, keep_aspect: bool, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The image and its boxes, (N, 4) corners in its pixels, after a random quarter or half turn.

    keep_aspect: of a frame that is not square, a quarter turn takes the largest part that then has the
    frame's own aspect ratio: stretched to the input, the whole would show shapes that the camera never
    does. Boxes outside that part stay, outside the image. Half a turn where no object fits in the part.
    """
    quarters = int(rng.integers(1, 4))
    height, width = image.shape[:2]
    if keep_aspect and quarters != 2 and height != width:
        part = _part_to_turn((height, width), boxes, rng)
        if part is None:
            quarters = 2
        else:
            x1, y1, x2, y2 = part
            image, boxes = image[y1:y2, x1:x2], boxes - np.array([x1, y1, x1, y1], np.float32)
    return turn(image, boxes, quarters)


def _part_to_turn(
    image_size: tuple[int, int], boxes: np.ndarray, rng: np.random.Generator
) -> tuple[int, int, int, int] | None:
    """x1 y1 x2 y2, whole pixels, of the largest part that a quarter turn gives the aspect ratio of the image, in a
    random place that holds a whole object, if there are any; None where no object fits."""
    sides = np.array(image_size[::-1])
    long = int(sides.argmax())
    length = max(1, round(sides[1 - long] ** 2 / sides[long]))
    low, high = 0, sides[long] - length
    if len(boxes):
        starts = np.maximum(0, np.ceil(boxes[:, long + 2] - length))
        ends = np.minimum(high, np.floor(boxes[:, long]))
        fitting = np.flatnonzero(starts <= ends)
        if not len(fitting):
            return None
        row = fitting[rng.integers(len(fitting))]
        low, high = int(starts[row]), int(ends[row])
    start = int(rng.integers(low, high + 1))
    first, last = np.zeros(2, int), sides.copy()
    first[long], last[long] = start, start + length
    return _whole(np.append(first, last))


def random_view(
    source_size: tuple[int, int],
    boxes: np.ndarray,
    spec: InputSpec,
    options: AugmentOptions,
    rng: np.random.Generator,
) -> View:
    """A view with or without a crop and a zoom-out.

    source_size: (height, width), pixels.   boxes: (N, 4) corners in source pixels.   spec: InputSpec.
    """
    height, width = source_size
    crop = (0, 0, width, height)
    zoomed_out = rng.random() < options.zoom_out
    # Not both: a crop undoes a zoom-out, and small objects would vanish in the rest.
    if not zoomed_out and rng.random() < options.crop:
        crop = random_crop(source_size, boxes, options.crop_scale, rng)
    plan = plan_resize((crop[3] - crop[1], crop[2] - crop[0]), spec.size, spec.resize)
    rows, columns = plan.inner_size
    top, left = plan.padding
    if zoomed_out:
        ratio = rng.uniform(1, options.zoom_out_ratio)
        rows, columns = max(1, round(rows / ratio)), max(1, round(columns / ratio))
        top, left = rng.integers(spec.height - rows + 1), rng.integers(spec.width - columns + 1)
    return View(crop, (int(left), int(top), int(left) + columns, int(top) + rows))


def random_crop(
    source_size: tuple[int, int], boxes: np.ndarray, smallest: float, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """x1 y1 x2 y2 of a crop that overlaps an object enough, whole pixels; the whole image when none is found.

    smallest: share of the image's sides.   Aspect ratio from 1/2 to 2 (relative to square pixels).
    The overlap is any of MIN_OVERLAPS for which there is a crop, each as likely as another: the authors draw
    a crop for each and take one of those that they have found, at random. The crop holds the object's centre.
    """
    height, width = source_size
    crops = _candidates(width, height, smallest, rng)
    if len(boxes) == 0:
        return _whole(crops[0]) if len(crops) else (0, 0, width, height)
    iou = iou_matrix(crops.astype(np.float32), boxes)
    overlaps = np.where(_centres_inside(boxes, crops[:, None]), iou, -1).max(axis=1)
    for least in rng.permutation(MIN_OVERLAPS):
        found = np.flatnonzero(overlaps >= least)
        if len(found):
            return _whole(crops[found[0]])
    return 0, 0, width, height


def _whole(box: np.ndarray) -> tuple[int, int, int, int]:
    """(4,) integers as plain numbers."""
    x1, y1, x2, y2 = box.tolist()
    return x1, y1, x2, y2


def _candidates(width: int, height: int, smallest: float, rng: np.random.Generator) -> np.ndarray:
    """(N, 4) int64 corners of random crops, those of CROP_TRIALS that have a permitted aspect ratio."""
    size = np.array([width, height])
    sides = rng.uniform(smallest, 1, (CROP_TRIALS, 2)) * size
    sides = sides[(2 * sides > sides[:, ::-1]).all(axis=1)]
    corners = rng.random(sides.shape) * (size - sides)
    low = corners.astype(int)
    return np.concatenate([low, np.maximum(low + 1, (corners + sides).astype(int))], axis=1)


def _centres_inside(boxes: np.ndarray, crops: np.ndarray) -> np.ndarray:
    """Boxes (N, 4) and crops (..., 4) that broadcast against them, such as (4,) or (M, 1, 4) -> (..., N) bool."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    return np.all((centres > crops[..., :2]) & (centres < crops[..., 2:]), axis=-1)


def move_boxes(
    boxes: np.ndarray, view: View, input_size: tuple[int, int], parts_stay: np.ndarray | bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Objects of the source in the frame of the input.

    boxes: (N, 4) corners in source pixels.   input_size: (height, width), pixels.
    parts_stay: (N,) bool, those that stay with any part inside.
    Returns (M, 4) float32 corners normalised to the input, cut at the crop's edge, of those whose centre is inside
    or that stay, and their (M,) indices.
    """
    crop, place = np.array(view.crop, np.float32), np.array(view.place, np.float32)
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    cut = np.clip(boxes, np.tile(crop[:2], 2), np.tile(crop[2:], 2))
    inside = _centres_inside(boxes, crop) | parts_stay
    kept = np.flatnonzero(inside & (cut[:, 2:] > cut[:, :2]).all(axis=1))
    scale = np.tile((place[2:] - place[:2]) / (crop[2:] - crop[:2]), 2)
    moved = (cut[kept] - np.tile(crop[:2], 2)) * scale + np.tile(place[:2], 2)
    return moved / np.tile(np.array(input_size[::-1], np.float32), 2), kept


def render_view(image: np.ndarray, view: View, spec: InputSpec) -> np.ndarray:
    """The view of `image` in an input of spec.size, (height, width, 3) uint8 BGR.

    What it leaves free has the network's mean, or a letterbox's padding. spec: InputSpec.
    """
    x1, y1, x2, y2 = view.crop
    left, top, right, bottom = view.place
    resized = cv2.resize(image[y1:y2, x1:x2], (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)
    if resized.shape[:2] == spec.size:
        return resized
    fill = spec.mean if spec.resize == "stretch" else spec.pad_value
    canvas = np.empty((*spec.size, 3), np.uint8)
    canvas[:] = np.rint(fill[::-1] if spec.color == "rgb" else fill).astype(np.uint8)
    canvas[top:bottom, left:right] = resized
    return canvas


def distort_colors(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Random brightness, contrast, saturation and hue, each half of the time (the authors' ranges times strength).

    image: (H, W, 3) uint8 BGR. Returns a new array, or the same where nothing was drawn.
    """
    brightness, contrast, saturation, hue = rng.random(4) < 0.5
    if brightness or contrast:
        gain = 1 + strength * rng.uniform(-0.5, 0.5) if contrast else 1.0
        offset = strength * rng.uniform(-32, 32) if brightness else 0.0
        image = cv2.LUT(image, _table(np.arange(256) * gain + offset))
    if saturation or hue:
        planes = list(cv2.split(cv2.cvtColor(image, cv2.COLOR_BGR2HSV)))
        if hue:  # 0..179 in OpenCV: half degrees
            planes[0] = cv2.LUT(planes[0], _table((np.arange(256) + strength * rng.uniform(-18, 18)) % 180))
        if saturation:
            planes[1] = cv2.LUT(planes[1], _table(np.arange(256) * (1 + strength * rng.uniform(-0.5, 0.5))))
        image = cv2.cvtColor(cv2.merge(planes), cv2.COLOR_HSV2BGR)
    return image


def _table(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
