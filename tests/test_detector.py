"""Detector: what loading refuses, in one line, and what a user may change."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from edge_ssd import Detector, Frame
from edge_ssd.options import UnknownClass
from tests.onnx_graphs import save_planted_model
from tests.specs import grid_spec

IMAGE = np.zeros((100, 100, 3), np.uint8)
# What other engines say and compute is tested beside them.
NAMED = {"engine": "onnxruntime", "precision": "fp32"}
ZEROS = np.zeros((2, 4), np.float32)
SCORES = [[0.0, 0.9, 0.3], [0.0, 0.2, 0.6]]


@pytest.fixture
def model(tmp_path):
    """Two priors, ready-made scores: cat 0.9, dog 0.6 and two weaker ones."""
    return save_planted_model(tmp_path, ZEROS, SCORES, grid_spec(1, 2, score_activation="none"))


def _edit_spec(model, **changes):
    path = model.with_suffix(".json")
    data = json.loads(path.read_text())
    data.update(changes)
    path.write_text(json.dumps(data))


def _refused(error, match, path):
    with pytest.raises(error, match=match) as caught:
        Detector.load(path, **NAMED)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_thresholds_default_to_one_half_and_none_takes_the_specs(model):
    assert len(Detector.load(model, **NAMED).detect(IMAGE)) == 2
    assert len(Detector.load(model, **NAMED, score_threshold=None).detect(IMAGE)) == 4
    assert len(Detector.load(model, **NAMED, score_threshold=None, max_detections=3).detect(IMAGE)) == 3
    assert Detector.load(model, **NAMED, iou_threshold=0.2).spec.postprocess.iou_threshold == 0.2


def test_only_the_classes_asked_for(model):
    detections = Detector.load(
        model, **NAMED, score_threshold=None, classes=["dog"], max_detections=1
    ).detect(IMAGE)
    assert detections.labels.tolist() == [1]
    assert np.isclose(detections.scores[0], 0.6)


def test_every_class_of_a_repeated_name_is_looked_for(tmp_path):
    spec = grid_spec(1, 2, score_activation="none", class_names=("cat", "cat"))
    detector = Detector.load(save_planted_model(tmp_path, ZEROS, SCORES, spec), classes=["cat"], **NAMED)
    assert detector.detect(IMAGE).labels.tolist() == [0, 1]


def test_an_unknown_class_is_refused_with_the_known_ones(model):
    with pytest.raises(UnknownClass, match="no 'bird'; it has cat, dog"):
        Detector.load(model, **NAMED, classes=["cat", "bird"])


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan")])
def test_a_threshold_out_of_range_is_named(model, threshold):
    with pytest.raises(ValueError, match="score_threshold"):
        Detector.load(model, **NAMED, score_threshold=threshold)


def test_missing_model_and_missing_spec(model):
    _refused(FileNotFoundError, "nothing.onnx: no such model file", model.with_name("nothing.onnx"))
    model.with_suffix(".json").unlink()
    message = _refused(FileNotFoundError, "no spec beside example.onnx", model)
    assert "edge-ssd spec" in message


def test_an_unknown_kind_of_model_is_refused(tmp_path):
    (tmp_path / "model.tflite").write_bytes(b"x")
    _refused(ValueError, "expected a model file ending in", tmp_path / "model.tflite")


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.98])
def test_a_truncated_model_is_refused_by_name(model, keep):
    data = model.read_bytes()
    model.write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])
    _refused(ValueError, "example.onnx: ONNX Runtime cannot load this model", model)


def test_a_file_that_is_no_model_is_refused(model):
    model.write_text("not a model at all\n" * 20)
    _refused(ValueError, "ONNX Runtime cannot load this model", model)


def test_an_error_in_the_spec_names_file_and_key(model):
    _edit_spec(model, colour="rgb")
    _refused(ValueError, r"example\.json: colour: unknown key", model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": ["cat"]}, r"'conf' is \(1, 2, 3\).*1 class_names \+ background.*has 3 columns"),
        (
            {"background_index": None},
            "2 class_names, .*has 3 columns: correct class_names or background_index",
        ),
        (
            {"outputs": {"loc": "boxes", "conf": "conf"}},
            "outputs.loc is 'boxes', the model has 'loc', 'conf'",
        ),
        ({"outputs": {"loc": "conf", "conf": "loc"}}, "output 'conf' is"),
    ],
)
def test_a_spec_that_does_not_fit_the_model_says_what_to_correct(model, changes, message):
    _edit_spec(model, **changes)
    _refused(ValueError, message, model)


def test_a_prior_count_that_does_not_fit_is_explained(tmp_path):
    spec = grid_spec(1, 3, score_activation="none")
    path = save_planted_model(tmp_path, ZEROS, SCORES, spec)
    _refused(ValueError, "the spec has 3 priors .*The model has 2 priors: compare `priors`", path)


def test_transposed_heads_are_recognised(tmp_path):
    spec = grid_spec(1, 5, score_activation="none")
    path = save_planted_model(tmp_path, np.zeros((4, 5)), np.zeros((3, 5)), spec)
    _refused(ValueError, "It is transposed", path)


def test_an_input_of_another_size_or_name_is_named(tmp_path, model):
    data = json.loads(model.with_suffix(".json").read_text())
    _edit_spec(model, input={**data["input"], "width": 200})
    _refused(ValueError, r"input 'image' is .*the spec says \(B, 3, 100, 200\)", model)
    _edit_spec(model, input={**data["input"], "name": "data"})
    _refused(ValueError, "input.name is 'data', the model has 'image'", model)


@pytest.mark.parametrize(("head", "name"), [("loc", "loc"), ("conf", "conf")])
def test_nan_in_an_output_is_an_error_that_names_it(tmp_path, head, name):
    heads = {"loc": ZEROS.copy(), "conf": np.array(SCORES, np.float32)}
    heads[head][1, 2] = np.nan
    path = save_planted_model(tmp_path, spec=grid_spec(1, 2, score_activation="none"), **heads)
    with pytest.raises(ValueError, match=rf"output '{name}' holds NaN or Inf for 1 of 2 priors \(here.jpg\)"):
        Detector.load(path, **NAMED).detect(Frame(IMAGE, source="here.jpg"))


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (np.zeros((10, 10), np.uint8), ValueError, "mono8"),
        (np.zeros((10, 10, 3), np.uint16), ValueError, "expected uint8, got uint16"),
        (SimpleNamespace(__array_interface__={}), ValueError, r"got types\.SimpleNamespace; of a PIL image"),
        (np.zeros((0, 10, 3), np.uint8), ValueError, "at least one pixel"),
        ("image.jpg", TypeError, "expected a Frame"),
        (None, TypeError, "expected a Frame"),
    ],
)
def test_what_is_no_image_is_refused(model, image, error, message):
    with pytest.raises(error, match=message):
        Detector.load(model, **NAMED).detect(image)


def test_stage_times_are_kept_for_the_latest_call(model):
    detector = Detector.load(model, **NAMED)
    detector.detect(IMAGE)
    assert set(detector.timing_ms) == {"preprocess", "infer", "postprocess"}
    assert all(ms > 0 for ms in detector.timing_ms.values())
    detector.detect_batch([IMAGE] * 3)
    assert all(ms > 0 for ms in detector.timing_ms.values())


def test_one_class_name_that_is_no_list_is_refused(model):
    with pytest.raises(TypeError, match="classes: expected names in a list, got the text 'cat'"):
        Detector.load(model, **NAMED, classes="cat")


@pytest.mark.parametrize("threads", [-1, 5_000_000_000])
def test_a_number_of_threads_that_cannot_be_is_refused(model, threads):
    with pytest.raises(ValueError, match="threads: expected 0 to 1024"):
        Detector.load(model, **NAMED, threads=threads)


def test_a_closed_detector_says_so(model):
    with Detector.load(model, **NAMED) as detector:
        pass
    with pytest.raises(ValueError, match="closed"):
        detector.detect(IMAGE)


def test_a_network_that_fails_when_it_runs_is_one_line(model):
    graph = onnx.load(model)
    # Reshapes the planted heads into a size that does not fit, which only shows when it runs.
    for constant in graph.graph.initializer:
        if constant.name == "loc_shape":
            constant.CopyFrom(onnx.numpy_helper.from_array(np.array([0, 7, 4]), "loc_shape"))
    for output in graph.graph.output:
        output.type.tensor_type.ClearField("shape")
    onnx.save(graph, model)
    _refused(ValueError, r"example\.onnx: (the network fails in|ONNX Runtime cannot load)", model)
