"""Real plans of TensorRT-RTX, which builds ahead of time with no GPU: every kind of graph, every network."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace

import onnx
import pytest

from edge_ssd.build_engine import tensorrt_api
from edge_ssd.build_engine.build import rebuild
from edge_ssd.build_engine.compile import CompileOptions, compile_engine, find_target
from edge_ssd.build_engine.fp16 import convert_to_fp16
from edge_ssd.build_engine.graph import Graph
from edge_ssd.build_engine.int8 import quantise
from edge_ssd.model_files.manifest import read_manifest
from edge_ssd.spec import SsdSpec
from tests.build_engine.compiled import ORIGIN, compiled
from tests.build_engine.graphs import depthwise, l2norm, residual, save
from tests.conftest import ROOT


@pytest.fixture
def rtx():
    return pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx-cu13 is installed on Linux x86-64 alone")


@pytest.fixture
def model(tmp_path):
    return save(tmp_path, residual())


def in_precision(model, precision):
    if precision == "int8":
        model = quantise(model, dict.fromkeys(Graph(model).activations(), (-4.0, 4.0)))
    return model if precision == "fp32" else convert_to_fp16(model)[0]


@pytest.mark.parametrize("make", [residual, depthwise, l2norm])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_rtx_compiles_every_kind_of_graph(rtx, tmp_path, make, precision):
    path = save(tmp_path, in_precision(make(), precision))
    out, manifest = compiled(path, "small.rtx.engine", runtime="rtx", batch=(1, 4, 8))
    assert manifest.engine_bytes == out.stat().st_size > 10_000
    assert (manifest.flavour, manifest.version) == ("tensorrt_rtx", rtx.__version__)
    assert manifest.targets == tensorrt_api.RTX_TARGETS
    assert manifest.profiles == ((1, 1, 1), (2, 4, 8))


def test_rtx_targets_can_be_chosen(rtx, model):
    _, manifest = compiled(model, runtime="rtx", targets=((8, 6), (12, 0)))
    assert manifest.targets == ((8, 6), (12, 0))
    with pytest.raises(ValueError, match=r"--compute-capability 8\.7: not a target of this TensorRT-RTX"):
        compiled(model, runtime="rtx", targets=((8, 7),))


def test_rtx_refuses_a_model_with_quantised_bias(rtx, tmp_path):
    """Why there are two placements: what is best for ONNX Runtime, TensorRT does not take."""
    from edge_ssd.build_engine.int8 import quantise_for_cpu

    model = residual()
    ranges = dict.fromkeys(Graph(model).activations(), (-4.0, 4.0))
    path = save(tmp_path, quantise_for_cpu(model, ranges))
    with pytest.raises(ValueError, match="TensorRT"):
        compiled(path, runtime="rtx")


def test_rtx_refuses_another_batch_than_the_models_own(rtx, tmp_path):
    path = save(tmp_path, residual(shape=(4, 3, 100, 100)))
    with pytest.raises(ValueError, match="takes 4 images at a time; build it with --batch 4 4 4"):
        compiled(path, runtime="rtx")
    assert compiled(path, runtime="rtx", batch=(4, 4, 4))[1].profiles == ((4, 4, 4),)


def test_an_engine_is_rebuilt_from_the_onnx_file_beside_it(rtx, model):
    out, manifest = compiled(model, runtime="rtx", batch=(1, 2, 2))
    out.write_bytes(b"cut off")
    assert rebuild(out, progress=False) == replace(
        manifest, engine_sha256=read_manifest(out).manifest.engine_sha256
    )
    assert out.stat().st_size == manifest.engine_bytes
    onnx.save(residual(seed=1), model)
    with pytest.raises(ValueError, match="is not the file that"):
        rebuild(out)
    model.unlink()
    with pytest.raises(FileNotFoundError, match=r"edge-ssd build small\.onnx"):
        rebuild(out)


def test_ctrl_c_ends_a_real_build(rtx, tmp_path):
    """In a process of its own: the plan is not there, nor half of it, and the exit code says stopped."""
    path = save(tmp_path, residual())
    code = (
        "import os, signal, sys; from edge_ssd.build_engine import progress;"
        "progress.BuildBar.__call__ = lambda *_: os.kill(os.getpid(), signal.SIGINT);"
        "from edge_ssd.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["build", str(path), "--precision", "fp32", "--runtime", "rtx", "--threads", "1"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 130, done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["small.json", "small.onnx"]


@pytest.fixture(scope="session")
def package_models(tmp_path_factory):
    """The package's networks as `export_onnx` writes them, with untrained weights."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    from edge_ssd.networks import build_model
    from edge_ssd.training import export_onnx as exporting
    from edge_ssd.training.export_onnx import export_onnx

    def no_comparison(*_):
        """What export_onnx ends with, half of its time, and what its own tests are about."""

    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)

    def path_of(arch):
        path = folder / f"{arch}.onnx"
        if not path.exists():
            model = build_model(arch, 5).eval()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(exporting, "_compare", no_comparison)
                export_onnx(model, model.spec(["a", "b", "c", "d"]), path)
        return path

    return path_of


@pytest.mark.torch
@pytest.mark.parametrize("arch", ["ssd300_vgg16", "ssd512_vgg16", "ssdlite320_mobilenet_v3_large"])
def test_rtx_compiles_every_network_of_the_package(rtx, package_models, tmp_path, arch):
    path = package_models(arch)
    spec = SsdSpec.load(path.with_suffix(".json"))
    sizes = {}
    for precision in ("fp32", "fp16", "int8"):
        derived = tmp_path / f"{arch}.{precision}.onnx"
        onnx.save(in_precision(onnx.load(path), precision), derived)
        out, start = derived.with_suffix(".rtx.engine"), time.monotonic()
        target = find_target(CompileOptions("rtx", targets=((8, 6),)), derived, 0, tmp_path)
        compile_engine(derived, spec, out, target, {**ORIGIN, "precision": precision})
        assert time.monotonic() - start < 60
        sizes[precision] = out.stat().st_size
    assert sizes["fp16"] < 0.7 * sizes["fp32"]  # the precision of the file is that of the plan
    assert sizes["int8"] < 0.7 * sizes["fp16"] or arch.startswith(
        "ssdlite"
    )  # whose weights are the smaller part
