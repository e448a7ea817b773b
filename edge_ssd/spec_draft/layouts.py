"""Layouts of default boxes that are known by name, and by how many boxes they have."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..priors import cell_sizes, ssd300_levels, ssd512_levels, ssdlite_levels
from ..spec import PriorLevel


@dataclass(frozen=True)
class Layout:
    """A known layout.

    names: for --levels; a name stands for one layout of each count.   shown: whose it is.   side: of the square input,
    pixels.   count: of priors.   levels: makes them.   voc: whether models with VOC's 21 columns have it most often.
    """

    names: tuple[str, ...]
    shown: str
    side: int
    count: int
    levels: Callable[[], tuple[PriorLevel, ...]]
    voc: bool = False

    @property
    def sizes(self) -> str:
        """The side of the first box of each level, which tells layouts of one count apart."""
        return "/".join(f"{math.sqrt(w * h):.4g}" for w, h in (level.sizes[0] for level in self.levels()))


def mmdet_ssdlite_levels() -> tuple[PriorLevel, ...]:
    """The default boxes of MMDetection's SSDLite at 320: its configuration writes the sizes and steps out."""
    sides = (48, 100, 150, 202, 253, 304, 320)
    steps = (16, 32, 64, 107, 160, 320)
    return tuple(
        PriorLevel(
            (math.ceil(320 / step), math.ceil(320 / step)), (step, step), cell_sizes(side, larger, (2, 3))
        )
        for step, side, larger in zip(steps, sides, sides[1:])
    )


