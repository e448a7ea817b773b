"""Which backend runs a model file, and what is said where none can."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from edge_ssd import Detector, loading
from edge_ssd.backends.cpu import CpuBackend
from edge_ssd.machine.gpu import GpuInfo
from edge_ssd.model_files.bundle import write_bundle
from edge_ssd.model_files.manifest import EngineMismatch
from edge_ssd.models import DEMO_MODEL
from tests.planted import save_cat_model

_GPU = GpuInfo("Test GPU", (8, 7), True, "540.4", (12, 6))


@pytest.fixture
def no_gpu(monkeypatch):
    def fail():
        raise OSError("no NVIDIA driver on this machine (libcuda.so.1 is not there)")

    monkeypatch.setattr(loading, "gpu_info", fail)


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(loading, "gpu_info", lambda: _GPU)


@pytest.fixture
def engine_path(tmp_path):
    path = tmp_path / "cat.fp16.engine"
    path.write_bytes(b"plan")
    return path


def test_a_shipped_model_goes_by_its_name():
    with Detector.load("demo") as detector:
        assert detector.spec.name == Detector.load(DEMO_MODEL).spec.name


def test_an_unknown_name_lists_the_shipped_ones():
    with pytest.raises(ValueError, match=r"shipped .*demo.*, got 'yolo'"):
        Detector.load("yolo")


def test_another_suffix_lists_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match=r"expected a model file ending in \.onnx, \.engine, \.pt or \.zip"):
        Detector.load(tmp_path / "model.trt")


def test_a_bundle_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_bundle(save_cat_model(tmp_path), tmp_path / "robot.zip")
    with Detector.load(tmp_path / "robot.zip") as detector:
        assert detector.class_names == ("cat", "dog")


def test_an_engine_without_a_gpu_names_the_way_out(engine_path, no_gpu):
    with pytest.raises(OSError, match=r"an engine runs on a GPU, .*no NVIDIA driver.*The \.onnx beside it"):
        Detector.load(engine_path)


def test_an_engine_without_cupy_names_the_package_for_this_driver(engine_path, gpu, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.delitem(sys.modules, "edge_ssd.engines.tensorrt_engine", raising=False)
    with pytest.raises(ImportError, match=r"needs the 'cupy' package .*pip install edge-ssd\[cuda12\]"):
        Detector.load(engine_path)


def _planted_engine(monkeypatch, opened):
    """Stands for the TensorRT engine module, which needs CuPy."""
    module = ModuleType("edge_ssd.engines.tensorrt_engine")
    module.TensorRtEngine = SimpleNamespace(open=opened)
    monkeypatch.setitem(sys.modules, "edge_ssd.engines.tensorrt_engine", module)


def test_an_engine_of_another_machine_is_refused_or_rebuilt(engine_path, gpu, monkeypatch):
    rebuilt = []

    def opened(path, trusted):
        assert not trusted
        if not rebuilt:
            raise EngineMismatch("cat.fp16.engine was built for sm_90")
        return "engine", "spec"

    _planted_engine(monkeypatch, opened)
    monkeypatch.setattr("edge_ssd.build_engine.rebuild", rebuilt.append)
    monkeypatch.setattr(loading, "_on_gpu", lambda *parts: parts)
    with pytest.raises(EngineMismatch, match="was built for sm_90"):
        Detector.load(engine_path)
    assert Detector.load(engine_path, rebuild=True)._backend[:2] == ("engine", "spec")
    assert rebuilt == [engine_path]


@pytest.mark.parametrize(("name", "is_trusted"), [("cat.fp16.engine", True), ("robot.zip", False)])
def test_an_engine_is_trusted_where_it_is_named_and_never_in_a_bundle(
    engine_path, gpu, monkeypatch, name, is_trusted
):
    """Even a bundle that claims its engine for the model."""
    seen = []
    _planted_engine(
        monkeypatch, lambda path, trusted: seen.append((path.name, trusted)) or ("engine", "spec")
    )
    monkeypatch.setattr(loading, "open_bundle", lambda _: engine_path)
    monkeypatch.setattr(loading, "_on_gpu", lambda *parts: parts)
    engine_path.with_name("robot.zip").touch()
    Detector.load(engine_path.with_name(name), trust_engine=True)
    assert seen == [("cat.fp16.engine", is_trusted)]


def test_an_engine_where_bundles_are_unpacked_is_not_trusted_by_its_path(engine_path, gpu, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(engine_path.parent))
    unpacked = engine_path.parent / "edge_ssd" / "bundles" / "0123" / engine_path.name
    unpacked.parent.mkdir(parents=True)
    engine_path.rename(unpacked)
    seen = []
    _planted_engine(monkeypatch, lambda path, trusted: seen.append(trusted) or ("engine", "spec"))
    monkeypatch.setattr(loading, "_on_gpu", lambda *parts: parts)
    Detector.load(unpacked, trust_engine=True)
    assert seen == [False]


def test_a_precision_that_is_not_looked_at_is_said(engine_path, gpu, monkeypatch, caplog):
    _planted_engine(monkeypatch, lambda path, trusted: ("engine", "spec"))
    monkeypatch.setattr(loading, "_on_gpu", lambda *parts: parts)
    Detector.load(engine_path, precision="bf16")
    assert "cat.fp16.engine: precision bf16 is not looked at" in caplog.text


@pytest.mark.torch
class TestCheckpoints:
    @pytest.fixture
    def checkpoint(self, tmp_path):
        pytest.importorskip("torch")
        from edge_ssd.networks import build_model
        from edge_ssd.networks.checkpoint import save_checkpoint

        model = build_model("ssd320_resnet16", 3)
        save_checkpoint(tmp_path / "best.pt", model, model.spec(("cat", "dog")))
        return tmp_path / "best.pt"

    def test_without_a_gpu_it_runs_on_the_cpu(self, checkpoint, no_gpu):
        detector = Detector.load(checkpoint)
        assert isinstance(detector._backend, CpuBackend)
        assert "on cpu" in detector.description

    def test_with_a_gpu_but_without_cupy_it_says_why_it_is_slow(self, checkpoint, gpu, monkeypatch, caplog):
        monkeypatch.setitem(sys.modules, "cupy", None)
        monkeypatch.delitem(sys.modules, "edge_ssd.engines.torch_cuda_engine", raising=False)
        monkeypatch.delitem(sys.modules, "edge_ssd.engines.cuda", raising=False)
        assert isinstance(Detector.load(checkpoint)._backend, CpuBackend)
        assert "For the Test GPU: pip install edge-ssd[cuda12]" in caplog.text
