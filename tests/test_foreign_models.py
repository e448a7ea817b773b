"""SSDs from elsewhere run by writing a spec: planted heads in every form, detections worked out by hand.

All have a 100 x 100 input, and two priors of 20 pixels with their centres at (25, 50) and (75, 50).
"""

from __future__ import annotations

import numpy as np
import pytest

from edge_ssd import Detector, Frame
from edge_ssd.spec import OutputSpec, PriorSpec
from tests.onnx_graphs import add_extra_output, list_weights_as_inputs, save_planted_model
from tests.specs import grid_spec

IMAGE = np.zeros((200, 400, 3), np.uint8)  # one input pixel is four source pixels wide and two high
LEFT, RIGHT = [60, 80, 140, 120], [260, 80, 340, 120]
ZEROS = np.zeros((2, 4), np.float32)
LOGITS = [[0.0, 3.0, 0.0], [5.0, 0.0, 0.0]]  # background first: prior 0 is a cat, prior 1 is nothing
E3 = float(np.exp(3))


def _detect(path, image=IMAGE, **options):
    with Detector.load(path, **options) as detector:
        detections = detector.detect(image)
        return detections, [detector.class_names[label] for label in detections.labels]


def _check(path, boxes, scores, names, image=IMAGE):
    detections, found = _detect(path, image)
    assert np.allclose(detections.boxes, boxes, atol=1e-3)
    assert np.allclose(detections.scores, scores, atol=1e-6)
    assert found == names


def test_softmax_with_background_first(tmp_path):
    path = save_planted_model(tmp_path, ZEROS, LOGITS, grid_spec(1, 2))
    _check(path, [LEFT], [E3 / (E3 + 2)], ["cat"])


def test_softmax_with_background_last(tmp_path):
    conf = [[3.0, 0.0, 0.0], [0.0, 0.0, 5.0]]
    path = save_planted_model(tmp_path, ZEROS, conf, grid_spec(1, 2, background_index=2))
    _check(path, [LEFT], [E3 / (E3 + 2)], ["cat"])


def test_softmax_without_background(tmp_path):
    conf = [[3.0, 0.0], [0.0, 3.0]]
    path = save_planted_model(tmp_path, ZEROS, conf, grid_spec(1, 2, background_index=None))
    _check(path, [LEFT, RIGHT], [E3 / (E3 + 1)] * 2, ["cat", "dog"])


def test_sigmoid_without_background(tmp_path):
    conf = [[2.0, 1.0], [-1.0, -2.0]]
    path = save_planted_model(
        tmp_path, ZEROS, conf, grid_spec(1, 2, background_index=None, score_activation="sigmoid")
    )
    _check(path, [LEFT, LEFT], [1 / (1 + np.exp(-2)), 1 / (1 + np.exp(-1))], ["cat", "dog"])


def test_sigmoid_with_a_background_column_as_tensorflow_has_it(tmp_path):
    conf = [[9.0, 2.0, -3.0], [9.0, -1.0, -2.0]]
    path = save_planted_model(tmp_path, ZEROS, conf, grid_spec(1, 2, score_activation="sigmoid"))
    _check(path, [LEFT], [1 / (1 + np.exp(-2))], ["cat"])


def test_ready_made_probabilities(tmp_path):
    conf = [[0.1, 0.2, 0.7], [0.3, 0.6, 0.1]]
    path = save_planted_model(tmp_path, ZEROS, conf, grid_spec(1, 2, score_activation="none"))
    _check(path, [LEFT, RIGHT], [0.7, 0.6], ["dog", "cat"])


def test_tensorflow_box_order(tmp_path):
    loc = ZEROS.copy()
    loc[0] = 5, 0, 0, np.log(2) / 0.2  # ty tx th tw: 10 input pixels down, twice as wide
    path = save_planted_model(tmp_path, loc, LOGITS, grid_spec(1, 2, loc_order="cycxhw"))
    _check(path, [[20, 100, 180, 140]], [E3 / (E3 + 2)], ["cat"])


def test_letterbox(tmp_path):
    # 400 x 200 fits as 100 x 50 with 25 rows above: four source pixels per input pixel both ways.
    path = save_planted_model(tmp_path, ZEROS, LOGITS, grid_spec(1, 2, resize="letterbox"))
    _check(path, [[60, 60, 140, 140]], [E3 / (E3 + 2)], ["cat"])


def test_priors_from_a_file(tmp_path):
    np.save(tmp_path / "example.priors.npy", np.array([[0.5, 0.5, 1, 1], [0.1, 0.1, 0.1, 0.1]], np.float32))
    spec = grid_spec(1, 2, priors=PriorSpec(file="example.priors.npy"))
    path = save_planted_model(tmp_path, ZEROS, LOGITS, spec)
    _check(path, [[0, 0, 400, 200]], [E3 / (E3 + 2)], ["cat"])


