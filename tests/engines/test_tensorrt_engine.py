"""The TensorRT engine, on stand-ins for TensorRT 10.3, 11.4 and TensorRT-RTX, and CuPy."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from edge_ssd.backends.heads import check_heads
from edge_ssd.machine.gpu import GpuInfo
from edge_ssd.model_files.manifest import EngineFile, EngineMismatch, Manifest
from tests.engines.fake_cupy import FakeArray, assert_is_device_engine
from tests.engines.fake_tensorrt import fake_tensorrt
from tests.specs import grid_spec

VERSIONS = ("10.3.0", "11.4.0.106", "1.7.1.116")
STREAM = 77

SPEC = grid_spec(2, 3)  # 6 priors, 3 columns
TENSORS = {
    "image": ["INPUT", "HALF", [-1, 3, 100, 100]],
    "conf": ["OUTPUT", "FLOAT", [-1, 6, 3]],
    "loc": ["OUTPUT", "HALF", [-1, 24]],
}
PROFILES = [[1, 1, 1], [2, 4, 4]]

MANIFEST = Manifest(
    flavour="tensorrt",
    version="10.3.0",
    compute_capability=(8, 7),
    gpu_name="Orin",
    driver="540.4",
    targets=(),
    precision="fp16",
    profiles=((1, 1, 1), (2, 4, 4)),
    onnx="m.fp16.onnx",
    onnx_sha256="",
    source="m.onnx",
    source_sha256="",
    calibration_sha256="",
    engine_bytes=0,
    engine_sha256="",
    version_compatible=False,
    hardware_compatible=False,
    workspace_bytes=0,
    command="edge-ssd build m.onnx --precision fp16",
)
ORIN = GpuInfo("Orin", (8, 7), True, "540.4", (12, 6))


def with_tensors(**changes):
    """A plan with other tensors; None takes one away."""
    tensors = {name: value for name, value in {**TENSORS, **changes}.items() if value is not None}
    return json.dumps({"tensors": tensors, "profiles": PROFILES})


class Bench:
    """What a test needs of one version: the module, and what was called."""

    def __init__(self, version, module, cupy, tmp_path, monkeypatch):
        self.module, self.cupy, self.folder = module, cupy, tmp_path
        self.trt = fake_tensorrt(version, cupy.calls)
        self.manifest = replace(MANIFEST, version=version, flavour=self.trt.__name__)
        monkeypatch.setitem(sys.modules, self.trt.__name__, self.trt)
        monkeypatch.setattr(module, "gpu_info", lambda: ORIN)

    def write(self, plan=None, **manifest):
        path = self.folder / "m.fp16.engine"
        path.write_text(plan or with_tensors())
        manifest = replace(self.manifest, engine_bytes=path.stat().st_size, **manifest)
        EngineFile(SPEC, manifest).save(path)
        return path

    def open(self, plan=None, trusted=False, **manifest):
        return self.module.TensorRtEngine.open(self.write(plan, **manifest), trusted)[0]

    def calls(self, *kinds):
        return [call for call in self.cupy.calls if call[0] in kinds]


@pytest.fixture(params=VERSIONS)
def bench(request, engines, cupy, tmp_path, monkeypatch):
    return Bench(request.param, engines("tensorrt_engine"), cupy, tmp_path, monkeypatch)


@pytest.fixture
def newest(engines, cupy, tmp_path, monkeypatch):
    return Bench("11.4.0.106", engines("tensorrt_engine"), cupy, tmp_path, monkeypatch)


def batch_of(size, value=1.0, dtype=np.float16):
    host = np.zeros((size, 3, 100, 100), dtype)
    host[0, 0, 0, 0] = value
    return FakeArray(host)


def test_what_the_engine_is(bench):
    engine = bench.open()
    assert (engine.input_dtype, engine.max_batch, engine.capturable) == (np.float16, 4, True)
    assert bench.trt.__version__ in engine.description
    assert engine.description.endswith("fp16, Orin")
    assert_is_device_engine(engine)


def test_outputs_have_their_shapes_and_types_and_hold_what_the_network_gives(bench):
    engine = bench.open()
    for size in (1, 2, 3, 4):
        loc, conf = engine.infer(batch_of(size, value=size))
        assert (loc.shape, loc.dtype) == ((size, 24), np.float16)
        assert (conf.shape, conf.dtype) == ((size, 6, 3), np.float32)
        assert engine.output_shapes(size) == {"loc": loc.shape, "conf": conf.shape}
        assert (loc.host == size).all()
        assert (conf.host == size).all()
    check_heads(engine.output_shapes(4), SPEC, 6)


def test_batch_1_runs_in_profile_0_and_larger_ones_in_profile_1(bench):
    engine = bench.open()
    for size in (1, 2, 4, 1):
        engine.infer(batch_of(size))
    assert bench.calls("profile") == [("profile", p, STREAM) for p in (0, 1, 1)]
    shapes = [shape for _, _, shape in bench.calls("shape")]
    assert shapes == [(size, 3, 100, 100) for size in (1, 2, 4)]
    assert bench.calls("execute") == [("execute", size, STREAM) for size in (1, 2, 4, 1)]


def test_everything_happens_on_the_stream_that_is_current_then(bench):
    engine = bench.open()
    batch = batch_of(1)
    engine.infer(batch)
    bench.cupy.stream.ptr = 78
    engine.infer(batch)
    assert bench.calls("execute") == [("execute", 1, STREAM), ("execute", 1, 78)]


def test_after_the_first_call_a_batch_array_costs_one_enqueue(bench):
    engine = bench.open()
    batch = batch_of(2)
    engine.infer(batch)
    bench.cupy.calls.clear()
    for _ in range(3):
        engine.infer(batch)
    assert bench.cupy.calls == [("execute", 2, STREAM)] * 3


def test_two_batch_arrays_have_outputs_of_their_own_and_share_a_context(bench):
    engine = bench.open()
    first, second = batch_of(1, value=1), batch_of(1, value=2)
    results = [engine.infer(batch) for batch in (first, second, first, second)]
    assert results[0] == results[2]
    assert results[1] == results[3]
    addresses = {output.data.ptr for pair in results for output in pair}
    assert len(addresses) == 4
    assert [(r[0].host[0, 0], r[1].host[0, 0, 0]) for r in results[:2]] == [(1, 1), (2, 2)]
    assert len(bench.calls("context")) == 1
    assert len(bench.calls("empty")) == 4


def test_an_output_that_nobody_asks_for_has_room_too(bench):
    engine = bench.open(with_tensors(index=["OUTPUT", "INT64", [-1, 7]]))
    loc, _ = engine.infer(batch_of(2))
    assert (loc.host == 1).all()
    assert ("empty", 2 * 7 * 8, "uint8") in bench.cupy.calls


def test_a_static_plan_takes_its_own_batch_size_only(bench):
    tensors = {name: [mode, kind, [2, *shape[1:]]] for name, (mode, kind, shape) in TENSORS.items()}
    engine = bench.open(json.dumps({"tensors": tensors, "profiles": []}))
    assert engine.max_batch == 2
    assert engine.infer(batch_of(2))[0].shape == (2, 24)
    with pytest.raises(ValueError, match="takes 2 images at a time, got 1"):
        engine.infer(batch_of(1))


@pytest.mark.parametrize("size", [0, 5])
def test_a_batch_size_that_no_profile_has_is_refused(bench, size):
    engine = bench.open()
    for call in (
        engine.output_shapes,
        lambda size: engine.infer(FakeArray(np.zeros((size, 3, 100, 100), "f2"))),
    ):
        with pytest.raises(ValueError, match=f"takes 1 or 2 to 4 images at a time, got {size}"):
            call(size)
    assert bench.calls("context", "execute") == []


@pytest.mark.parametrize(
    ("host", "what"),
    [
        (np.zeros((1, 3, 100, 100), np.float32), "float32"),
        (np.zeros((1, 3, 100, 50), np.float16), "half as wide"),
        (np.zeros((1, 100, 100, 3), np.float16), "channels last"),
        (np.zeros((3, 100, 100), np.float16), "no batch axis"),
        (np.zeros((1, 3, 100, 200), np.float16)[..., ::2], "not contiguous"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused_before_anything_runs(bench, host, what):
    engine = bench.open()
    with pytest.raises(ValueError, match=r"batch: expected C-contiguous float16 \(\d+, 3, 100, 100\), got"):
        engine.infer(FakeArray(host))
    assert bench.calls("context", "empty", "execute") == [], what


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"image": ["INPUT", "INT8", [-1, 3, 100, 100]]},
            "'image': expected float32 or float16, got DataType.INT8",
        ),
        (
            {"image": ["INPUT", "HALF", [-1, 3, 100, 90]]},
            r"input 'image' is .*90\), the spec says \(B, 3, 100, 100",
        ),
        ({"second": ["INPUT", "HALF", [1]]}, "input.name is 'image', the engine's inputs are .*'second'"),
        ({"image": None}, r"input.name is 'image', the engine's inputs are \[\]"),
        ({"conf": None}, r"outputs.conf is 'conf', the engine's outputs are \['loc'\]"),
        ({"loc": ["OUTPUT", "INT64", [-1, 24]]}, "'loc': expected float32 or float16"),
    ],
)
def test_a_plan_that_does_not_fit_the_spec_is_refused_at_load(bench, change, message):
    with pytest.raises(ValueError, match=message):
        bench.open(with_tensors(**change))


def test_an_output_whose_size_depends_on_the_content_is_refused(bench):
    engine = bench.open(with_tensors(loc=["OUTPUT", "HALF", [-1, -1, 4]]))
    with pytest.raises(ValueError, match="only its first axis may be dynamic"):
        engine.output_shapes(1)


def test_outputs_that_do_not_fit_the_spec_are_named(bench):
    engine = bench.open(with_tensors(loc=["OUTPUT", "HALF", [-1, 5, 4]]))
    with pytest.raises(ValueError, match=r"output 'loc' is \(1, 5, 4\).*The model has 5 priors"):
        check_heads(engine.output_shapes(1), SPEC, 6)


def test_a_plan_that_tensorrt_does_not_take_says_why_and_what_to_do(bench):
    with pytest.raises(
        ValueError,
        match=r"cannot load this plan \(The engine plan file .* device\)\. Rebuild it here: edge-ssd build",
    ):
        bench.open("not a plan")


@pytest.mark.parametrize(
    ("method", "given", "message"),
    [
        ("set_optimization_profile_async", False, "TensorRT does not take profile 0"),
        ("set_input_shape", False, r"TensorRT does not take input shape \(1, 3, 100, 100\)"),
        ("set_tensor_address", False, "TensorRT does not take the address of 'conf'"),
    ],
)
def test_what_the_context_refuses_is_an_error(bench, monkeypatch, method, given, message):
    engine = bench.open()
    monkeypatch.setattr(bench.trt.IExecutionContext, method, lambda *_: given)
    with pytest.raises(ValueError, match=message):
        engine.infer(batch_of(1))
    assert bench.calls("execute") == []


def test_no_context_for_lack_of_memory(newest, monkeypatch):
    engine = newest.open()
    monkeypatch.setattr(newest.trt.ICudaEngine, "create_execution_context", lambda self: None)
    with pytest.raises(ValueError, match=r"no execution context for batch 1.*enough GPU memory"):
        engine.infer(batch_of(1))


def test_a_run_that_fails_gives_tensorrts_reason_once(bench, monkeypatch):
    engine = bench.open()
    monkeypatch.setattr(bench.trt.IExecutionContext, "set_tensor_address", lambda *_: True)
    with pytest.raises(
        RuntimeError, match=r"did not run the network \(Address is not set for some tensor\)$"
    ):
        engine.infer(batch_of(1))
    monkeypatch.setattr(bench.trt.IExecutionContext, "execute_async_v3", lambda *_: False)
    with pytest.raises(RuntimeError, match=r"did not run the network$"):
        engine.infer(batch_of(1))


def test_a_capture_is_of_this_thread_alone_and_leaves_allocating_to_the_runs_before(bench):
    engine = bench.open()
    batch = batch_of(1)
    for _ in range(2):
        engine.infer(batch)
    bench.cupy.calls.clear()
    graph = engine.capture(lambda: engine.infer(batch))
    graph.launch()
    asked = [("is_stream_capturable", STREAM)] if bench.trt.__name__ == "tensorrt_rtx" else []
    steps = [("begin_capture", "thread-local"), ("execute", 1, STREAM), ("end_capture",), ("launch",)]
    assert bench.cupy.calls == asked + steps


def test_a_network_that_breaks_the_capture_is_reported_in_one_line_and_runs_on(bench):
    engine = bench.open()
    batch = batch_of(1)
    engine.infer(batch)
    bench.cupy.stream.breaks_with = RuntimeError("cudaErrorStreamCaptureInvalidated: broken\nby something")
    with pytest.raises(RuntimeError, match=r"cannot be captured in a CUDA graph \(cudaError.*: broken\)$"):
        engine.capture(lambda: engine.infer(batch))
    assert (engine.infer(batch)[0].host == 1).all()


@pytest.mark.parametrize(
    ("error", "raised"), [(RuntimeError("no room"), RuntimeError), (ValueError("frame"), ValueError)]
)
def test_a_step_that_fails_ends_the_capture(bench, error, raised):
    def steps():
        raise error

    with pytest.raises(raised, match=r"no room|frame"):
        bench.open().capture(steps)
    assert bench.calls("begin_capture", "end_capture") == [
        ("begin_capture", "thread-local"),
        ("end_capture",),
    ]


def test_tensorrt_rtx_is_asked_before_a_capture(engines, cupy, tmp_path, monkeypatch):
    bench = Bench("1.7.1.116", engines("tensorrt_engine"), cupy, tmp_path, monkeypatch)
    engine = bench.open()
    engine.infer(batch_of(1))
    bench.trt.IExecutionContext._can_be_captured = False
    with pytest.raises(RuntimeError, match="cannot be captured in a CUDA graph"):
        engine.capture(lambda: None)
    assert bench.calls("begin_capture") == []
    # General kernels would be captured for good.
    assert bench.calls("specialization") == [("specialization", "eager")]


@pytest.mark.parametrize(("asked", "trusted"), [(False, False), (False, True), (True, True)])
def test_host_code_is_allowed_for_a_trusted_plan_that_asks_for_it_alone(bench, asked, trusted):
    engine = bench.open(version_compatible=asked, trusted=trusted)
    assert engine._runtime.engine_host_code_allowed is (asked and trusted)


def test_warnings_go_to_the_log(bench, caplog):
    log = bench.open()._runtime._log
    log.log(bench.trt.ILogger.Severity.WARNING, "slow\n")
    log.log(bench.trt.ILogger.Severity.INFO, "chatter")
    assert caplog.messages == ["TensorRT: slow"]


def test_all_engines_of_a_process_have_one_logger_that_stays(bench):
    """TensorRT keeps the address of the first one."""
    first, second = bench.open(), bench.open()
    assert first._runtime._log is second._runtime._log is bench.trt._edge_ssd_logger


def test_closing_lets_go_of_the_runtime_last(bench):
    engine = bench.open()
    engine.infer(batch_of(1))
    engine.close()
    assert (engine._contexts, engine._bindings, engine._bound) == ({}, {}, {})
    assert (engine._latest, engine._engine, engine._runtime) == (None, None, None)
    with pytest.raises(ValueError, match="the engine is closed"):
        engine.infer(batch_of(1))


@pytest.fixture
def no_runtime(bench, monkeypatch):
    """The bench, where making a Runtime is a failure of the test."""

    def refuse(*_):
        raise AssertionError("a Runtime was made")

    monkeypatch.setattr(bench.trt, "Runtime", refuse)
    return bench


def test_without_a_driver_no_runtime_is_made(no_runtime, monkeypatch):
    def missing():
        raise OSError("no NVIDIA driver on this machine (libcuda.so.1 is not there)")

    monkeypatch.setattr(no_runtime.module, "gpu_info", missing)
    with pytest.raises(
        OSError, match=r"needs an NVIDIA GPU: no NVIDIA driver .* Or use m\.fp16\.onnx, which runs"
    ):
        no_runtime.open()


@pytest.mark.parametrize("change", [{"version": "9.9.0"}, {"compute_capability": (9, 0)}])
def test_a_plan_of_another_machine_is_refused_before_tensorrt_sees_it(no_runtime, change):
    with pytest.raises(EngineMismatch, match=r"was built with .* this machine has .* edge-ssd build m\.onnx"):
        no_runtime.open(**change)


def test_a_missing_package_is_named_with_what_installs_it(no_runtime, monkeypatch):
    monkeypatch.setitem(sys.modules, no_runtime.trt.__name__, None)
    with pytest.raises(
        ImportError,
        match=rf"m\.fp16\.engine needs the '{no_runtime.trt.__name__}' package \(.*pip install edge-ssd\["
        r"(tensorrt|rtx)\]\. Or use m\.fp16\.onnx, which runs on the CPU\.",
    ):
        no_runtime.open()


def test_a_plan_without_its_manifest(no_runtime):
    path = no_runtime.write()
    path.with_name(path.name + ".json").unlink()
    with pytest.raises(FileNotFoundError, match="no manifest beside"):
        no_runtime.module.TensorRtEngine.open(path)


def test_a_plan_that_holds_a_program_is_refused_before_tensorrt_sees_it(no_runtime):
    said = r"holds a program .* --trust-engine, .* not in a bundle; else build it here from m\.fp16\.onnx"
    with pytest.raises(ValueError, match=said):
        no_runtime.open(version_compatible=True)
