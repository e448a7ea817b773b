"""What the frameworks' own files say, their priors against each framework's published rule, written out here."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from edge_ssd.priors import make_priors
from edge_ssd.spec import PriorSpec
from edge_ssd.spec_draft.from_file import options_from
from edge_ssd.spec_draft.options import DraftOptions
from tests.specs import example_spec

PIPELINE = """\
model {
  ssd {
    num_classes: 90
    image_resizer { fixed_shape_resizer { height: 300 width: 400 } }
    feature_extractor { type: "ssd_mobilenet_v2" }
    box_coder { faster_rcnn_box_coder { y_scale: 10.0 x_scale: 10.0 height_scale: 5.0 width_scale: 5.0 } }
    anchor_generator {
      ssd_anchor_generator {
        num_layers: 4
        min_scale: 0.25  # of the shorter side
        max_scale: 0.85
        aspect_ratios: 1.0
        aspect_ratios: 2.0
        aspect_ratios: [0.5, 3.0]
        MORE
      }
    }
    post_processing {
      batch_non_max_suppression {
        score_threshold: 1e-8 iou_threshold: 0.6 max_detections_per_class: 90 max_total_detections: 80
      }
      score_converter: SIGMOID
    }
  }
}
"""


def write(folder, name, content):
    path = folder / name
    path.write_text(content)
    return path


def pixels(options):
    height, width = options.size
    priors = make_priors(example_spec(height=height, width=width, priors=options.priors))
    return priors.astype(np.float64) * (width, height, width, height)


def tensorflow_anchors(height, width, scales, ratios, reduced, between):
    """create_ssd_anchors and MultipleGridAnchorGenerator: the base is the shorter side, strides one over the map."""
    rows, side, cells = [], min(height, width), (math.ceil(height / 16), math.ceil(width / 16))
    for layer, (scale, scale_next) in enumerate(zip(scales, [*scales[1:]])):
        boxes = [(scale, ratio) for ratio in ratios]
        if between > 0:
            boxes.append((math.sqrt(scale * scale_next), between))
        if layer == 0 and reduced:
            boxes = [(0.1, 1.0), (scale, 2.0), (scale, 0.5)]
        for y, x, (s, r) in itertools.product(range(cells[0]), range(cells[1]), boxes):
            center = (x + 0.5) * width / cells[1], (y + 0.5) * height / cells[0]
            rows.append((*center, side * s * math.sqrt(r), side * s / math.sqrt(r)))
        cells = (cells[0] + 1) // 2, (cells[1] + 1) // 2
    return np.array(rows)


@pytest.mark.parametrize(
    ("more", "scales", "reduced", "between"),
    [
        ("", [0.25, 0.45, 0.65, 0.85, 1.0], True, 1.0),
        ("reduce_boxes_in_lowest_layer: false", [0.25, 0.45, 0.65, 0.85, 1.0], False, 1.0),
        ("interpolated_scale_aspect_ratio: 0", [0.25, 0.45, 0.65, 0.85, 1.0], True, 0),
        (
            "scales: [0.1, 0.2, 0.5, 0.8] interpolated_scale_aspect_ratio: 2",
            [0.1, 0.2, 0.5, 0.8, 1.0],
            True,
            2.0,
        ),
    ],
)
def test_tensorflows_ssd_anchors(tmp_path, more, scales, reduced, between):
    options = options_from(write(tmp_path, "pipeline.config", PIPELINE.replace("MORE", more)))
    expected = tensorflow_anchors(300, 400, scales, (1.0, 2.0, 0.5, 3.0), reduced, between)
    np.testing.assert_allclose(pixels(options), expected, atol=1e-3)


def test_the_rest_of_tensorflows_pipeline(tmp_path):
    options = options_from(write(tmp_path, "pipeline.config", PIPELINE.replace("MORE", "")))
    assert (options.size, options.color, options.mean, options.std) == ((300, 400), "rgb", (127.5,), (127.5,))
    assert (options.loc_order, options.activation, options.background) == ("cycxhw", "sigmoid", 0)
    np.testing.assert_allclose(options.variance, (0.1, 0.2))
    assert (options.score_threshold, options.iou_threshold) == (1e-8, 0.6)
    assert (options.top_k, options.max_detections) == (90, 80)


def test_tensorflows_multiscale_anchors(tmp_path):
    """Ratios outside, scales of the octave inside; the center is a step's middle only where the step divides."""
    start, end = PIPELINE.index("ssd_anchor_generator"), PIPELINE.index("post_processing")
    generator = (
        "multiscale_anchor_generator { min_level: 6 max_level: 7 aspect_ratios: 1 aspect_ratios: 2 } }\n"
    )
    content = PIPELINE[:start] + generator + PIPELINE[end:]
    content = content.replace("height: 300 width: 400", "height: 320 width: 320").replace(
        "ssd_mobilenet_v2", "ssd_resnet50"
    )
    options = options_from(write(tmp_path, "pipeline.config", content))
    rows = []
    for step, cells, first in ((64, 5, 32.0), (128, 3, 0.0)):
        boxes = [
            (s * math.sqrt(r), s / math.sqrt(r)) for r in (1, 2) for s in (4 * step, 4 * step * math.sqrt(2))
        ]
        for y, x, (w, h) in itertools.product(range(cells), range(cells), boxes):
            rows.append((first + x * step, first + y * step, w, h))
    np.testing.assert_allclose(pixels(options), np.array(rows), atol=1e-3)
    assert (options.mean, options.std) == ((123.68, 116.779, 103.939), (1.0,))