@pytest.mark.parametrize(
    "shapes", [((8,), (6,)), ((2, 1, 4), (2, 1, 3)), ((1, 2, 4), (1, 1, 6)), ((2, 4, 1), (2, 3))]
)
def test_flattened_outputs_and_dimensions_of_one(tmp_path, shapes):
    path = save_planted_model(tmp_path, ZEROS, LOGITS, grid_spec(1, 2), shapes=shapes)
    _check(path, [LEFT], [E3 / (E3 + 2)], ["cat"])


def test_outputs_of_any_name_beside_others(tmp_path):
    spec = grid_spec(1, 2, outputs=OutputSpec("StatefulPartitionedCall:1", "raw/класс"))
    path = save_planted_model(tmp_path, ZEROS, LOGITS, spec)
    add_extra_output(path)
    _check(path, [LEFT], [E3 / (E3 + 2)], ["cat"])


def test_weights_listed_among_the_inputs(tmp_path):
    path = save_planted_model(tmp_path, ZEROS, LOGITS, grid_spec(1, 2))
    list_weights_as_inputs(path)
    _check(path, [LEFT], [E3 / (E3 + 2)], ["cat"])


def test_float16_input_and_outputs(tmp_path):
    path = save_planted_model(tmp_path, ZEROS, LOGITS, grid_spec(1, 2), dtype=np.float16)
    _check(path, [LEFT], [E3 / (E3 + 2)], ["cat"])


def test_a_single_class_and_a_single_prior(tmp_path):
    spec = grid_spec(1, 1, class_names=("face",), background_index=None, score_activation="none")
    for shapes in (((1, 4), (1, 1)), ((4,), (1,)), ((4,), ())):
        path = save_planted_model(tmp_path, ZEROS[:1], [[0.9]], spec, shapes=shapes)
        _check(path, [[160, 80, 240, 120]], [0.9], ["face"])


@pytest.mark.parametrize("batch", ["batch", 1, 3])
def test_dynamic_and_fixed_batches(tmp_path, batch):
    # The score grows with the image's brightness, so that mixed-up images would show.
    spec = grid_spec(1, 2, score_activation="none", mean=(0, 0, 0), std=(255, 255, 255))
    path = save_planted_model(tmp_path, ZEROS, [[0, 0.1, 0], [0, 0, 0]], spec, batch=batch, brightness=0.5)
    images = [np.full((10 + i, 20, 3), level, np.uint8) for i, level in enumerate((0, 51, 102, 153, 255))]
    expected = [0.1 + 0.5 * level for level in (0, 0.2, 0.4, 0.6, 1)]
    with Detector.load(path, score_threshold=0.05, classes=["cat"]) as detector:
        together = detector.detect_batch(images)
        one_by_one = [detector.detect(image) for image in images]
        assert detector.detect_batch([]) == []
    for results in (together, one_by_one):
        assert np.allclose([r.scores[0] for r in results], expected, atol=1e-3)
        assert [r.image_size for r in results] == [image.shape[:2] for image in images]


@pytest.mark.parametrize(
    ("pixel_format", "shape"), [("mono8", (200, 400)), ("nv12", (300, 400)), ("rgba8", (200, 400, 4))]
)
def test_frames_of_other_pixel_formats(tmp_path, pixel_format, shape):
    path = save_planted_model(tmp_path, ZEROS, LOGITS, grid_spec(1, 2))
    frame = Frame(np.zeros(shape, np.uint8), pixel_format, timestamp_ns=5)
    detections, names = _detect(path, frame)
    assert np.allclose(detections.boxes, [LEFT], atol=1e-3)
    assert names == ["cat"]
    assert detections.timestamp_ns == 5


def test_channels_reach_the_network_in_the_specs_order(tmp_path):
    # The mean of the input over all channels is the same for rgb and bgr unless one mean differs.
    image = np.zeros((4, 4, 3), np.uint8)
    image[..., 2] = 255  # red in BGR
    scores = {}
    for color in ("rgb", "bgr"):
        spec = grid_spec(
            1,
            2,
            score_activation="none",
            color=color,
            mean=(0, 0, 0),
            std=(255, 510, 1020),
            name=f"m_{color}",
        )
        path = save_planted_model(tmp_path, ZEROS, [[0, 0.5, 0], [0, 0, 0]], spec, brightness=1.0)
        scores[color] = _detect(path, image, score_threshold=0.4, classes=["cat"])[0].scores[0]
    assert np.isclose(scores["rgb"], 0.5 + 1 / 3)
    assert np.isclose(scores["bgr"], 0.5 + 1 / 12)
