"""The objects of a rendered scene: where they stand, how they move, how they are painted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ... import boxes as box_math
from .shapes import CLASS_NAMES, Contours, bounds, outline, transformed
from .texture import ramp_table, stripe_table

MAX_OBJECTS = 12

# The shorter side of an object's box, in shares of the frame's shorter side.
MIN_SIZE, MAX_SIZE = 0.05, 0.8


@dataclass(frozen=True)
class Fill:
    """How an object is painted.

    table: (256, 3) uint8, runs along `angle` (radians, of the unturned shape) once in `period` sizes of it.
    rim: BGR.   rim_width: in sizes of the shape; 0 for none.
    """

    table: np.ndarray
    period: float
    angle: float
    rim: tuple[float, ...]
    rim_width: float


@dataclass(frozen=True)
class Motion:
    """Sways by `reach` pixels (x, y) and breathes by the share `breath`, turns by `spin` radians a frame."""

    reach: np.ndarray
    rates: np.ndarray
    phases: np.ndarray
    breath: float
    spin: float

    def at(self, time: int) -> tuple[np.ndarray, float, float]:
        """(offset (2,) pixels, scale factor, turn) at frame `time`; none at frame 0."""
        swing = np.sin(self.rates * time + self.phases) - np.sin(self.phases)
        return self.reach * swing[:2], 1 + self.breath * swing[2], self.spin * time


@dataclass(frozen=True)
class SceneObject:
    """An object of class `label`.

    size: shorter side of its box at frame 0, pixels.   center: (2,) middle of that box.
    aspect: (x, y) factors of the outline, before it is turned by `angle` (radians).
    """

    label: int
    size: float
    aspect: np.ndarray
    angle: float
    center: np.ndarray
    motion: Motion
    fill: Fill

    def contours(self, time: int, size_limits: tuple[float, float]) -> Contours:
        """Its contours at frame `time`, frame pixels; the shorter side of its box stays in `size_limits`."""
        offset, growth, turn = self.motion.at(time)
        size = self.size * growth * _short_side(self.label, self.aspect, self.angle + turn)
        size = np.clip(size / _short_side(self.label, self.aspect, self.angle), *size_limits)
        return _placed(self.label, self.aspect, self.angle + turn, size, self.center + offset)


def _short_side(label: int, aspect: np.ndarray, angle: float) -> float:
    box = bounds(transformed(outline(label), aspect, angle, 0.0))
    return min(box[2] - box[0], box[3] - box[1])


def _placed(label: int, aspect: np.ndarray, angle: float, size: float, center: np.ndarray) -> Contours:
    """The contours of a shape whose box has the shorter side `size` and the middle `center`."""
    shape = transformed(outline(label), aspect, angle, 0.0)
    box = bounds(shape)
    scale = size / min(box[2] - box[0], box[3] - box[1])
    return transformed(shape, scale, 0.0, center - scale * (box[:2] + box[2:]) / 2)


def make_objects(
    rng: np.random.Generator, image_size: tuple[int, int], background: np.ndarray
) -> list[SceneObject]:
    """1 to 12 objects before `background` (H, W, 3), the farthest first, drawn from `rng`.

    The larger ones tend to be farther, or they would hide the rest.
    """
    short = min(image_size)
    chances = np.arange(MAX_OBJECTS, 0, -1.0)
    count = 1 + int(rng.choice(MAX_OBJECTS, p=chances / chances.sum()))
    sizes = short * np.exp(rng.uniform(np.log(MIN_SIZE), np.log(MAX_SIZE), count))
    sizes = sizes[np.argsort(-np.log(sizes) + rng.normal(0, 0.25, count))]
    near = int(rng.integers(1, count)) if count > 1 and rng.random() < 0.7 else 0
    objects, boxes, colors = [], np.empty((0, 4)), np.empty((0, 3))
    for number, size in enumerate(sizes):
        label = int(rng.integers(len(CLASS_NAMES)))
        aspect = np.array([1.0, rng.uniform(0.8, 1.0)])
        angle = rng.uniform(0, 2 * np.pi)
        whole = bounds(_placed(label, aspect, angle, size, np.zeros(2)))
        box = _choose_place(rng, whole, boxes, image_size, wants_overlap=number == near > 0)
        fill, color = _make_fill(rng, background, box, boxes, colors, size / short)
        center = (box[:2] + box[2:]) / 2
        objects.append(SceneObject(label, size, aspect, angle, center, _make_motion(rng, short), fill))
        boxes, colors = np.concatenate([boxes, box[None]]), np.concatenate([colors, color[None]])
    return objects


def _choose_place(rng, whole, boxes, image_size, wants_overlap):
    """The box of a new object, `whole` about the origin, moved to the best of several random places.

    boxes: (N, 4) of the objects behind it. It should not hide much of them, unless it wants to overlap:
    then its IoU with one of them should be about a quarter.
    """
    extent = whole[2:] - whole[:2]
    frame = np.array([image_size[1], image_size[0]], np.float64)
    outside = extent * (0.1 if rng.random() < 0.25 else 0.5)  # the nearest that a middle comes to an edge
    low = np.minimum(outside, frame / 2)
    places = rng.uniform(low, frame - low, (24, 2))
    if wants_overlap:
        partner = np.argmin(np.abs(np.log(box_math.box_area(boxes) / extent.prod())))
        middle = (boxes[partner, :2] + boxes[partner, 2:]) / 2
        reach = extent + boxes[partner, 2:] - boxes[partner, :2]  # farther apart, the boxes do not touch
        places = np.clip(middle + (places / frame - 0.5) * reach, low, frame - low)
    candidates = np.concatenate([places, places], axis=1) + whole
    if not len(boxes):
        return candidates[0]
    covered = box_math.intersections(candidates[:, None], boxes[None]) / box_math.box_area(boxes)
    cost = covered.max(axis=1)
    if wants_overlap:
        cost = np.abs(box_math.iou_matrix(candidates, boxes).max(axis=1) - 0.25) + np.maximum(cost - 0.5, 0)
    return candidates[np.argmin(np.maximum(cost, 0.05))]  # below that, the first: no drift into the corners


def _make_fill(rng, background, box, boxes, colors, size):
    """Paint that differs from the background and the neighbours behind, at times by little."""
    near = box_math.intersections(box, boxes) > 0
    patch = _patch(background, box)
    texture = patch.std(axis=0).max()
    # Small objects and restless backgrounds need more contrast for the class to be seen at all.
    least = max(40.0, 80.0 - 300.0 * size, 1.2 * texture)
    contrast = np.exp(rng.uniform(np.log(least), np.log(max(200.0, least))))
    avoid = np.concatenate([patch.mean(axis=0)[None], colors[near]])
    first = _contrasting(rng, avoid[0], contrast, avoid)
    second = _contrasting(rng, first, rng.uniform(30, 120), avoid)
    table, period = _fill_pattern(rng, first, second)
    rim = np.clip(first + rng.choice([-1, 1]) * rng.uniform(40, 90), 0, 255)
    rim_width = rng.uniform(0.02, 0.06) if rng.random() < 0.4 else 0.0
    return Fill(table, period, rng.uniform(0, 2 * np.pi), tuple(float(v) for v in rim), rim_width), first


def _fill_pattern(rng, first, second):
    kind = rng.random()
    if kind < 0.4:
        return ramp_table([first, first]), 1.0
    if kind < 0.7:
        return ramp_table([first, second]), 1.6  # longer than the shape, whose diagonal may lie along it
    return stripe_table(first, second, rng.uniform(0.3, 0.6)), rng.uniform(0.12, 0.5)


def _patch(image, box):
    """At most 16 x 16 pixels of the image within the box, as (K, 3) float64."""
    height, width = image.shape[:2]
    x1, y1 = (int(np.clip(v, 0, side - 1)) for v, side in zip(box[:2], (width, height)))
    x2, y2 = (int(np.clip(v, 1, side)) for v, side in zip(box[2:], (width, height)))
    patch = image[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)]
    step_y, step_x = (1 + side // 16 for side in patch.shape[:2])
    return patch[::step_y, ::step_x].reshape(-1, 3).astype(np.float64)


def _contrasting(rng, color, contrast, avoid):
    """(3,) a colour about `contrast` from `color`, and then as far as can be from `avoid`, (N, 3)."""
    directions = rng.normal(0, 1, (16, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    candidates = np.clip(color + contrast * directions, 0, 255)
    distances = np.linalg.norm(candidates[:, None] - avoid[None], axis=2)
    # Whole numbers: without neighbours all are equally far, and the last bit would choose.
    return candidates[np.argmax(np.rint(distances.min(axis=1)))]


def _make_motion(rng, short):
    speed = rng.uniform(0, 1)
    return Motion(
        reach=speed * rng.uniform(-0.08, 0.08, 2) * short,
        rates=rng.uniform(0.03, 0.12, 3),
        phases=rng.uniform(0, 2 * np.pi, 3),
        breath=rng.uniform(0, 0.08),
        spin=rng.uniform(-0.04, 0.04) if rng.random() < 0.6 else 0.0,
    )