PROTOTXT = """\
name: "small"
input: "data"
input_shape { dim: 1 dim: 3 dim: 90 dim: 150 }
layer { name: "c1" type: "Convolution" bottom: "data" top: "c1" convolution_param { kernel_size: 3 pad: 1 stride: 2 } }
layer { name: "p1" type: "Pooling" bottom: "c1" top: "p1" pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "r1" type: "ReLU" bottom: "p1" top: "p1" }
layer { name: "c2" type: "Convolution" bottom: "p1" top: "c2" convolution_param { kernel_h: 3 kernel_w: 1 stride: 2 } }
layer {
  name: "b2" type: "PriorBox" bottom: "c2" bottom: "data" top: "b2"
  prior_box_param { min_size: 40 max_size: 70 aspect_ratio: 2 aspect_ratio: 3 aspect_ratio: 0.5 CLIP
    variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 offset: 0.25 }
}
layer {
  name: "b1" type: "PriorBox" bottom: "p1" bottom: "data" top: "b1"
  prior_box_param { min_size: 10 min_size: 20 aspect_ratio: 2 flip: false CLIP step: 4
    variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 }
}
layer { name: "all" type: "Concat" bottom: "b1" bottom: "b2" top: "all" concat_param { axis: 2 } }
layer {
  name: "out" type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "all" top: "out"
  detection_output_param { num_classes: 3 share_location: true background_label_id: 0 code_type: CENTER_SIZE
    nms_param { nms_threshold: 0.45 top_k: 100 } keep_top_k: 50 confidence_threshold: 0.25 }
}
"""


def caffe_boxes(maps, steps, offset, image, boxes):
    height, width = image
    rows = []
    for y, x, (w, h) in itertools.product(range(maps[0]), range(maps[1]), boxes):
        cx, cy = (x + offset) * steps[1], (y + offset) * steps[0]
        rows.append(
            ((cx - w / 2) / width, (cy - h / 2) / height, (cx + w / 2) / width, (cy + h / 2) / height)
        )
    return np.array(rows)


