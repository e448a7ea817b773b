"""The eight shapes of the rendered camera: outlines, exact bounds, coverage masks.

A shape is a tuple of contours, each (K, 2) float64 x, y; what lies inside an odd number of them is filled.
Coordinates are continuous: pixel i covers i..i+1.
"""

from __future__ import annotations

import cv2
import numpy as np

# Of a shape; each (K, 2) float64 x, y.
Contours = tuple[np.ndarray, ...]

CLASS_NAMES = ("circle", "square", "triangle", "star", "cross", "ring", "crescent", "arrow")

# A chord of a circle of 200 pixels' radius then leaves the arc by 0.1 pixel at most.
_ARC_POINTS = 96

# OpenCV draws polygons a quarter of a pixel too large at best; finer pixels make that negligible,
# and averaging them gives the share of each pixel that is covered. Large masks need it less.
_FINE, _COARSE = 4, 2
_FINE_MASK_SIDE = 256
_SHIFT = 6  # fractional bits of the coordinates that OpenCV is given


def _arc(radius, start, stop, count, center=(0.0, 0.0)):
    angle = np.linspace(start, stop, count, endpoint=False)
    return np.stack([center[0] + radius * np.cos(angle), center[1] + radius * np.sin(angle)], axis=1)


def _circle(radius):
    return _arc(radius, 0, 2 * np.pi, _ARC_POINTS)


def _star():
    points = np.empty((10, 2))
    points[0::2] = _arc(1.0, 0, 2 * np.pi, 5)
    points[1::2] = _arc(0.42, np.pi / 5, np.pi / 5 + 2 * np.pi, 5)
    return points


def _cross(half_width=0.3):
    a = half_width
    quarter = np.array([[1, -a], [1, a], [a, a]])
    turn = np.array([[0, 1], [-1, 0]])
    return np.concatenate([quarter @ np.linalg.matrix_power(turn, k) for k in range(4)])


def _crescent(radius=0.86, shift=0.5):
    """The unit disc without a disc of `radius` at (shift, 0)."""
    x = (1 - radius**2 + shift**2) / (2 * shift)  # of the points where the two circles meet
    outer, inner = np.arctan2(np.sqrt(1 - x * x), x), np.arctan2(np.sqrt(1 - x * x), x - shift)
    half = _ARC_POINTS // 2
    return np.concatenate(
        [
            _arc(1.0, outer, 2 * np.pi - outer, half),
            _arc(radius, 2 * np.pi - inner, inner, half, (shift, 0.0)),
        ]
    )


def _arrow():
    upper = np.array([[-1, 0.25], [0.05, 0.25], [0.05, 0.72], [1, 0]])
    return np.concatenate([upper, upper[-2::-1] * (1, -1)])


_OUTLINES = {
    "circle": (_circle(1.0),),
    "square": (np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1]]),),
    "triangle": (_arc(1.0, 0, 2 * np.pi, 3),),
    "star": (_star(),),
    "cross": (_cross(),),
    "ring": (_circle(1.0), _circle(0.56)),
    "crescent": (_crescent(),),
    "arrow": (_arrow(),),
}


def outline(label: int) -> Contours:
    """The contours of class `label`, about the origin, within -1.5..1.5."""
    return _OUTLINES[CLASS_NAMES[label]]


def transformed(
    contours: Contours, scale: np.ndarray | float, angle: float, center: np.ndarray | float
) -> Contours:
    """The contours scaled, turned by `angle` (radians) and moved. scale: number or (x, y), before turning."""
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, sin], [-sin, cos]])
    return tuple((contour * scale) @ turn + center for contour in contours)


def bounds(contours: Contours) -> np.ndarray:
    """(4,) float64 x1 y1 x2 y2 of the contours."""
    points = np.concatenate(contours)
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def visible_bounds(contours: Contours, image_size: tuple[int, int]) -> np.ndarray | None:
    """(4,) float64 x1 y1 x2 y2 of the part of a shape that lies in an image of (height, width); or None.

    Not the bounds clipped: of a disc that sticks out by more than half, the rest is less high, too.
    The extremes lie at clipped edges, or at a corner of the image that the shape covers.
    """
    high = np.array([image_size[1], image_size[0]], np.float64)
    whole = bounds(contours)
    if (whole[:2] >= 0).all() and (whole[2:] <= high).all():
        return whole
    points = [_clipped_edges(contour, high) for contour in contours]
    corners = np.array([[0, 0], [high[0], 0], [0, high[1]], high])
    points.append(corners[[_covers(contours, corner) for corner in corners]])
    points = np.concatenate(points)
    return np.clip(bounds((points,)), 0, np.tile(high, 2)) if len(points) else None


def _clipped_edges(contour: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Both ends of every edge's part within 0..high (Liang and Barsky): (K, 2)."""
    step = np.roll(contour, -1, axis=0) - contour
    step = np.where(step == 0, 1e-12, step)
    first, second = -contour / step, (high - contour) / step
    enter = np.maximum(np.minimum(first, second).max(axis=1), 0)
    leave = np.minimum(np.maximum(first, second).min(axis=1), 1)
    inside = enter <= leave
    start, step = contour[inside], step[inside]
    return np.concatenate([start + enter[inside, None] * step, start + leave[inside, None] * step])


def _covers(contours: Contours, point: np.ndarray) -> bool:
    place = float(point[0]), float(point[1])
    return sum(cv2.pointPolygonTest(c.astype(np.float32), place, False) > 0 for c in contours) % 2 == 1


def coverage(contours: Contours) -> tuple[np.ndarray, tuple[int, int]]:
    """How much of each pixel a shape covers, as (mask, (x, y)): mask (H, W) uint8, 255 for all of it.

    The mask holds the whole shape, also where it lies outside the image; (x, y) is its corner in the image.
    """
    box = bounds(contours)
    x, y = (int(v) for v in np.floor(box[:2]))
    width, height = int(np.ceil(box[2])) - x, int(np.ceil(box[3])) - y
    fine = _FINE if max(width, height) <= _FINE_MASK_SIDE else _COARSE
    large = np.zeros((height * fine, width * fine), np.uint8)
    # OpenCV's coordinates name pixel centres, hence the half.
    points = [
        np.rint(((contour - (x, y)) * fine - 0.5) * (1 << _SHIFT)).astype(np.int32) for contour in contours
    ]
    cv2.fillPoly(large, points, 255, cv2.LINE_8, _SHIFT)
    return cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA), (x, y)
