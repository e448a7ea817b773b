"""Default boxes (priors) of an SSD: (P, 4) float32 cx cy w h in 0..1, order level, row, column, box."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from . import limits
from .boxes import centre_to_corners, corners_to_centre
from .files import StrPath
from .files.inside import file_inside
from .files.npy import read_npy
from .spec import PriorLevel, SsdSpec

# Side of the smallest and, per level, of the next box, in input pixels (the paper's s_k, section 2.2;
# VOC: the authors' Caffe configuration; COCO: the smaller ones of the paper's section 3.4).
SSD300_SIZES = {"coco": (21, 45, 99, 153, 207, 261, 315), "voc": (30, 60, 111, 162, 213, 264, 315)}
SSD512_SIZES = {
    "coco": (20.48, 51.2, 133.12, 215.04, 296.96, 378.88, 460.8, 542.72),
    "voc": (35.84, 76.8, 153.6, 230.4, 307.2, 384.0, 460.8, 537.6),
}


def make_priors(spec: SsdSpec) -> np.ndarray:
    """The default boxes of `spec`.

    Returns (P, 4) float32 cx cy w h in 0..1, order level, row, column, box of a cell; (0, 4) where there are none.
    Raises FileNotFoundError or ValueError when `priors.file` is missing or holds something else.
    """
    if not spec.priors:
        return np.zeros((0, 4), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # said below
        if spec.priors.file:
            priors = _load_priors(spec.folder, spec.priors.file)
        else:
            priors = np.concatenate([_level_priors(level, spec.input.size) for level in spec.priors.levels])
        if spec.priors.clip:
            priors = corners_to_centre(np.clip(centre_to_corners(priors), 0, 1))
    if not np.isfinite(priors).all():
        raise ValueError(
            f"{spec.name}: priors: hold numbers beyond what float32 has; correct step, sizes or offset"
        )
    return np.ascontiguousarray(priors, dtype=np.float32)


def cell_sizes(
    size: float, next_size: float, aspect_ratios: Iterable[float]
) -> tuple[tuple[float, float], ...]:
    """(w, h) of each box of a cell, in the paper's order (section 2.2): the square of `size`, the square
    of the geometric mean with the next level's size, then each aspect ratio a as a : 1 and 1 : a.

    size, next_size: sides of this level's and the next level's smallest box, any unit, which the result has too.
    """
    between = math.sqrt(size * next_size)
    sizes: list[tuple[float, float]] = [(size, size), (between, between)]
    for ratio in aspect_ratios:
        root = math.sqrt(ratio)
        sizes += [(size * root, size / root), (size / root, size * root)]
    return tuple(sizes)


def ssd300_levels(sizes: str = "coco") -> tuple[PriorLevel, ...]:
    """The 8732 default boxes of SSD300; `sizes`: "coco" or "voc"."""
    return _square_levels(
        (38, 19, 10, 5, 3, 1),
        (8, 16, 32, 64, 100, 300),
        SSD300_SIZES[sizes],
        ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,)),
    )


def ssd512_levels(sizes: str = "coco") -> tuple[PriorLevel, ...]:
    """The 24564 default boxes of SSD512; `sizes`: "coco" or "voc"."""
    return _square_levels(
        (64, 32, 16, 8, 4, 2, 1),
        (8, 16, 32, 64, 128, 256, 512),
        SSD512_SIZES[sizes],
        ((2,), (2, 3), (2, 3), (2, 3), (2, 3), (2,), (2,)),
    )


def ssdlite_levels(
    input_size: int = 320, min_ratio: float = 0.2, max_ratio: float = 0.95
) -> tuple[PriorLevel, ...]:
    """The default boxes of SSDLite on maps of stride 16, 32, ... down to 1 x 1: 3234 for 320.

    Sizes grow linearly from min_ratio to max_ratio of the input over six levels, then 1 (the paper's
    eq. 4, as torchvision's SSDLite320 has it).   input_size: side of the square input, pixels.
    """
    maps = [math.ceil(input_size / 16)]
    while len(maps) < 6:
        maps.append(math.ceil(maps[-1] / 2))
    ratios = [min_ratio + (max_ratio - min_ratio) * k / 5 for k in range(6)] + [1.0]
    return _square_levels(
        maps, [input_size / m for m in maps], [r * input_size for r in ratios], ((2, 3),) * 6
    )


def _square_levels(
    maps: Sequence[int],
    steps: Sequence[float],
    sizes: Sequence[float],
    aspect_ratios: Sequence[Sequence[float]],
) -> tuple[PriorLevel, ...]:
    return tuple(
        PriorLevel((cells, cells), (step, step), cell_sizes(size, next_size, ratios))
        for cells, step, size, next_size, ratios in zip(maps, steps, sizes[:-1], sizes[1:], aspect_ratios)
    )


def _level_priors(level: PriorLevel, input_size: tuple[int, int]) -> np.ndarray:
    (rows, columns), height, width = level.feature_size, *input_size
    priors = np.empty((rows, columns, len(level.sizes), 4), np.float64)
    priors[..., 0] = ((np.arange(columns) + level.offset) * level.step[1] / width)[None, :, None]
    priors[..., 1] = ((np.arange(rows) + level.offset) * level.step[0] / height)[:, None, None]
    priors[..., 2:] = np.array(level.sizes) / (width, height)
    return priors.reshape(-1, 4).astype(np.float32)


def _load_priors(folder: StrPath, name: str) -> np.ndarray:
    try:
        path = file_inside(folder, name)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}; priors.file is relative to the spec") from None
    try:
        priors = read_npy(path, (4,), limits.MOST_PRIORS)
    except ValueError as error:
        raise ValueError(f"{path}: priors.file: {error}") from None
    with np.errstate(over="ignore"):  # beyond float32, which is no finite number then
        priors = priors.astype(np.float32)
    if not np.isfinite(priors).all() or (priors[:, 2:] <= 0).any():
        raise ValueError(
            f"{path}: priors.file: expected finite cx cy w h with w, h > 0; did it store corners?"
        )
    return priors