@pytest.mark.parametrize("clip", [False, True])
def test_caffes_prior_boxes(tmp_path, clip):
    """PriorBox: corners, clipped where asked for. A convolution rounds down, pooling up: 45 x 75, 23 x 38, 11 x 19."""
    options = options_from(
        write(tmp_path, "deploy.prototxt", PROTOTXT.replace("CLIP", "clip: true" if clip else ""))
    )
    root = math.sqrt
    first = [box for s in (10, 20) for box in ((s, s), (s * root(2), s / root(2)))]
    second = [(40, 40), (root(40 * 70),) * 2]
    second += [(40 * root(r), 40 / root(r)) for r in (2, 1 / 2, 3, 1 / 3)]  # 0.5 is there already
    expected = np.concatenate(
        [
            caffe_boxes((23, 38), (4, 4), 0.5, (90, 150), first),
            caffe_boxes((11, 19), (90 / 11, 150 / 19), 0.25, (90, 150), second),
        ]
    )
    if clip:
        expected = expected.clip(0, 1)
    priors = make_priors(example_spec(height=90, width=150, priors=options.priors)).astype(np.float64)
    corners = np.concatenate([priors[:, :2] - priors[:, 2:] / 2, priors[:, :2] + priors[:, 2:] / 2], axis=1)
    scale = (150, 90, 150, 90)
    np.testing.assert_allclose(corners * scale, expected * scale, atol=1e-3)
    assert (options.size, options.variance, options.color) == ((90, 150), (0.1, 0.2), "bgr")
    assert (options.iou_threshold, options.score_threshold, options.background) == (0.45, 0.25, 0)
    assert (options.top_k, options.max_detections) == (100, 50)


MMDET = """\
_base_ = ['../base.py', './schedule.py']
import torch
side = 300
model = dict(
    bbox_head=dict(
        num_classes=20,
        anchor_generator=dict(
            _delete_=True, type='SSDAnchorGenerator', SCALE input_size=side,
            strides=[8, 16, 32, 64, 100, 300], ratios=[[2], [2, 3], [2, 3], [2, 3], [2], [2]], RANGE)))
classes = ('cat', 'dog')
made = torch.save(side, 'out')
"""
BASE = """\
model = dict(
    data_preprocessor=dict(type='DetDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[1, 1, 1], bgr_to_rgb=True),
    bbox_head=dict(
        anchor_generator=dict(type='SSDAnchorGenerator', min_sizes=[1]),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_means=[.0, .0, .0, .0], target_stds=[0.1, 0.1, 0.2, 0.2])),
    test_cfg=dict(nms=dict(type='nms', iou_threshold=0.45), score_thr=0.02, max_per_img=200))
"""


def mmdet_options(tmp_path, span, scale):
    (tmp_path / "ssd").mkdir()
    write(tmp_path, "base.py", BASE)
    content = MMDET.replace("RANGE", f"basesize_ratio_range=({span[0]}, {span[1]})").replace("SCALE", scale)
    return options_from(write(tmp_path / "ssd", "ssd300.py", content))


@pytest.mark.parametrize(("span", "before"), [((0.15, 0.9), 7), ((0.2, 0.9), 10)])
def test_mmdetections_anchors(tmp_path, span, before):
    """min_sizes in steps of whole per cents, cut to pixels; ratios are h / w, 1/r before r; centers at half a step."""
    options = mmdet_options(tmp_path, span, "scale_major=False,")
    first, last = int(span[0] * 100), int(span[1] * 100)
    apart = int(math.floor(last - first) / 4)
    sides = [int(300 * before / 100)] + [int(300 * p / 100) for p in range(first, last + apart + 1, apart)]
    rows = []
    for k, (step, cells) in enumerate(zip((8, 16, 32, 64, 100, 300), (38, 19, 10, 5, 3, 1))):
        base, larger = sides[k], sides[k + 1]
        hw = [1.0, *((1 / 2, 2) if k in (0, 4, 5) else (1 / 2, 2, 1 / 3, 3))]
        boxes = [(base / math.sqrt(r), base * math.sqrt(r)) for r in hw]
        boxes.insert(1, (base * math.sqrt(larger / base),) * 2)
        for y, x, (w, h) in itertools.product(range(cells), range(cells), boxes):
            rows.append((x * step + step / 2, y * step + step / 2, w, h))
    np.testing.assert_allclose(pixels(options), np.array(rows), atol=1e-3)


