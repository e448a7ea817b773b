"""Launcher of class_nms.cu."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .arrays import check_array, check_block, floats, head_define, ints
from .score_candidates import num_tiles

if TYPE_CHECKING:
    from .device import Device, DeviceArray

# 28 KB of shared memory for a block, which leaves room for others beside it.
MAX_TOP_K = 1024

# Candidates that are ranked without a radix select before: ranking costs the square of their number.
_CAPACITY = 512


def kept_per_class(top_k: int, max_detections: int) -> int:
    """Entries of a class that can reach the result."""
    return min(top_k, max_detections)


def class_nms(
    device: Device,
    fired: DeviceArray,
    scores: DeviceArray,
    loc: DeviceArray,
    priors: DeviceArray,
    kept_boxes: DeviceArray,
    kept_scores: DeviceArray,
    kept_counts: DeviceArray,
    top_k: int,
    iou_threshold: float,
    variance: tuple[float, float],
    y_first: bool = False,
    clip: bool = False,
    block: int = 256,
) -> None:
    """Of each class the best top_k candidates, decoded, after greedy NMS.

    fired (B, K, T) uint32, scores (B, K, P) float32: of score_candidates.   loc: (B, P, 4) float32 or float16.
    priors: (P, 4) float32 cx cy w h.   kept_boxes (B, K, M, 4), kept_scores (B, K, M) float32, kept_counts
    (B, K) int32: written; M: entries kept at most, `kept_per_class`.   variance: (centre, size).
    y_first: loc is dy dx dh dw.   clip: boxes are clipped to 0..1 before NMS.   block: threads.

    Launches on the current stream. Raises ValueError for an array or a number that does not fit.
    """
    batch_size, num_classes, max_kept = kept_scores.shape
    num_priors = len(priors)
    check_block(block)
    if not 1 <= max_kept <= top_k <= MAX_TOP_K:
        raise ValueError(
            f"top_k: expected 1 to {MAX_TOP_K} and at least the {max_kept} to be kept, got {top_k}"
        )
    tiles = num_tiles(num_priors)
    check_array(device, "fired", fired, (batch_size, num_classes, tiles), np.uint32)
    check_array(device, "scores", scores, (batch_size, num_classes, num_priors), np.float32)
    check_array(device, "loc", loc, (batch_size, num_priors, 4), loc.dtype)
    check_array(device, "priors", priors, (num_priors, 4), np.float32)
    check_array(device, "kept_boxes", kept_boxes, (batch_size, num_classes, max_kept, 4), np.float32)
    check_array(device, "kept_scores", kept_scores, (batch_size, num_classes, max_kept), np.float32)
    check_array(device, "kept_counts", kept_counts, (batch_size, num_classes), np.int32)
    if not kept_scores.size:
        return
    capacity = max(_CAPACITY, top_k)
    device.kernel("class_nms", HEAD=head_define(loc.dtype))(
        (num_classes, batch_size),
        block,
        (
            *(fired, scores, loc, priors, kept_boxes, kept_scores, kept_counts),
            *ints(num_priors, max(num_priors - 1, 1).bit_length(), capacity, top_k, max_kept),
            *floats(iou_threshold, *variance),
            *ints(y_first, clip),
        ),
        shared_bytes=8 * top_k + max(8 * capacity, 16 * top_k) + 4 * max_kept,
    )
