"""Box arithmetic. Corners are x1 y1 x2 y2, centre form is cx cy w h; any one frame, float32."""

from __future__ import annotations

import math

import numpy as np

# The limit of the predicted size, e^x of which scales the prior: exp(log(1000 / 16)) = 62.5 times
# the prior's size, so that FP16 cannot overflow. As in detectron2 and torchvision.
MAX_LOG_SCALE = np.float32(math.log(1000.0 / 16.0))


def centre_to_corners(boxes: np.ndarray) -> np.ndarray:
    """(..., 4) cx cy w h -> (..., 4) x1 y1 x2 y2."""
    half = boxes[..., 2:] * np.float32(0.5)
    return np.concatenate([boxes[..., :2] - half, boxes[..., :2] + half], axis=-1)


def corners_to_centre(boxes: np.ndarray) -> np.ndarray:
    """(..., 4) x1 y1 x2 y2 -> (..., 4) cx cy w h."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return np.concatenate([(low + high) * np.float32(0.5), high - low], axis=-1)


def box_area(boxes: np.ndarray) -> np.ndarray:
    """(..., 4) corners -> (...,) areas."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def intersections(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Areas that boxes share: corners (..., 4) and (..., 4), broadcast -> (...,). Touching boxes share 0."""
    width = np.minimum(first[..., 2], second[..., 2]) - np.maximum(first[..., 0], second[..., 0])
    height = np.minimum(first[..., 3], second[..., 3]) - np.maximum(first[..., 1], second[..., 1])
    return np.maximum(width, np.float32(0)) * np.maximum(height, np.float32(0))


def iou_matrix(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """IoU of every box of `first` with every box of `second`: corners (N, 4), (M, 4) -> (N, M).

    Two empty boxes have IoU 0.
    """
    inter = intersections(first[:, None], second[None])
    union = box_area(first)[:, None] + box_area(second)[None] - inter
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)


def encode_boxes(boxes: np.ndarray, priors: np.ndarray, variance: tuple[float, float]) -> np.ndarray:
    """What `loc` must be so that `decode_boxes` gives `boxes` (the paper's eq. 2).

    boxes: (N, 4) corners, normalised, sides > 0.   priors: (N, 4) cx cy w h, normalised.
    variance: (centre, size).   Returns (N, 4) float32.
    """
    centre = corners_to_centre(boxes)
    scale = np.float32(variance[0]), np.float32(variance[1])
    offsets = (centre[..., :2] - priors[..., :2]) / (priors[..., 2:] * scale[0])
    sizes = np.log(centre[..., 2:] / priors[..., 2:]) / scale[1]
    return np.concatenate([offsets, sizes], axis=-1).astype(np.float32)


def decode_boxes(loc: np.ndarray, priors: np.ndarray, variance: tuple[float, float]) -> np.ndarray:
    """Offsets and default boxes -> corner boxes (the paper's eq. 2, inverted).

    loc: (N, 4) float32, order cx cy w h, scaled by the variances.   priors: (N, 4) cx cy w h, normalised.
    variance: (centre, size).   Sizes stop at 62.5 times the prior's (MAX_LOG_SCALE).

    Returns (N, 4) float32 corners, normalised, not clipped.
    """
    centre = priors[..., :2] + loc[..., :2] * np.float32(variance[0]) * priors[..., 2:]
    half = (
        priors[..., 2:]
        * np.exp(np.minimum(loc[..., 2:] * np.float32(variance[1]), MAX_LOG_SCALE))
        * np.float32(0.5)
    )
    return np.concatenate([centre - half, centre + half], axis=-1)


def decode_linear(loc: np.ndarray, priors: np.ndarray, scale: tuple[float, float]) -> np.ndarray:
    """Offsets that are linear in the size, too, as BlazeFace has them -> corner boxes.

    loc: (N, 4) float32, order cx cy w h, times `scale`.   priors: (N, 4) cx cy w h, normalised.
    scale: (y, x).   A size below 0 counts as 0.   Returns (N, 4) float32 corners, normalised, not clipped.
    """
    scale_xy = np.array([scale[1], scale[0]], np.float32)
    centre = priors[..., :2] + loc[..., :2] / scale_xy * priors[..., 2:]
    half = np.maximum(loc[..., 2:] / scale_xy * priors[..., 2:], np.float32(0)) * np.float32(0.5)
    return np.concatenate([centre - half, centre + half], axis=-1)
