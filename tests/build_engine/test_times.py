"""The time column of a quantization report: which engines are timed, and what is left out."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from edge_ssd.build_engine import times
from edge_ssd.build_engine.graph import Graph
from edge_ssd.build_engine.int8 import quantise_for_cpu
from edge_ssd.machine.gpu import GpuInfo
from tests.build_engine.graphs import residual, save, small_spec
from tests.conftest import ROOT


@pytest.fixture
def paths(tmp_path):
    """A model in float, and as ONNX Runtime alone takes it."""
    model = residual()
    ranges = dict.fromkeys(Graph(model).activations(), (-4.0, 4.0))
    return [save(tmp_path, model), save(tmp_path, quantise_for_cpu(model, ranges), name="small.int8-cpu")]


def test_every_file_has_a_time_in_onnx_runtime(paths):
    found = times.time_files(paths, small_spec(), "cpu", threads=1)
    name = next(name for name in found if name.startswith("ONNX Runtime"))
    assert name.endswith("1 threads")
    assert list(found[name]) == paths
    assert all(spent_ms > 0 for spent_ms in found[name].values())


def test_without_openvino_it_has_no_column(paths, monkeypatch):
    monkeypatch.setitem(sys.modules, "edge_ssd.engines.openvino_engine", None)
    assert len(times.time_files(paths, small_spec(), "cpu", threads=1)) == 1


def test_ctrl_c_still_works_after_openvino(paths):
    """In a process of its own, for what it is about is a segmentation fault."""
    pytest.importorskip("openvino")
    code = (
        "import signal, sys; from pathlib import Path; from edge_ssd.build_engine.times import time_files;"
        "from edge_ssd import SsdSpec; paths = [Path(p) for p in sys.argv[1:]];"
        "found = time_files(paths, SsdSpec.load(paths[0].with_suffix('.json')), 'cpu', 1);"
        "assert any(name.startswith('OpenVINO') for name in found), found;"
        "signal.signal(signal.SIGINT, lambda *_: sys.exit(7)); signal.raise_signal(signal.SIGINT)"
    )
    command = [sys.executable, "-c", code, *map(str, paths)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 7, done.stderr


class FakeEngine:
    """TensorRtEngine, as far as it is timed."""

    input_dtype = np.dtype(np.float16)

    def __init__(self, batches):
        self._batches = batches

    def infer(self, batch):
        self._batches.append(batch)


def test_plans_are_timed_where_there_is_a_gpu_and_refused_files_left_out(paths, monkeypatch):
    calls, batches = [], []

    def opened(plan):
        assert plan.read_bytes() == b"plan"
        return FakeEngine(batches), None

    stream = SimpleNamespace(synchronize=lambda: calls.append("wait"))
    cupy = SimpleNamespace(asarray=np.asarray, cuda=SimpleNamespace(get_current_stream=lambda: stream))
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    module = SimpleNamespace(TensorRtEngine=SimpleNamespace(open=opened))
    monkeypatch.setitem(sys.modules, "edge_ssd.engines.tensorrt_engine", module)
    monkeypatch.setattr(times, "gpu_info", lambda: GpuInfo("Orin", (8, 7), True, "540", (12, 6)))

    def compile_engine(path, spec, plan, target, origin):
        if "int8-cpu" in path.name:
            raise ValueError("TensorRT refuses the model")
        plan.write_bytes(b"plan")
        return SimpleNamespace(flavour="tensorrt", version="10.3.0")

    monkeypatch.setattr(times, "find_target", lambda *a: None)
    monkeypatch.setattr(times, "compile_engine", compile_engine)
    found = times.time_files(paths, small_spec(), "tensorrt", threads=1)
    assert list(found["tensorrt 10.3.0, Orin"]) == paths[:1]
    assert len(calls) == len(batches) == times._ROUNDS * times._CALLS  # each is waited for
    assert batches[0].dtype == np.float16


def test_no_plan_is_made_without_a_gpu_or_for_the_cpu(paths, monkeypatch):
    def never(*_):
        raise AssertionError("compiled")

    monkeypatch.setattr(times, "compile_engine", never)
    times.time_files(paths, small_spec(), "cpu", threads=1)

    def no_gpu():
        raise OSError("no NVIDIA driver")

    monkeypatch.setattr(times, "gpu_info", no_gpu)
    found = times.time_files(paths, small_spec(), "rtx", threads=1)
    assert all(name.startswith(("ONNX Runtime", "OpenVINO")) for name in found)
