"""Launcher of score_candidates.cu."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .arrays import check_array, check_block, floats, head_define, ints

if TYPE_CHECKING:
    from .device import Device, DeviceArray

ACTIVATIONS = ("softmax", "sigmoid", "none")
TILE = 32

# Columns of 32 priors in shared memory: 40 KB of the 48 that every GPU gives a block, beside 4 KB of its own.
_MOST_COLUMNS = 319


def num_tiles(num_priors: int) -> int:
    """Words of 32 priors."""
    return (num_priors + TILE - 1) // TILE


def score_candidates(
    device: Device,
    loc: DeviceArray,
    conf: DeviceArray,
    columns: DeviceArray,
    fired: DeviceArray,
    scores: DeviceArray,
    dropped: DeviceArray,
    activation: str,
    score_threshold: float,
    block: int = 256,
    chunk: int = 0,
) -> None:
    """Which priors have a probability > score_threshold for which class.

    loc (B, P, 4), conf (B, P, C): float32 or float16, both the same.   columns: (K,) int32 columns of conf.
    fired (B, K, T) uint32, scores (B, K, P) float32, dropped (B, T) int32: written; see score_candidates.cu.
    chunk: columns in shared memory at a time; all where they fit when 0.   block: threads.

    Launches on the current stream. Raises ValueError for an array that does not fit.
    """
    batch_size, num_priors, num_columns = conf.shape
    num_classes, tiles = len(columns), num_tiles(num_priors)
    check_block(block)
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation: expected one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    head = head_define(conf.dtype)
    check_array(device, "conf", conf, conf.shape, conf.dtype)
    check_array(device, "loc", loc, (batch_size, num_priors, 4), conf.dtype)
    check_array(device, "columns", columns, (num_classes,), np.int32)
    check_array(device, "fired", fired, (batch_size, num_classes, tiles), np.uint32)
    check_array(device, "scores", scores, (batch_size, num_classes, num_priors), np.float32)
    check_array(device, "dropped", dropped, (batch_size, tiles), np.int32)
    chunk = min(chunk or _MOST_COLUMNS, num_columns)
    if not 1 <= chunk <= _MOST_COLUMNS:
        raise ValueError(f"chunk: expected 1 to {_MOST_COLUMNS}, got {chunk}")
    if not conf.size:
        return
    device.kernel("score_candidates", HEAD=head)(
        (tiles, batch_size),
        block,
        (
            *(loc, conf, columns, fired, scores, dropped),
            *ints(num_priors, num_columns, num_classes, chunk, ACTIVATIONS.index(activation)),
            *floats(score_threshold),
        ),
        shared_bytes=4 * TILE * (chunk | 1),
    )
