"""Default boxes for the feature maps of a network, as named sets.

maps: (rows, columns) of each map, finest first.   input_size: (height, width), pixels.
finest_stride: input pixels of a cell of the first map.   Each gives a tuple of PriorLevel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..priors import SSD300_SIZES, SSD512_SIZES, cell_sizes
from ..spec import PriorLevel

# What `maps` and the results are.
MapSizes = Sequence[tuple[int, int]]
Levels = tuple[PriorLevel, ...]

# What the authors' configuration has instead of the input's side divided by the cells (38 x 8 is 304).
_SSD300_STEPS = (8, 16, 32, 64, 100, 300)


def ssd300_sets(maps: MapSizes, input_size: tuple[int, int], finest_stride: int) -> dict[str, Levels]:
    """SSD300's sizes, scaled to the input; `coco` limited to it as in torchvision, `voc` not."""
    steps = (4,) * (finest_stride == 4) + _SSD300_STEPS if input_size == (300, 300) else None
    coco = _paper_levels(maps, input_size, finest_stride, SSD300_SIZES["coco"], 300, steps)
    voc = _paper_levels(maps, input_size, finest_stride, SSD300_SIZES["voc"], 300, steps)
    return {"coco": _limited(coco, input_size), "voc": voc}


def ssd512_sets(maps: MapSizes, input_size: tuple[int, int], finest_stride: int) -> dict[str, Levels]:
    """SSD512's sizes, scaled to the input."""
    return {
        name: _paper_levels(maps, input_size, finest_stride, sizes, 512)
        for name, sizes in SSD512_SIZES.items()
    }


def lite_sets(maps: MapSizes, input_size: tuple[int, int], finest_stride: int) -> dict[str, Levels]:
    """SSDLite's: from 0.2 to 0.95 of the input, growing linearly (the paper's eq. 4); from half of that for
    each finer map than stride 16."""
    side = min(input_size)
    least, count = 0.2 * finest_stride / 16, len(maps)
    ratios = [least + (0.95 - least) * k / max(1, count - 1) for k in range(count)] + [1.0]
    levels = _levels(maps, input_size, [r * side for r in ratios], ((2, 3),) * count)
    return {"coco": _limited(levels, input_size)}


def even_levels(maps: MapSizes, input_size: tuple[int, int]) -> Levels:
    """Boxes whose sizes are spread evenly on a logarithmic scale.

    In each cell boxes of 2.25 and 3.2 steps, as a square, 2 : 1 and 1 : 2, and on the finest map a smaller
    square besides. So an object overlaps five to six boxes by IoU > 0.5 wherever it lies between the cells
    (99 % of the demo camera's objects overlap one); with boxes of one step it is one or two, and training
    takes far longer to begin to learn.
    """
    levels = []
    for cells, step in zip(maps, _steps(maps, input_size)):
        sizes = [size for scale in (2.25, 2.25 * math.sqrt(2)) for size in _three_shapes(scale * min(step))]
        if not levels:
            sizes.insert(0, (1.6 * min(step), 1.6 * min(step)))
        levels.append(PriorLevel(cells, step, tuple(sizes)))
    return tuple(levels)


def sized_levels(
    maps: MapSizes, input_size: tuple[int, int], sizes: Sequence[Sequence[Sequence[float]]]
) -> Levels:
    """Boxes of given (w, h) in input pixels, a list for each map. Raises ValueError when there are more or fewer."""
    if len(sizes) != len(maps) or not all(len(boxes) for boxes in sizes):
        raise ValueError(
            f"priors: expected sizes for {len(maps)} feature maps, at least one each, "
            f"got {', '.join(str(len(boxes)) for boxes in sizes) or 'none'}"
        )
    return tuple(
        PriorLevel(cells, step, tuple((float(w), float(h)) for w, h in boxes))
        for cells, step, boxes in zip(maps, _steps(maps, input_size), sizes)
    )


def _paper_levels(
    maps: MapSizes,
    input_size: tuple[int, int],
    finest_stride: int,
    sizes: Sequence[float],
    side: int,
    steps: Sequence[int] | None = None,
) -> Levels:
    """Levels of the paper's sizes for a square of `side`, scaled; a map of stride 4 has half the smallest."""
    if finest_stride == 4:
        sizes = (sizes[0] / 2, *sizes)
    scale = min(input_size) / side
    ratios: list[tuple[int, ...]] = [(2,)] + [(2, 3)] * (len(maps) - 3) + [(2,), (2,)]
    if finest_stride == 4:
        ratios[1] = (2,)
    return _levels(maps, input_size, [size * scale for size in sizes], ratios, steps)


def _levels(
    maps: MapSizes,
    input_size: tuple[int, int],
    sizes: Sequence[float],
    aspect_ratios: Sequence[Sequence[float]],
    steps: Sequence[int] | None = None,
) -> Levels:
    cell_steps = [(step, step) for step in steps] if steps else _steps(maps, input_size)
    return tuple(
        PriorLevel(cells, step, cell_sizes(size, next_size, ratios))
        for cells, step, size, next_size, ratios in zip(maps, cell_steps, sizes, sizes[1:], aspect_ratios)
    )


def _steps(maps: MapSizes, input_size: tuple[int, int]) -> list[tuple[float, float]]:
    """(y, x) of a cell of each map, input pixels."""
    return [(input_size[0] / rows, input_size[1] / columns) for rows, columns in maps]


def _limited(levels: Levels, input_size: tuple[int, int]) -> Levels:
    """Levels with no default box wider or higher than the input, as torchvision has them."""
    height, width = input_size
    return tuple(
        PriorLevel(
            level.feature_size,
            level.step,
            tuple((min(w, width), min(h, height)) for w, h in level.sizes),
            level.offset,
        )
        for level in levels
    )


def _three_shapes(scale: float) -> tuple[tuple[float, float], ...]:
    """(w, h) of three boxes of the same area: square, 2 : 1, 1 : 2."""
    root = math.sqrt(2)
    return (scale, scale), (scale * root, scale / root), (scale / root, scale * root)
