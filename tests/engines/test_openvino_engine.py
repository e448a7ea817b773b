"""OpenVINO beside ONNX Runtime on the same files, and which of the two runs a file."""

from __future__ import annotations

import sys

import numpy as np
import pytest

pytest.importorskip("openvino")

from edge_ssd import Detector, backends, open_source
from edge_ssd.backends import fastest_cpu_engine
from edge_ssd.engines import openvino_engine
from edge_ssd.engines.onnxruntime_engine import OnnxRuntimeEngine
from edge_ssd.engines.openvino_engine import BF16, OpenVinoEngine
from edge_ssd.run import DEMO_MODEL
from edge_ssd.spec import SsdSpec
from tests.onnx_graphs import save_planted_model
from tests.specs import grid_spec


@pytest.fixture
def spec():
    return grid_spec(2, 2)


def planted(folder, spec, **options):
    rng = np.random.default_rng(0)
    loc, conf = rng.normal(size=(4, 4)), rng.normal(size=(4, 3))
    return save_planted_model(folder, loc, conf, spec, brightness=0.01, **options)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("batch", ["batch", 3])
def test_it_gives_what_onnx_runtime_gives(tmp_path, spec, rng, dtype, batch):
    path = planted(tmp_path, spec, dtype=dtype, batch=batch)
    engine, other = OpenVinoEngine(path, spec, threads=1), OnnxRuntimeEngine(path, spec, threads=1)
    assert (engine.input_dtype, engine.max_batch) == (other.input_dtype, other.max_batch)
    for count in (1, 3, 2):
        images = rng.normal(size=(count, 3, 100, 100)).astype(dtype)
        for ours, theirs in zip(engine.infer(images), other.infer(images)):
            assert ours.shape == theirs.shape
            np.testing.assert_allclose(ours, theirs, atol=2e-3 if dtype is np.float16 else 1e-5)


def test_the_demo_model_finds_the_same():
    frames = list(open_source("demo://?seed=7&frames=3"))
    first, second = (Detector.load(DEMO_MODEL, engine=name) for name in ("onnxruntime", "openvino"))
    assert "OpenVINO" in second.description
    for one, other in zip(first.detect_batch(frames), second.detect_batch(frames)):
        assert len(one) > 0
        assert one.labels.tolist() == other.labels.tolist()
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)
        np.testing.assert_allclose(one.boxes, other.boxes, atol=0.05)


class TestWhatDoesNotFit:
    """One line that names the file and what to do, as ONNX Runtime's engine says it."""

    def test_more_images_than_it_takes(self, tmp_path, spec):
        engine = OpenVinoEngine(planted(tmp_path, spec, batch=2), spec, threads=1)
        with pytest.raises(ValueError, match="batch: this model takes 2 images at a time, got 3"):
            engine.infer(np.zeros((3, 3, 100, 100), np.float32))

    def test_a_file_that_is_none_or_cut_off(self, tmp_path, spec, capfd):
        path = tmp_path / "broken.onnx"
        path.write_bytes(DEMO_MODEL.read_bytes()[:50000])
        with pytest.raises(ValueError, match=r"OpenVINO cannot load this model .* Is the file complete"):
            OpenVinoEngine(path, spec)
        assert capfd.readouterr().err == ""
        with pytest.raises(FileNotFoundError, match="no such model file"):
            OpenVinoEngine(tmp_path / "missing.onnx", spec)

    def test_names_of_the_spec_that_it_does_not_have(self, spec):
        with pytest.raises(ValueError, match=r"the spec's input\.name is"):
            OpenVinoEngine(
                DEMO_MODEL,
                grid_spec(2, 2, input=spec.input.__class__("x", 100, 100, "rgb", (0,) * 3, (1,) * 3)),
            )

    def test_bf16_on_a_cpu_without_it(self, spec, monkeypatch):
        monkeypatch.setattr(openvino_engine, "has_bf16", lambda: False)
        with pytest.raises(ValueError, match="this CPU has no BF16 instructions; take 'openvino'"):
            OpenVinoEngine(DEMO_MODEL, SsdSpec.load(DEMO_MODEL.with_suffix(".json")), precision=BF16)

    def test_a_closed_engine(self, tmp_path, spec):
        engine = OpenVinoEngine(planted(tmp_path, spec), spec, threads=1)
        engine.close()
        with pytest.raises(ValueError, match="the engine is closed"):
            engine.infer(np.zeros((1, 3, 100, 100), np.float32))

    def test_an_engine_that_nobody_knows(self):
        with pytest.raises(ValueError, match="engine: expected one of auto, onnxruntime, openvino"):
            Detector.load(DEMO_MODEL, engine="tvm")


@pytest.mark.parametrize(
    ("name", "bf16", "installed", "chosen"),
    [
        ("m.onnx", False, {"onnxruntime", "openvino"}, "onnxruntime"),
        ("m.onnx", True, {"onnxruntime", "openvino"}, "openvino-bf16"),
        ("m.onnx", True, {"onnxruntime"}, "onnxruntime"),
        ("m.onnx", False, {"openvino"}, "openvino"),
        ("m.int8.onnx", False, {"onnxruntime", "openvino"}, "openvino"),
        ("m.int8.onnx", True, {"onnxruntime", "openvino"}, "openvino-bf16"),
        ("m.int8-cpu.onnx", True, {"onnxruntime", "openvino"}, "onnxruntime"),
        ("m.int8-cpu.onnx", False, {"openvino"}, "openvino"),
    ],
)
def test_the_fastest_is_chosen_by_file_and_cpu(monkeypatch, name, bf16, installed, chosen):
    monkeypatch.setattr(openvino_engine, "has_bf16", lambda: bf16)
    monkeypatch.setattr(backends, "find_spec", lambda package: package in installed)
    assert fastest_cpu_engine(name) == chosen


def test_an_openvino_that_cannot_be_imported_is_said_and_left_out(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "edge_ssd.engines.openvino_engine", None)
    assert fastest_cpu_engine("m.onnx") == "onnxruntime"
    assert "OpenVINO is installed and cannot be used" in caplog.text
