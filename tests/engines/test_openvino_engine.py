"""OpenVINO beside ONNX Runtime on the same files, and which of the two runs a file."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("openvino")

from edge_ssd import Detector, open_source
from edge_ssd.engines.layout import interleaved_batch
from edge_ssd.engines.onnxruntime_engine import OnnxRuntimeEngine
from edge_ssd.engines.openvino_engine import OpenVinoEngine, cpu_has_bf16
from edge_ssd.models import DEMO_MODEL, model_path
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


@pytest.mark.parametrize("color", ["rgb", "bgr"])  # the order of the first axis: blue lies first in both
def test_interleaved_batch_gives_what_a_planar_one_does(rng, color):
    spec = SsdSpec.load(model_path(DEMO_MODEL).with_suffix(".json"))
    engine = OpenVinoEngine(model_path(DEMO_MODEL), spec, threads=1)
    assert engine.interleaved
    for count in (1, 2):
        planar = rng.normal(size=(count, 3, *spec.input.size)).astype(np.float32)
        batch = interleaved_batch(count, spec.input.size, color)
        batch[:] = planar
        expected = [values.copy() for values in engine.infer(planar)]
        for ours, wanted in zip(engine.infer(batch), expected):
            np.testing.assert_allclose(ours, wanted, atol=1e-4)


def test_the_demo_model_finds_the_same():
    frames = list(open_source("demo://?seed=7&frames=3"))
    first, second = (
        Detector.load(DEMO_MODEL, engine=name, precision="fp32") for name in ("onnxruntime", "openvino")
    )
    assert "OpenVINO" in second.description
    for one, other in zip(first.detect_batch(frames), second.detect_batch(frames)):
        assert len(one) > 0
        assert one.labels.tolist() == other.labels.tolist()
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)
        np.testing.assert_allclose(one.boxes, other.boxes, atol=0.05)


@pytest.mark.skipif(not cpu_has_bf16(), reason="this CPU has no BF16 instructions")
def test_bf16_finds_nearly_the_same(monkeypatch):
    """Sure scores were up to 6e-4 off, boxes 0.4 pixels; FP32 in another engine 1e-4 and 0.05."""
    monkeypatch.delenv("EDGE_SSD_ASSUME_BF16", raising=False)
    frames = list(open_source("demo://?seed=7&frames=8"))
    exact, rounded = (
        Detector.load(DEMO_MODEL, engine="openvino", precision=precision) for precision in ("fp32", "bf16")
    )
    assert (exact.precision, rounded.precision) == ("fp32", "bf16")
    largest = 0
    for one, other in zip(exact.detect_batch(frames), rounded.detect_batch(frames)):
        for box, score, label in one[one.scores > 0.6]:
            same = other[other.labels == label]
            nearest = np.abs(same.boxes - box).max(axis=1).argmin()
            np.testing.assert_allclose(same.boxes[nearest], box, atol=2)
            assert abs(same.scores[nearest] - score) < 0.01
            largest = max(largest, abs(same.scores[nearest] - score))
    assert largest > 1e-4  # it was BF16


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
        monkeypatch.setenv("EDGE_SSD_ASSUME_BF16", "0")
        with pytest.raises(ValueError, match="this CPU has no BF16 instructions; take --precision fp32"):
            OpenVinoEngine(DEMO_MODEL, SsdSpec.load(DEMO_MODEL.with_suffix(".json")), precision="bf16")

    def test_a_closed_engine(self, tmp_path, spec):
        engine = OpenVinoEngine(planted(tmp_path, spec), spec, threads=1)
        engine.close()
        with pytest.raises(ValueError, match="the engine is closed"):
            engine.infer(np.zeros((1, 3, 100, 100), np.float32))

    def test_an_engine_that_nobody_knows(self):
        with pytest.raises(ValueError, match="engine: expected one of auto, onnxruntime, openvino"):
            Detector.load(DEMO_MODEL, engine="tvm")