def mmdet_ssd512_levels() -> tuple[PriorLevel, ...]:
    """MMDetection's SSD512 for COCO: the usual one with sizes cut to whole pixels."""
    sides = (20, 51, 133, 215, 296, 378, 460, 542)
    ratios = ((2,), (2, 3), (2, 3), (2, 3), (2, 3), (2,), (2,))
    return tuple(
        PriorLevel((512 // step, 512 // step), (step, step), cell_sizes(side, larger, level_ratios))
        for step, side, larger, level_ratios in zip((8, 16, 32, 64, 128, 256, 512), sides, sides[1:], ratios)
    )


def halved_maps(height: int, width: int, first_step: int, count: int) -> list[tuple[int, int]]:
    """(rows, columns) of maps that begin at a step and are halved, rounded up, from one to the next."""
    maps = [(math.ceil(height / first_step), math.ceil(width / first_step))]
    while len(maps) < count:
        maps.append((math.ceil(maps[-1][0] / 2), math.ceil(maps[-1][1] / 2)))
    return maps


def tensorflow_levels(
    height: int,
    width: int,
    scales: Sequence[float],
    ratios: Sequence[float],
    in_lowest: bool = True,
    between_ratio: float = 1.0,
) -> tuple[PriorLevel, ...]:
    """The default boxes of TensorFlow's ssd_anchor_generator on maps of step 16 and halves of that.

    scales: of each level, of the shorter side, and one more.   ratios: w / h, as they come.   in_lowest: three boxes in
    the first map, its square a tenth of the input.   between_ratio: of the box between two scales; 0 leaves it out.
    """
    side, levels = min(height, width), []
    for k, (rows, columns) in enumerate(halved_maps(height, width, 16, len(scales) - 1)):
        boxes = [(scales[k], ratio) for ratio in ratios]
        if between_ratio > 0:
            boxes.append((math.sqrt(scales[k] * scales[k + 1]), between_ratio))
        if k == 0 and in_lowest:
            boxes = [(0.1, 1.0), (scales[0], 2.0), (scales[0], 0.5)]
        sizes = tuple((side * s * math.sqrt(r), side * s / math.sqrt(r)) for s, r in boxes)
        levels.append(PriorLevel((rows, columns), (height / rows, width / columns), sizes))
    return tuple(levels)


def tensorflow_scales(count: int = 6, least: float = 0.2, most: float = 0.95) -> list[float]:
    """The scales of TensorFlow's generator: evenly from `least` to `most`, then 1."""
    return (
        [least + (most - least) * k / (count - 1) for k in range(count)] + [1.0]
        if count > 1
        else [least, 1.0]
    )


def _tensorflow(side: int) -> tuple[PriorLevel, ...]:
    return tensorflow_levels(side, side, tensorflow_scales(), (1.0, 2.0, 0.5, 3.0, 0.3333))


def _caffe_mobilenet() -> tuple[PriorLevel, ...]:
    """MobileNet-SSD of Caffe: no box between two sizes in the first map, and none of 3 : 1."""
    sides = (60, 105, 150, 195, 240, 285, 300)
    levels = []
    for k, cells in enumerate((19, 10, 5, 3, 2, 1)):
        sizes = cell_sizes(sides[k], sides[k + 1], (2, 3) if k else (2,))
        sizes = sizes if k else (sizes[0], *sizes[2:])
        levels.append(PriorLevel((cells, cells), (300 / cells, 300 / cells), sizes))
    return tuple(levels)


# Of one count, the more usual one first.
LAYOUTS = (
    Layout(("coco", "torchvision", "mmdet"), "SSD300 for COCO", 300, 8732, ssd300_levels),
    Layout(("voc",), "SSD300 for VOC", 300, 8732, lambda: ssd300_levels("voc"), voc=True),
    Layout(("coco",), "SSD512 for COCO", 512, 24564, ssd512_levels),
    Layout(("voc",), "SSD512 for VOC", 512, 24564, lambda: ssd512_levels("voc"), voc=True),
    Layout(("mmdet",), "MMDetection's SSD512", 512, 24564, mmdet_ssd512_levels),
    Layout(("torchvision", "coco"), "torchvision's SSDLite", 320, 3234, ssdlite_levels),
    Layout(("mmdet",), "MMDetection's SSDLite", 320, 3234, mmdet_ssdlite_levels),
    Layout(("tf",), "TensorFlow's SSD-MobileNet", 300, 1917, lambda: _tensorflow(300)),
    Layout(("caffe",), "Caffe's MobileNet-SSD", 300, 1917, _caffe_mobilenet, voc=True),
    Layout(("tf",), "TensorFlow's SSD-MobileNet at 320", 320, 2034, lambda: _tensorflow(320)),
)

NAMES = tuple(dict.fromkeys(name for layout in LAYOUTS for name in layout.names))


def known_levels(
    count: int, input_size: tuple[int, int], columns: int, name: str, guesses: list[str]
) -> tuple[PriorLevel, ...]:
    """The levels of the known layout of that many priors; what was assumed goes to `guesses`.

    columns: of conf; 21 are VOC's 20 classes and background.   name: of --levels, empty to guess.
    Raises ValueError where no layout fits.
    """
    fitting = [layout for layout in LAYOUTS if layout.count == count and input_size == (layout.side,) * 2]
    if name:
        chosen = next((layout for layout in fitting if name in layout.names), None)
        if chosen is None:
            raise ValueError(_no_such(name, count, input_size))
        return chosen.levels()
    if not fitting:
        height, width = input_size
        raise ValueError(
            f"the model has {count} priors, which is no layout known here of a {width}x{height} input; say where "
            "they lie with --levels STEP:SIZE,SIZE ..., --priors-file NAME.npy or --from FILE"
        )
    chosen = next((layout for layout in fitting if layout.voc and columns == 21), fitting[0])
    others = [
        f"{layout.shown} ({layout.sizes}) has as many: --levels {layout.names[0]}"
        for layout in fitting
        if layout is not chosen
    ]
    guesses.append(
        "; ".join(
            [f"priors: {count}, taken for those of {chosen.shown}, boxes from {chosen.sizes} pixels", *others]
        )
    )
    return chosen.levels()


def _no_such(name: str, count: int, input_size: tuple[int, int]) -> str:
    height, width = input_size
    if name not in NAMES:
        return f"--levels: expected one of {', '.join(NAMES)}, or STEP:SIZE,SIZE,..., got {name!r}"
    has = ", ".join(f"{a.count} at {a.side}x{a.side}" for a in LAYOUTS if name in a.names)
    return f"--levels {name}: expected a model of {has} priors, got {count} at {width}x{height}"
