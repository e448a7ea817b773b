"""Known layouts of priors, each against its framework's own rule, written out here."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from edge_ssd.priors import make_priors
from edge_ssd.spec import PriorSpec
from edge_ssd.spec_draft.layouts import LAYOUTS, known_levels
from tests.specs import example_spec


def pixels(levels, side):
    spec = example_spec(height=side, width=side, priors=PriorSpec(tuple(levels)))
    return make_priors(spec).astype(np.float64) * side


def named(name, count):
    (layout,) = [a for a in LAYOUTS if name in a.names and a.count == count]
    return pixels(layout.levels(), layout.side)


def test_every_layout_has_as_many_priors_as_it_says():
    for layout in LAYOUTS:
        assert len(pixels(layout.levels(), layout.side)) == layout.count


def tensorflow_anchors(side):
    """create_ssd_anchors with six layers from 0.2 to 0.95, reduce_boxes_in_lowest_layer; [cy cx h w] of tiles."""
    scales = [0.2 + (0.95 - 0.2) * i / 5 for i in range(6)] + [1.0]
    maps = [math.ceil(side / 16)]
    for _ in range(5):
        maps.append((maps[-1] + 1) // 2)
    rows = []
    for layer, (scale, scale_next, cells) in enumerate(zip(scales[:-1], scales[1:], maps)):
        if layer == 0:
            boxes = [(0.1, 1.0), (scale, 2.0), (scale, 0.5)]
        else:
            boxes = [(scale, r) for r in (1.0, 2.0, 0.5, 3.0, 0.3333)] + [
                (math.sqrt(scale * scale_next), 1.0)
            ]
        for y, x, (s, r) in itertools.product(range(cells), range(cells), boxes):
            rows.append(((x + 0.5) / cells, (y + 0.5) / cells, s * math.sqrt(r), s / math.sqrt(r)))
    return np.array(rows) * side


@pytest.mark.parametrize(("side", "count"), [(300, 1917), (320, 2034)])
def test_tensorflow(side, count):
    np.testing.assert_allclose(named("tf", count), tensorflow_anchors(side), atol=1e-3)


def mmdetection_anchors(side, strides, sides, ratios):
    """SSDAnchorGenerator: scales 1 and sqrt(max / min), ratios h / w as 1, 1/r, r; the second scale comes second."""
    rows = []
    for stride, least, most, level_ratios in zip(strides, sides, sides[1:], ratios):
        hw = [1.0, *itertools.chain.from_iterable((1 / r, r) for r in level_ratios)]
        boxes = [
            (least * s / math.sqrt(r), least * s * math.sqrt(r))
            for s in (1.0, math.sqrt(most / least))
            for r in hw
        ]
        boxes = [boxes[0], boxes[len(hw)], *boxes[1 : len(hw)]]
        for y, x, (w, h) in itertools.product(
            range(math.ceil(side / stride)), range(math.ceil(side / stride)), boxes
        ):
            rows.append((stride / 2 + x * stride, stride / 2 + y * stride, w, h))
    return np.array(rows)


def test_mmdetection():
    lite = mmdetection_anchors(
        320, (16, 32, 64, 107, 160, 320), (48, 100, 150, 202, 253, 304, 320), ((2, 3),) * 6
    )
    np.testing.assert_allclose(named("mmdet", 3234), lite, atol=1e-3)
    # From basesize_ratio_range=(0.1, 0.9): steps of int(80 / 5) per cent, cut to pixels; 4 per cent before them.
    sides = [int(512 * 4 / 100), *(int(512 * p / 100) for p in range(10, 91, 16)), int(512 * 106 / 100)]
    ratios = ((2,), (2, 3), (2, 3), (2, 3), (2, 3), (2,), (2,))
    whole = mmdetection_anchors(512, (8, 16, 32, 64, 128, 256, 512), sides, ratios)
    np.testing.assert_allclose(named("mmdet", 24564), whole, atol=1e-3)
    # From (0.15, 0.9) of 300: int(75 / 4) = 18 per cent apart, 7 per cent before them.
    sides = [int(300 * 7 / 100), *(int(300 * p / 100) for p in range(15, 91, 18)), int(300 * 105 / 100)]
    usual = mmdetection_anchors(
        300, (8, 16, 32, 64, 100, 300), sides, ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))
    )
    np.testing.assert_allclose(named("mmdet", 8732), usual, atol=1e-3)


def test_caffes_mobilenet():
    """PriorBox without step: the image by the map. A square, one to the next size, then each ratio and its flip."""
    rows = []
    for k, (cells, least) in enumerate(zip((19, 10, 5, 3, 2, 1), (60, 105, 150, 195, 240, 285))):
        most = (None, 150, 195, 240, 285, 300)[k]
        boxes = [(least, least)] + ([(math.sqrt(least * most),) * 2] if most else [])
        for ratio in (2, 1 / 2, 3, 1 / 3) if k else (2, 1 / 2):
            boxes.append((least * math.sqrt(ratio), least / math.sqrt(ratio)))
        for y, x, (w, h) in itertools.product(range(cells), range(cells), boxes):
            rows.append(((x + 0.5) * 300 / cells, (y + 0.5) * 300 / cells, w, h))
    np.testing.assert_allclose(named("caffe", 1917), np.array(rows), atol=1e-3)


def first_sides(levels):
    return [level.sizes[0][0] for level in levels]


def test_what_was_assumed_of_a_count_is_said_with_what_else_has_it():
    said = []
    assert first_sides(known_levels(8732, (300, 300), 81, "", said)) == [21, 45, 99, 153, 207, 261]
    assert said == [
        "priors: 8732, taken for those of SSD300 for COCO, boxes from 21/45/99/153/207/261 pixels; "
        "SSD300 for VOC (30/60/111/162/213/264) has as many: --levels voc"
    ]


@pytest.mark.parametrize(
    ("count", "side", "columns", "name", "first"),
    [
        (8732, 300, 21, "", [30, 60]),  # VOC's 20 classes
        (8732, 300, 21, "coco", [21, 45]),
        (8732, 300, 81, "voc", [30, 60]),
        (24564, 512, 21, "", [35.84, 76.8]),
        (24564, 512, 81, "", [20.48, 51.2]),
        (3234, 320, 21, "", [64, 112]),
        (3234, 320, 81, "mmdet", [48, 100]),
        (1917, 300, 91, "", [30, 105]),
        (1917, 300, 21, "", [60, 105]),
    ],
)
def test_the_name_decides_then_the_columns(count, side, columns, name, first):
    said = []
    np.testing.assert_allclose(first_sides(known_levels(count, (side, side), columns, name, said))[:2], first)
    assert bool(said) == (not name)


@pytest.mark.parametrize(
    ("count", "size", "name", "message"),
    [
        (8732, (512, 512), "", "no layout known here of a 512x512 input"),
        (
            8732,
            (300, 300),
            "tf",
            "--levels tf: expected a model of 1917 at 300x300, 2034 at 320x320 priors, got 8732",
        ),
        (8732, (300, 300), "coc", "expected one of coco, torchvision"),
    ],
)
def test_a_layout_of_another_input_or_name_does_not_fit(count, size, name, message):
    with pytest.raises(ValueError, match=message):
        known_levels(count, size, 81, name, [])
