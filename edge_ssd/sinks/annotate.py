"""Detections drawn onto their frame."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np

from ..detections import Detections
from ..files.terminal import short_name
from ..frames import Frame

_FONT = cv2.FONT_HERSHEY_SIMPLEX

_TO_BGR = {
    "rgb8": cv2.COLOR_RGB2BGR,
    "bgra8": cv2.COLOR_BGRA2BGR,
    "rgba8": cv2.COLOR_RGBA2BGR,
    "mono8": cv2.COLOR_GRAY2BGR,
    "yuyv": cv2.COLOR_YUV2BGR_YUY2,
    "uyvy": cv2.COLOR_YUV2BGR_UYVY,
}


def to_bgr(frame: Frame) -> np.ndarray:
    """(H, W, 3) uint8 BGR of a Frame, always a copy; for people to look at, so YUV is taken as BT.601.

    Raises ValueError for a frame in GPU memory.
    """
    planes = [plane for plane in frame.planes if isinstance(plane, np.ndarray)]
    if len(planes) != len(frame.planes):
        raise ValueError("frame: its pixels lie in GPU memory; copy them to host memory to draw on them")
    if frame.pixel_format == "bgr8":
        return planes[0].copy()
    if frame.pixel_format == "nv12":
        luma, chroma = map(np.ascontiguousarray, planes)
        return cv2.cvtColorTwoPlane(luma, chroma, cv2.COLOR_YUV2BGR_NV12)
    if frame.pixel_format == "i420":
        # As OpenCV has it: below the luma, all of U and then all of V, in rows of the luma's width.
        chroma = np.concatenate([plane.ravel() for plane in planes[1:]])
        stacked = np.concatenate([planes[0], chroma.reshape(-1, planes[0].shape[1])])
        return cv2.cvtColor(stacked, cv2.COLOR_YUV2BGR_I420)
    return cv2.cvtColor(np.ascontiguousarray(planes[0]), _TO_BGR[frame.pixel_format])


def class_color(label: int) -> tuple[int, int, int]:
    """A BGR colour, 0..255, for a class index; neighbours lie a golden ratio apart in hue."""
    red, green, blue = colorsys.hsv_to_rgb((0.33 + label * 0.618034) % 1.0, 0.85, 1.0)
    return int(blue * 255), int(green * 255), int(red * 255)


def annotate(frame: Frame, detections: Detections, class_names: Sequence[str]) -> np.ndarray:
    """A BGR copy of the frame with boxes, class names and scores, readable at any image size.

    frame: in host memory, of any pixel_format.   detections: in its pixels.   class_names: of their labels.
    Returns (H, W, 3) uint8.
    """
    image = to_bgr(frame)
    scale = max(0.4, min(image.shape[:2]) / 900)
    # Best last, so that it lies on top.
    for (box, score, label), points in reversed(list(zip(detections, detections.keypoints))):
        color = class_color(label)
        x1, y1, x2, y2 = (round(float(v)) for v in box)
        cv2.rectangle(image, (x1, y1), (x2, y2), color, max(1, round(2 * scale)))
        for x, y in points:
            _draw_point(image, float(x), float(y), color, scale)
        _draw_label(image, f"{class_names[label]} {score:.2f}", x1, y1, color, scale)
    return image


def _draw_point(image: np.ndarray, x: float, y: float, color: tuple[int, int, int], scale: float) -> None:
    """A dot, where it lies inside of the image."""
    if 0 <= x < image.shape[1] and 0 <= y < image.shape[0]:
        cv2.circle(image, (round(x), round(y)), max(2, round(4 * scale)), color, cv2.FILLED, cv2.LINE_AA)


def _draw_label(
    image: np.ndarray, text: str, x: int, y: int, color: tuple[int, int, int], scale: float
) -> None:
    """Text on a filled box above (x, y), moved inside where it would leave the image."""
    text = short_name(text).encode("ascii", "replace").decode()  # OpenCV's fonts have nothing else
    thickness = max(1, round(scale))
    margin = max(2, round(4 * scale))
    (width, height), below = cv2.getTextSize(text, _FONT, scale, thickness)
    width, height = width + 2 * margin, height + below + margin
    x = max(0, min(x, image.shape[1] - width))
    y = max(y, height)
    cv2.rectangle(image, (x, y - height), (x + width, y), color, cv2.FILLED)
    luma = 0.114 * color[0] + 0.587 * color[1] + 0.299 * color[2]
    ink = (0, 0, 0) if luma > 110 else (255, 255, 255)
    cv2.putText(image, text, (x + margin, y - below), _FONT, scale, ink, thickness, cv2.LINE_AA)
