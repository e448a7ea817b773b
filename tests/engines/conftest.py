"""A stand-in for CuPy, for engines whose modules import it."""

from __future__ import annotations

import importlib
import sys

import pytest

from tests.engines.fake_cupy import fake_cupy


@pytest.fixture
def cupy(monkeypatch):
    """The stand-in, as `cupy`; modules that import it are imported anew."""
    module = fake_cupy()
    monkeypatch.setitem(sys.modules, "cupy", module)
    for name in ("cuda", "tensorrt_engine", "torch_cuda_engine"):
        monkeypatch.delitem(sys.modules, f"edge_ssd.engines.{name}", raising=False)
    yield module
    for name in ("cuda", "tensorrt_engine", "torch_cuda_engine"):
        sys.modules.pop(f"edge_ssd.engines.{name}", None)


@pytest.fixture
def engines(cupy):
    """engines(name) -> the module of that name, on the stand-in."""
    return lambda name: importlib.import_module(f"edge_ssd.engines.{name}")


@pytest.fixture
def path(tmp_path):
    """A checkpoint of a small network with random weights."""
    import torch

    from edge_ssd.networks import build_model
    from edge_ssd.networks.checkpoint import save_checkpoint

    torch.manual_seed(0)
    model = build_model("ssd320_resnet16", 3, input_size=96)
    path = tmp_path / "best.pt"
    save_checkpoint(path, model, model.spec(["a", "b"]))
    return path
