"""The SSD networks by name. `build_model` is all that other parts need."""

from __future__ import annotations

import math

from ...priors import ssd300_levels, ssd512_levels, ssdlite_levels
from ...spec import PostprocessSpec, PriorLevel
from .heads import SsdHead
from .layers import conv_predictor, lite_predictor
from .mobilenet import MobileNetBase, mobilenet_v3_large
from .resnet import SlimResNetBase
from .ssd import Layout, Ssd
from .vgg import SSD300_EXTRAS, SSD512_EXTRAS, VggBase

# ImageNet's mean as Caffe's VGG has it, in torchvision's digits; no division.
_VGG_MEAN = tuple(255 * mean for mean in (0.48235, 0.45882, 0.40784))
_VGG_STD = (1.0, 1.0, 1.0)
_HALF_RANGE = (127.5, 127.5, 127.5)
_SSD_POSTPROCESS = PostprocessSpec(0.01, 0.45, 400, 200, "before_nms")
_LITE_POSTPROCESS = PostprocessSpec(0.001, 0.55, 300, 300, "before_nms")


def build_model(arch, num_classes, **options):
    """The network `arch`, newly initialised.

    arch: a key of ARCHITECTURES.   num_classes: background included, at least 2.
    options: reduced_tail (ssdlite320_mobilenet_v3_large), input_size (ssd320_resnet16); see their builders.

    Returns `Ssd`: `forward(batch) -> (loc, conf)`, `.spec(class_names, priors="coco") -> SsdSpec`.
    Raises ValueError for an unknown name or option, or a count of classes below 2.
    """
    if arch not in ARCHITECTURES:
        raise ValueError(f"arch: expected one of {', '.join(ARCHITECTURES)}, got {arch!r}")
    if num_classes < 2:
        raise ValueError(f"num_classes: expected at least 2 (background and one class), got {num_classes}")
    try:
        return ARCHITECTURES[arch](num_classes, **options)
    except TypeError:
        raise ValueError(f"options: {arch} does not take {', '.join(options)}") from None


def ssd300_vgg16(num_classes):
    """SSD300 (the paper's figure 2): 8732 default boxes; weights of torchvision's model of this name fit."""
    levels = {"coco": _limited(ssd300_levels("coco"), 300), "voc": ssd300_levels("voc")}
    layout = Layout("ssd300_vgg16", (300, 300), _VGG_MEAN, _VGG_STD, levels, _SSD_POSTPROCESS)
    return _assemble(layout, VggBase(SSD300_EXTRAS), conv_predictor, num_classes)


def ssd512_vgg16(num_classes):
    """SSD512 with the paper's maps 64, 32, 16, 8, 4, 2, 1: 24564 default boxes."""
    levels = {"coco": ssd512_levels("coco"), "voc": ssd512_levels("voc")}
    layout = Layout("ssd512_vgg16", (512, 512), _VGG_MEAN, _VGG_STD, levels, _SSD_POSTPROCESS)
    return _assemble(layout, VggBase(SSD512_EXTRAS), conv_predictor, num_classes)


def ssdlite320_mobilenet_v3_large(num_classes, reduced_tail=True):
    """SSDLite on MobileNetV3-Large: 3234 default boxes; weights of torchvision's model of this name fit.

    reduced_tail: see `mobilenet_v3_large`; the published detection weights have it.
    """
    levels = {"coco": _limited(ssdlite_levels(320), 320)}
    layout = Layout(
        "ssdlite320_mobilenet_v3_large", (320, 320), _HALF_RANGE, _HALF_RANGE, levels, _LITE_POSTPROCESS
    )
    # The expansion of block 12 is the last map of stride 16.
    base = MobileNetBase(mobilenet_v3_large(reduced_tail), taps=(12,), extras=(512, 256, 256, 128))
    return _assemble(layout, base, lite_predictor, num_classes, {"reduced_tail": reduced_tail})


def ssd320_resnet16(num_classes, input_size=320):
    """A small SSD on a slim residual network, with maps from stride 8 on for small objects.

    input_size: side of the square input, a multiple of 32 from 96 on.
    """
    if input_size < 96 or input_size % 32:
        raise ValueError(f"input_size: expected a multiple of 32 from 96 on, got {input_size}")
    layout = Layout(
        "ssd320_resnet16",
        (input_size, input_size),
        _HALF_RANGE,
        _HALF_RANGE,
        {"coco": _even_levels(input_size)},
        PostprocessSpec(0.01, 0.5, 200, 100),
    )
    return _assemble(layout, SlimResNetBase(), conv_predictor, num_classes, {"input_size": input_size})


ARCHITECTURES = {
    builder.__name__: builder
    for builder in (ssd300_vgg16, ssd512_vgg16, ssdlite320_mobilenet_v3_large, ssd320_resnet16)
}


def _assemble(layout, base, predictor, num_classes, options=None):
    head = SsdHead(base.out_channels, layout.boxes_per_cell, num_classes, predictor)
    return Ssd(layout, base, head, num_classes, options)


def _limited(levels, side):
    """Levels with no default box wider or higher than the input, as torchvision has them."""
    return tuple(
        PriorLevel(
            level.feature_size,
            level.step,
            tuple((min(w, side), min(h, side)) for w, h in level.sizes),
            level.offset,
        )
        for level in levels
    )


def _even_levels(side):
    """Default boxes for objects of 4 to 110 % of `side` whose sizes are spread evenly on a logarithmic scale.

    Maps of stride 8, 16, 32, ...; in each cell boxes of 2.25 and 3.2 steps, as a square, 2 : 1 and 1 : 2, and
    on the finest map a smaller square besides. So an object overlaps five to six boxes by IoU > 0.5 wherever
    it lies between the cells (99 % of the demo camera's objects overlap one); with boxes of one step it
    is one or two, and training takes far longer to begin to learn.
    """
    maps = [side // 8, side // 16, side // 32]
    while len(maps) < 5:
        maps.append((maps[-1] + 1) // 2)
    levels = []
    for cells in maps:
        step = side / cells
        sizes = [size for scale in (2.25, 2.25 * math.sqrt(2)) for size in _three_shapes(scale * step)]
        if cells == maps[0]:
            sizes.insert(0, (1.6 * step, 1.6 * step))
        levels.append(PriorLevel((cells, cells), (step, step), tuple(sizes)))
    return tuple(levels)


def _three_shapes(scale):
    """(w, h) of three boxes of the same area: square, 2 : 1, 1 : 2."""
    root = math.sqrt(2)
    return (scale, scale), (scale * root, scale / root), (scale / root, scale * root)
