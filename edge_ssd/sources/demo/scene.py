"""One scene of the rendered camera: a background and moving objects, with exact truth."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike

from .background import make_background
from .objects import MAX_SIZE, MIN_SIZE, Fill, SceneObject, make_objects
from .shapes import Contours, bounds, coverage, visible_bounds
from .texture import blend, colored, waves

# An object of which more than this share is hidden is marked difficult.
DIFFICULT_HIDDEN = 0.6

_MARGIN = 0.03  # how far the background moves, in shares of the frame's shorter side
_HALF_COVERED = 128


class Scene:
    """A background that pans and objects that move.

    background: (H + 2 margin, W + 2 margin, 3) uint8 for a frame of (H, W).   objects: the farthest first.
    pan: rates and phases, (2,) each x and y, of the background's sway by `margin` pixels.
    """

    def __init__(
        self,
        background: np.ndarray,
        objects: Sequence[SceneObject],
        margin: int = 0,
        pan: ArrayLike = ((0.0, 0.0), (0.0, 0.0)),
    ) -> None:
        self._background, self._objects, self._margin, self._pan = background, objects, margin, pan
        height, width = background.shape[:2]
        self._image_size = height - 2 * margin, width - 2 * margin

    @classmethod
    def random(cls, rng: np.random.Generator, image_size: tuple[int, int]) -> Scene:
        """The scene that `rng` draws, for frames of (height, width)."""
        margin = max(1, round(_MARGIN * min(image_size)))
        pan = rng.uniform(0, 0.06, 2), rng.uniform(0, 2 * np.pi, 2)
        height, width = image_size
        background = make_background(rng, (height + 2 * margin, width + 2 * margin))
        objects = make_objects(rng, image_size, background[margin:-margin, margin:-margin])
        return cls(background, objects, margin, pan)

    def draw(self, time: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """At frame `time`: image (H, W, 3) uint8, boxes (N, 4) float32, labels (N,) int32, hidden (N,).

        boxes: bounds of the object's part within the frame, also where another object hides it.
        hidden: share of the object that later objects or the frame's edge hide, 0..1.
        Objects wholly hidden are left out.
        """
        image = self._background_at(time).copy()
        owners = np.zeros(self._image_size, np.uint8)
        limits = MIN_SIZE * min(self._image_size), MAX_SIZE * min(self._image_size)
        shapes = [thing.contours(time, limits) for thing in self._objects]
        areas = [
            _paint(image, owners, number, thing.fill, contours, thing.motion.spin * time)
            for number, (thing, contours) in enumerate(zip(self._objects, shapes), start=1)
        ]
        seen = cv2.calcHist([owners], [0], None, [256], [0, 256]).ravel()[1 : len(areas) + 1]
        shown = np.flatnonzero(seen)
        boxes = [visible_bounds(shapes[i], self._image_size) for i in shown.tolist()]
        labels = np.array([self._objects[i].label for i in shown.tolist()], np.int32)
        hidden = 1 - seen[shown] / np.array(areas)[shown]
        return image, np.array(boxes, np.float32).reshape(-1, 4), labels, hidden

    def _background_at(self, time: int) -> np.ndarray:
        rate, phase = np.asarray(self._pan)
        x, y = (round(self._margin * (1 + v)) for v in np.sin(rate * time + phase))
        height, width = self._image_size
        return self._background[y : y + height, x : x + width]


def _paint(
    image: np.ndarray, owners: np.ndarray, number: int, fill: Fill, contours: Contours, turn: float
) -> int:
    """Paints an object turned by `turn` and notes its pixels in `owners` as `number`.

    Returns how many pixels it has, those outside the frame included.
    """
    mask, (x, y) = coverage(contours)
    # The stub knows no number for an array.
    solid = cv2.compare(mask, _HALF_COVERED, cv2.CMP_GE)  # pyright: ignore[reportCallIssue, reportArgumentType]
    height, width = image.shape[:2]
    left, top = max(0, -x), max(0, -y)
    right, bottom = min(mask.shape[1], width - x), min(mask.shape[0], height - y)
    if left < right and top < bottom:
        part = slice(top, bottom), slice(left, right)
        place = slice(y + top, y + bottom), slice(x + left, x + right)
        colors = _fill_image(fill, contours, turn, mask.shape, (x, y))
        blend(image[place], colors[part], mask[part])
        cv2.copyTo(np.full_like(solid[part], number), solid[part], owners[place])
    return cv2.countNonZero(solid)


def _fill_image(
    fill: Fill, contours: Contours, turn: float, image_size: tuple[int, int], corner: tuple[int, int]
) -> np.ndarray:
    """The object's colours, (H, W, 3) uint8, for the image of `image_size` whose corner lies at `corner`."""
    low, high = np.split(bounds(contours), 2)
    size = max(high - low)
    angle = fill.angle + turn
    middle = (low + high) / 2 - corner
    period = max(2.0, fill.period * size)
    phase = 0.5 - (middle[0] * np.cos(angle) + middle[1] * np.sin(angle)) / period
    image = colored(waves(image_size, angle, period, phase), fill.table)
    if fill.rim_width:
        points = [np.rint((c - corner - 0.5) * 16).astype(np.int32) for c in contours]
        thickness = max(1, round(2 * fill.rim_width * size))
        cv2.polylines(image, points, True, fill.rim, thickness, cv2.LINE_AA, 4)
    return image