def test_the_rest_of_mmdetections_configuration(tmp_path):
    options = mmdet_options(tmp_path, (0.15, 0.9), "scale_major=False,")
    assert (options.color, options.mean, options.std) == ("rgb", (123.675, 116.28, 103.53), (1, 1, 1))
    assert (options.background, options.variance, options.classes) == (20, (0.1, 0.2), ("cat", "dog"))
    assert (options.score_threshold, options.iou_threshold, options.max_detections) == (0.02, 0.45, 200)
    assert not (tmp_path / "out").exists()


def test_a_spec_gives_all_but_its_names(tmp_path):
    spec = example_spec(mean=(1, 2, 3), background_index=2)
    spec.save(tmp_path / "other.json")
    options = options_from(tmp_path / "other.json")
    assert (options.priors, options.mean, options.background) == (spec.priors, (1, 2, 3), 2)
    assert options.classes == ("cat", "dog")


def test_options_go_before_the_file():
    from_file = DraftOptions(mean=(1.0,), std=(2.0,), priors=PriorSpec(file="a.npy"))
    options = DraftOptions(mean=(0.0,), levels=("8:4",)).over(from_file)
    assert (options.mean, options.std, options.levels, options.priors) == ((0.0,), (2.0,), ("8:4",), None)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("pipeline.config", "model { faster_rcnn { } }", "expected ssd"),
        ("pipeline.config", PIPELINE.replace("MORE", "scales: 0.5"), "scales: expected 4"),
        ("pipeline.config", PIPELINE.replace("MORE", "min_scale: much"), "min_scale: expected a number"),
        (
            "pipeline.config",
            PIPELINE.replace("MORE", "num_layers: 999999999"),
            "num_layers: expected 1 to 20",
        ),
        (
            "deploy.prototxt",
            PROTOTXT.replace("CLIP", "").replace("CENTER_SIZE", "CORNER"),
            "expected CENTER_SIZE, got CORNER",
        ),
        (
            "deploy.prototxt",
            PROTOTXT.replace("CLIP", "").replace("dim: 90", "dim: 0"),
            "height and width of the input",
        ),
        ("deploy.prototxt", "layer { type: 'ReLU' }", "expected layers of type PriorBox"),
        ("ssd.py", "model = dict(bbox_head=1)", "expected SSDAnchorGenerator"),
        ("ssd.py", "model = (", "not Python"),
        ("ssd.py", "_base_ = 'ssd.py'", "at most 20 files"),
        ("ssd.py", "a = [1, 1]\n" + "a = [a, a]\n" * 60, "at most 100000 values"),
        ("ssd.py", "model = " + "(" * 5000, "not Python"),
        ("ssd.py", "#" * (1 << 21), "bytes, more than"),
        (
            "pipeline.config",
            PIPELINE.replace("MORE", "max_scale: inf"),
            "max_scale: expected a number, got 'inf'",
        ),
        (
            "pipeline.config",
            PIPELINE.replace("MORE", "").replace("height: 300", "height: nan"),
            "height: expected a number, got 'nan'",
        ),
        ("deploy.prototxt", "# a" * 5000 + "\n$", "line 2: not protobuf's text format"),
        ("a.txt", "a: 1", "expected TensorFlow's pipeline.config"),
        ("a.txt", "}", "not protobuf's text format"),
    ],
)
def test_a_file_that_does_not_fit_is_named(tmp_path, name, content, message):
    path = write(tmp_path, name, content)
    with pytest.raises(ValueError, match=message) as caught:
        options_from(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
