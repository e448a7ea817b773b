"""A training checkpoint as a detector."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from edge_ssd.detector import Detector  # noqa: E402
from edge_ssd.engines.torch_engine import TorchEngine  # noqa: E402
from edge_ssd.networks import build_model  # noqa: E402
from edge_ssd.networks.checkpoint import save_checkpoint  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build_model("ssd320_resnet16", 3, input_size=96)


@pytest.fixture
def path(model, tmp_path):
    path = tmp_path / "best.pt"
    save_checkpoint(path, model, model.spec(["a", "b"]))
    return path


def test_engine_gives_what_the_network_gives(model, path):
    engine, spec = TorchEngine.open(path)
    batch = np.random.default_rng(0).normal(size=(2, 3, *spec.input.size)).astype(np.float32)
    with torch.inference_mode():
        loc, conf = model.eval()(torch.from_numpy(batch))
    found = engine.infer(batch)
    assert spec == model.spec(["a", "b"])
    assert all(output.dtype == np.float32 for output in found)
    np.testing.assert_allclose(found[0], loc, atol=1e-5)
    np.testing.assert_allclose(found[1], conf, atol=1e-5)


def test_engine_does_not_change_its_input(path):
    engine, _ = TorchEngine.open(path)
    batch = np.ones((1, 3, 96, 96), np.float32)
    engine.infer(batch)
    assert (batch == 1).all()


def test_detector_loads_a_checkpoint(path):
    with Detector.load(path, score_threshold=0.0) as detector:
        detections = detector.detect(np.zeros((50, 70, 3), np.uint8))
    assert detector.class_names == ("a", "b")
    assert "torch" in detector.description
    assert len(detections) > 0
    assert detections.image_size == (50, 70)


def test_threads_are_torchs(path):
    before = torch.get_num_threads()
    try:
        TorchEngine.open(path, threads=1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
