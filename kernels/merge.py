"""Launcher of merge.cu."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .arrays import check_array, check_block, ints

if TYPE_CHECKING:
    from .device import Device, DeviceArray

# 8 KB of shared memory, and a thread for each.
MAX_DETECTIONS = 1024


def merge(
    device: Device,
    kept_boxes: DeviceArray,
    kept_scores: DeviceArray,
    kept_counts: DeviceArray,
    dropped: DeviceArray,
    labels: DeviceArray,
    rows: DeviceArray,
    counts: DeviceArray,
    block: int = 512,
) -> None:
    """The best detections over all classes of each image.

    kept_boxes (B, K, M, 4), kept_scores (B, K, M) float32, kept_counts (B, K) int32: of class_nms.
    dropped: (B, T) int32, of score_candidates.   labels: (K,) int32, ascending.
    rows: (B, max_detections, 6) float32, written: x1 y1 x2 y2 score label, zeros beyond the count.
    counts: (B, 2) int32, written: rows used, priors dropped.   block: threads.

    Launches on the current stream. Raises ValueError for an array that does not fit.
    """
    batch_size, num_classes, max_kept = kept_scores.shape
    max_detections = rows.shape[1]
    check_block(block)
    if not 1 <= max_detections <= MAX_DETECTIONS:
        raise ValueError(f"max_detections: expected 1 to {MAX_DETECTIONS}, got {max_detections}")
    check_array(device, "kept_boxes", kept_boxes, (batch_size, num_classes, max_kept, 4), np.float32)
    check_array(device, "kept_scores", kept_scores, (batch_size, num_classes, max_kept), np.float32)
    check_array(device, "kept_counts", kept_counts, (batch_size, num_classes), np.int32)
    check_array(device, "dropped", dropped, (batch_size, dropped.shape[-1]), np.int32)
    check_array(device, "labels", labels, (num_classes,), np.int32)
    check_array(device, "rows", rows, (batch_size, max_detections, 6), np.float32)
    check_array(device, "counts", counts, (batch_size, 2), np.int32)
    ranks = num_classes * max_kept
    device.kernel("merge")(
        (1, batch_size),
        block,
        (
            *(kept_boxes, kept_scores, kept_counts, dropped, labels, rows, counts),
            *ints(num_classes, dropped.shape[1], max(ranks - 1, 1).bit_length(), max_kept, max_detections),
        ),
        shared_bytes=8 * max_detections,
    )
