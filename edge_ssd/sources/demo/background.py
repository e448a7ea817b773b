"""Backgrounds of the rendered camera: textures, and clutter that is none of the classes."""

from __future__ import annotations

import cv2
import numpy as np

from .texture import colored, noise, ramp_table, stripe_table, waves

_SHIFT = 4


def make_background(rng: np.random.Generator, image_size: tuple[int, int]) -> np.ndarray:
    """A textured, cluttered background, (H, W, 3) uint8 BGR, drawn from `rng`. image_size: (height, width)."""
    image = _texture(rng, image_size)
    for _ in range(int(rng.integers(0, 24))):
        draw = _CLUTTER[rng.integers(len(_CLUTTER))]
        draw(rng, image, _color(rng, image))
    return image


def _texture(rng, image_size):
    short = min(image_size)
    # Mostly subdued colours, as rooms and roads have them.
    base = rng.uniform(30, 225) + rng.normal(0, 12 if rng.random() < 0.7 else 60, 3)
    spread = np.exp(rng.uniform(np.log(5), np.log(60)))
    colors = np.clip(base + rng.normal(0, spread, (int(rng.integers(2, 5)), 3)), 0, 255)
    grain = noise(rng, image_size, short * rng.uniform(0.1, 0.7), int(rng.integers(3, 7)))
    kind = rng.choice(_TEXTURES)
    return kind(rng, image_size, colors, grain)


def _clouds(rng, image_size, colors, grain):
    # Noise seldom leaves the middle half, which is spread over all colours.
    # The stub knows no number for an array.
    middle = cv2.subtract(grain, 64)  # pyright: ignore[reportCallIssue, reportArgumentType]
    return colored(cv2.add(middle, middle), ramp_table(colors))


def _gradient(rng, image_size, colors, grain):
    field = waves(image_size, rng.uniform(0, 2 * np.pi), 4 * max(image_size), rng.uniform())
    field = cv2.addWeighted(field, 0.75, grain, 0.25, 0)
    return colored(field, ramp_table([*colors, *colors[-2::-1]]))  # there and back: a wrap shows no edge


def _stripes(rng, image_size, colors, grain):
    period = min(image_size) * np.exp(rng.uniform(np.log(0.03), np.log(0.4)))
    warp = grain if rng.random() < 0.5 else grain >> 4
    field = waves(image_size, rng.uniform(0, np.pi), period, rng.uniform(), warp)
    return _grained(colored(field, stripe_table(colors[0], colors[1], rng.uniform(0.2, 0.8))), grain)


def _checks(rng, image_size, colors, grain):
    period, angle = min(image_size) * rng.uniform(0.08, 0.5), rng.uniform(0, np.pi)
    across = waves(image_size, angle, period, rng.uniform(), grain >> 4)
    along = waves(image_size, angle + np.pi / 2, period, rng.uniform(), grain >> 4)
    field = (across ^ along) & np.uint8(128)
    return _grained(colored(field, ramp_table(colors)), grain)


def _veins(rng, image_size, colors, grain):
    """Wood or marble: few waves, strongly warped."""
    warp = grain * np.uint8(rng.integers(2, 5))
    field = waves(image_size, rng.uniform(0, np.pi), min(image_size) * rng.uniform(0.3, 1.2), 0.0, warp)
    return colored(field, ramp_table([*colors, *colors[-2::-1]]))


def _grained(image, grain):
    grain = cv2.merge((grain, grain, grain))
    return cv2.addWeighted(image, 1.0, grain, 0.25, -32)


_TEXTURES = (_clouds, _clouds, _gradient, _stripes, _checks, _veins)


def _color(rng, image):
    """A colour for clutter: one that is there already, shifted, so that the contrast is anything."""
    height, width = image.shape[:2]
    there = image[rng.integers(height), rng.integers(width)].astype(np.float64)
    shifted = there + rng.normal(0, np.exp(rng.uniform(np.log(12), np.log(90))), 3)
    return tuple(float(v) for v in np.rint(np.clip(shifted, 0, 255)))


def _place(rng, image):
    height, width = image.shape[:2]
    return rng.uniform(0, (width, height))


def _length(rng, image, low, high):
    """Log-uniform between two shares of the image's shorter side, in pixels."""
    return min(image.shape[:2]) * np.exp(rng.uniform(np.log(low), np.log(high)))


def _fixed(points):
    return np.rint(np.asarray(points) * (1 << _SHIFT)).astype(np.int32)


def _fill(image, points, color):
    cv2.fillPoly(image, [_fixed(points)], color, cv2.LINE_AA, _SHIFT)


def _stroke(image, points, color, thickness):
    cv2.polylines(image, [_fixed(points)], False, color, max(1, round(thickness)), cv2.LINE_AA, _SHIFT)


def _line(rng, image, color):
    reach = _length(rng, image, 0.1, 2.0)
    angle, middle = rng.uniform(0, np.pi), _place(rng, image)
    half = 0.5 * reach * np.array([np.cos(angle), np.sin(angle)])
    _stroke(image, [middle - half, middle + half], color, _length(rng, image, 0.002, 0.03))


def _curve(rng, image, color):
    """A random walk that keeps its heading for a while: a cable."""
    headings = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.35, 24))
    steps = _length(rng, image, 0.01, 0.06) * np.stack([np.cos(headings), np.sin(headings)], axis=1)
    _stroke(image, _place(rng, image) + np.cumsum(steps, axis=0), color, _length(rng, image, 0.002, 0.02))


def _polygon(rng, image, color):
    """An irregular polygon: uneven corners, stretched, so that it is no triangle, square or star."""
    count = int(rng.integers(5, 9))
    angle = (np.arange(count) + rng.uniform(-0.3, 0.3, count)) * (2 * np.pi / count)
    radius = _length(rng, image, 0.02, 0.2) * rng.uniform(0.45, 1.0, count)
    _fill(image, _place(rng, image) + _stretched(rng, radius, angle), color)


def _blob(rng, image, color):
    """A smooth outline with strong lobes, so that it is no circle or crescent."""
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    radius = 1 + sum(rng.uniform(0.15, 0.3) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in (2, 3))
    radius = radius * _length(rng, image, 0.015, 0.15)
    _fill(image, _place(rng, image) + _stretched(rng, radius, angle), color)


def _stretched(rng, radius, angle):
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1) * (
        1.0,
        rng.uniform(0.4, 0.75),
    )
    turn = rng.uniform(0, np.pi)
    return points @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])


def _bar(rng, image, color):
    half = np.array([_length(rng, image, 0.05, 0.5), _length(rng, image, 0.005, 0.03)])
    turn = rng.choice([0.0, np.pi / 2, rng.uniform(0, np.pi)])
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
    turned = corners @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    _fill(image, _place(rng, image) + turned, color)


def _text(rng, image, color):
    """Marks like a line of writing: each a few strokes between the nodes of a small grid."""
    height = _length(rng, image, 0.02, 0.06)
    corner, slant = _place(rng, image), rng.uniform(-0.3, 0.3)
    grid = np.array([(x, y) for y in range(3) for x in range(2)], np.float64) * (0.5 * height, 0.5 * height)
    for mark in range(int(rng.integers(3, 12))):
        strokes = grid[rng.integers(0, len(grid), 4)] + (0.8 * height * mark, 0.0)
        strokes[:, 1] += slant * strokes[:, 0]
        _stroke(image, corner + strokes, color, 0.1 * height)


_CLUTTER = (_line, _line, _curve, _polygon, _polygon, _blob, _blob, _bar, _text, _text)
