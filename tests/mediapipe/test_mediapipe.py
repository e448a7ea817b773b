"""MediaPipe's detectors: sparse tensors, converted operators and default boxes by hand; LiteRT as the measure."""

from __future__ import annotations

import zipfile
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from edge_ssd import Detector, cli, models, reference
from edge_ssd.mediapipe import pull as module
from edge_ssd.mediapipe.detectors import DETECTORS
from edge_ssd.priors import make_priors
from edge_ssd.spec import SsdSpec


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_SSD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize(
    ("name", "count", "first", "last"),
    [
        ("mediapipe-face", 896, 4 / 128, 120 / 128),
        ("mediapipe-face-full", 2304, 2 / 192, 190 / 192),
        ("mediapipe-palm", 2016, 4 / 192, 184 / 192),
        ("mediapipe-person", 2254, 4 / 224, 208 / 224),
    ],
)
def test_default_boxes_are_those_of_fixed_size(name, count, first, last):
    spec = DETECTORS[name].spec(name)
    priors = make_priors(spec)
    assert len(priors) == count
    assert priors[0] == pytest.approx([first, first, 1, 1])
    assert priors[-1] == pytest.approx([last, last, 1, 1])
    assert SsdSpec.from_json(spec.to_json()) == spec


def test_pulled_names_are_those_that_can_be_pulled():
    assert tuple(DETECTORS) == models.PULLED


def test_a_sparse_matrix_becomes_dense():
    tflite_file = pytest.importorskip("edge_ssd.mediapipe.tflite_file", exc_type=ImportError)
    levels = [3, (np.array([0, 1, 1, 3]), np.array([2, 0, 3]))]
    dense = tflite_file.densified(np.array([5, 6, 7]), [3, 4], levels, [0, 1], [])
    assert dense.tolist() == [[0, 0, 5, 0], [0, 0, 0, 0], [6, 0, 0, 7]]


def test_sparse_blocks_become_dense():
    tflite_file = pytest.importorskip("edge_ssd.mediapipe.tflite_file", exc_type=ImportError)
    levels = [2, (np.array([0, 1, 2]), np.array([1, 0])), 2]
    dense = tflite_file.densified(np.array([1, 2, 3, 4]), [2, 4], levels, [0, 1, 2], [1])
    assert dense.tolist() == [[0, 0, 1, 2], [3, 4, 0, 0]]


def test_convolution_and_heads_keep_tflites_order(tmp_path):
    onnx = pytest.importorskip("onnx")
    tflite_file = pytest.importorskip("edge_ssd.mediapipe.tflite_file", exc_type=ImportError)
    from edge_ssd.mediapipe.to_onnx import to_onnx

    options = SimpleNamespace(
        StrideH=lambda: 2,
        StrideW=lambda: 2,
        Padding=lambda: 0,
        DilationHFactor=lambda: 1,
        DilationWFactor=lambda: 1,
        FusedActivationFunction=lambda: 3,
    )
    # One filter of ones, 3 x 3, sums the red channel; SAME with stride 2 on 4 x 4 pads below and to the right alone.
    filters = np.zeros((5, 3, 3, 3), np.float16)
    filters[0, ..., 0] = 1
    shapes = [
        (1, 4, 4, 3),
        (5, 3, 3, 3),
        (5,),
        (1, 2, 2, 5),
        (1, 4, 5),
        (5, 3, 3, 3),
        (1, 2, 2, 5),
        (1, 2, 2, 5),
        (1, 20, 1),
    ]
    graph = tflite_file.TfliteGraph(
        shapes,
        {1: filters, 2: np.arange(5, dtype=np.float32)},
        [
            tflite_file.Operator("DEQUANTIZE", [1], [5], None),
            tflite_file.Operator("CONV_2D", [0, 5, 2], [3], options),
            tflite_file.Operator("RESHAPE", [3], [4], None),
            tflite_file.Operator("RESHAPE", [3], [8], None),
        ],
        [0],
        [4, 8],
    )
    path = tmp_path / "m.onnx"
    onnx.save(to_onnx(graph, "m"), path)
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    image = np.zeros((1, 3, 4, 4), np.float32)
    image[0, 0] = np.arange(16).reshape(4, 4) / 16
    loc, conf = session.run(["loc", "conf"], {"image": image})
    sums = [45, 39, 66, 50]  # of 3 x 3, 3 x 2, 2 x 3 and 2 x 2 pixels: 0 1 2 4 5 6 8 9 10, and so on
    expected = [[min(s / 16, 6), 1, 2, 3, 4] for s in sums]
    assert loc[0] == pytest.approx(np.array(expected))
    assert conf.reshape(-1) == pytest.approx(loc.reshape(-1))


def test_a_model_that_is_not_pulled_yet_says_how(cache):
    with pytest.raises(FileNotFoundError, match="not on this machine yet; edge-ssd pull mediapipe-face"):
        Detector.load("mediapipe-face")


def test_another_wheel_than_the_pinned_one_is_refused(cache, capsys, monkeypatch):
    pytest.importorskip("tflite")

    def other(folder):
        (folder / module.WHEEL).write_bytes(b"another")
        return folder / module.WHEEL

    monkeypatch.setattr(module, "_fetched", other)
    assert cli.main(["pull", "mediapipe-face"]) == 1
    assert f"expected the SHA-256 {module.WHEEL_SHA256}" in capsys.readouterr().err
    assert not list(cache.rglob("*.onnx"))
    assert not list(cache.rglob("*.whl"))


@pytest.mark.full
@pytest.mark.parametrize("name", models.PULLED)
def test_detections_are_litert_s(name, tmp_path_factory, monkeypatch, shared_folder):
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    pytest.importorskip("tflite")
    monkeypatch.setenv("EDGE_SSD_CACHE", str(tmp_path_factory.getbasetemp() / "mediapipe"))
    try:
        path = module.pull_mediapipe(name)
    except OSError as error:
        pytest.skip(str(error))
    with zipfile.ZipFile(module._wheel()) as wheel:
        network = litert.Interpreter(model_content=wheel.read(DETECTORS[name].member))
    network.allocate_tensors()
    outputs = sorted(network.get_output_details(), key=lambda o: -o["shape"][-1])
    detector = Detector.load(name, None, precision="fp32")
    spec, total = detector.spec, 0
    for photo in sorted((shared_folder / "photos").glob("*.jpg"))[:20]:
        image = cv2.imread(str(photo))
        batch, plan = reference.preprocess(image, spec)
        network.set_tensor(
            network.get_input_details()[0]["index"], np.ascontiguousarray(batch.transpose(0, 2, 3, 1))
        )
        network.invoke()
        loc, conf = (network.get_tensor(output["index"])[0] for output in outputs)
        rows, (count, _) = reference.postprocess(loc, conf, make_priors(spec), spec)
        found, expected = detector.detect(image), type(detector.detect(image)).from_rows(rows, count, plan)
        total += len(found)
        assert len(found) == len(expected), photo
        assert found.scores == pytest.approx(expected.scores, abs=0.01)
        assert found.keypoints == pytest.approx(expected.keypoints, abs=1)
        for box, other in zip(found.boxes, expected.boxes):
            inter = np.prod(np.maximum(np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2]), 0))
            union = np.prod(box[2:] - box[:2]) + np.prod(other[2:] - other[:2]) - inter
            assert inter / union >= 0.99
    assert total
    assert path.with_suffix(".md").is_file()
