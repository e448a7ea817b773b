"""Plans: the builder of every TensorRT version, on stand-ins, and builds that are disturbed."""

from __future__ import annotations

import fcntl
import os
import signal
import sys

import pytest

from edge_ssd.build_engine import compile as compiling
from edge_ssd.build_engine import guard, tensorrt_api
from edge_ssd.build_engine.compile import CompileOptions, find_target, profiles_of
from edge_ssd.machine.gpu import GpuInfo
from edge_ssd.model_files.manifest import manifest_path, read_manifest
from tests.build_engine.compiled import compiled
from tests.build_engine.fake_builder import make_tensorrt
from tests.build_engine.graphs import residual, save, small_spec

GPU = GpuInfo("Orin (nvgpu)", (8, 7), True, "540.4.0", (12, 6))


@pytest.fixture
def model(tmp_path):
    return save(tmp_path, residual())


@pytest.fixture
def with_tensorrt(monkeypatch):
    """Puts a fake TensorRT and a GPU where the builder looks for them."""

    def put(version="10.3.0", gpu=GPU, **options):
        trt = make_tensorrt(version, **options)
        monkeypatch.setitem(sys.modules, "tensorrt", trt)
        monkeypatch.setattr(compiling, "gpu_info", lambda: gpu)
        return trt

    return put


@pytest.mark.parametrize(("version", "flags"), [("10.3.0", 1 << 1), ("11.0.0", 1 << 0), ("12.0.0", 0)])
def test_networks_are_strongly_typed_in_every_version(model, with_tensorrt, version, flags):
    trt = with_tensorrt(version)
    out, manifest = compiled(model)
    assert ("network", flags) in trt.calls
    assert not [
        call for call in trt.calls if call[0] == "flag"
    ]  # no precision flag, whatever the version has
    assert manifest.version == version
    assert out.read_bytes() == model.read_bytes()[::-1]  # the plan as TensorRT made it, to the byte


def test_the_manifest_says_what_the_engine_was_built_for(model, with_tensorrt):
    with_tensorrt()
    out, manifest = compiled(model, batch=(1, 4, 8), workspace_bytes=1 << 30, version_compatible=True)
    found = read_manifest(out)
    assert (found.spec, found.manifest) == (small_spec(), manifest)
    assert (manifest.flavour, manifest.compute_capability, manifest.gpu_name) == (
        "tensorrt",
        (8, 7),
        GPU.name,
    )
    assert (manifest.driver, manifest.targets) == ("540.4.0", ())
    assert manifest.profiles == ((1, 1, 1), (2, 4, 8))
    assert (manifest.onnx, manifest.version_compatible) == ("small.onnx", True)


def test_batch_one_has_a_profile_of_its_own(model, with_tensorrt):
    assert profiles_of((1, 1, 1)) == ((1, 1, 1),)
    assert profiles_of((1, 1, 4)) == ((1, 1, 1), (2, 2, 4))
    assert profiles_of((2, 4, 8)) == ((2, 4, 8),)
    trt = with_tensorrt()
    compiled(model, batch=(1, 4, 8))
    shapes = [tuple(shape[0] for shape in call[2:]) for call in trt.calls if call[0] == "profile"]
    assert shapes == [(1, 1, 1), (2, 4, 8)]


def test_what_only_one_flavour_has_is_refused_for_the_other():
    with pytest.raises(ValueError, match="TensorRT-RTX has neither"):
        CompileOptions("rtx", version_compatible=True)
    with pytest.raises(ValueError, match="TensorRT-RTX has neither"):
        CompileOptions("rtx", hardware_compatible=True)
    with pytest.raises(ValueError, match="only --runtime rtx builds for others"):
        CompileOptions("tensorrt", targets=((8, 6),))


def test_plans_that_others_can_run_are_asked_for(model, with_tensorrt):
    trt = with_tensorrt()
    compiled(model, version_compatible=True, hardware_compatible=True)
    assert ("flag", "VERSION_COMPATIBLE") in trt.calls
    assert ("hardware", "AMPERE_PLUS") in trt.calls


def test_plans_that_a_graph_can_capture_are_asked_for_where_that_is_a_choice(model, with_tensorrt):
    """TensorRT-RTX, whose plans may allocate while they run unless told not to."""
    trt = with_tensorrt("1.7.1")
    compiled(model)
    assert ("flag", "REQUIRE_USER_ALLOCATION") in trt.calls


@pytest.mark.parametrize("batch", [(0, 1, 1), (2, 1, 4), (1, 8, 4)])
def test_batch_sizes_out_of_order_are_refused(batch):
    with pytest.raises(ValueError, match="expected 1 <= MIN <= OPT <= MAX"):
        CompileOptions(batch=batch)


def test_what_the_parser_refuses_is_named_with_its_node(model, with_tensorrt):
    with_tensorrt(refuse="OddOperator")
    with pytest.raises(ValueError, match=r"OddOperator \(node 'n_odd'\): Assertion failed: plugin not found"):
        compiled(model)


def test_a_build_that_fails_says_why_and_leaves_nothing(model, with_tensorrt):
    with_tensorrt(fail=True)
    with pytest.raises(ValueError, match=r"TensorRT could not build it.*no kernel for this GPU"):
        compiled(model)
    assert sorted(path.name for path in model.parent.iterdir()) == ["small.json", "small.onnx"]


def test_progress_counts_the_steps_of_the_outermost_phase(model, with_tensorrt):
    with_tensorrt()
    seen = []
    compiled(model, progress=lambda *step: seen.append(step))
    assert seen[0] == (0, 2, "Building engine")
    assert (0, 2, "Timing tactics") in seen
    assert seen[-1] == (2, 2, "Building engine")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build_leaves_the_engine_that_was_there(model, with_tensorrt, number):
    """In the middle of a build, where an exception could not pass through C++."""
    with_tensorrt()
    out, manifest = compiled(model)
    before = signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    try:
        with pytest.raises(KeyboardInterrupt):
            compiled(model, progress=lambda *_: os.kill(os.getpid(), number))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert read_manifest(out).manifest == manifest
    assert not [path for path in model.parent.iterdir() if path.suffix in (".tmp", ".lock")]


def test_a_manifest_never_describes_another_plan(model, with_tensorrt, monkeypatch):
    """The write of the manifest fails: there is a new plan, and no manifest rather than the old one."""
    with_tensorrt()
    out, _ = compiled(model)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compiling.EngineFile, "save", fail)
    with pytest.raises(OSError, match="No space left"):
        compiled(model)
    assert not manifest_path(out).exists()


def test_two_builds_into_one_file(model, with_tensorrt):
    with_tensorrt()
    seen = []

    def second_build(*_):
        with pytest.raises(ValueError, match="another build is writing this file"):
            compiled(model)
        seen.append(True)

    compiled(model, progress=second_build)
    assert seen
    compiled(model)  # the lock is free again


def test_no_room_on_the_disk_or_in_memory(model, with_tensorrt, monkeypatch):
    with_tensorrt()
    monkeypatch.setattr(guard, "_DISK_BASE", 1 << 60)
    with pytest.raises(OSError, match="MiB free, building needs about"):
        compiled(model)
    monkeypatch.setattr(guard, "_DISK_BASE", 0)
    monkeypatch.setattr(guard, "_MEMORY_BASE", 1 << 60)
    with pytest.raises(MemoryError, match="of memory is free, building needs about"):
        compiled(model)


def test_a_folder_that_is_not_there(model, with_tensorrt):
    with_tensorrt()
    with pytest.raises(FileNotFoundError, match="no such folder to write to"):
        find_target(CompileOptions(), model, 0, model.parent / "no")


def test_tensorrt_needs_its_gpu_and_says_so(model, with_tensorrt, monkeypatch):
    with_tensorrt()

    def no_gpu():
        raise OSError("no NVIDIA driver on this machine")

    monkeypatch.setattr(compiling, "gpu_info", no_gpu)
    with pytest.raises(ValueError, match="needs the GPU that the engine will run on: no NVIDIA driver"):
        compiled(model)


@pytest.mark.parametrize(
    ("runtime", "said"), [("tensorrt", "ships with JetPack"), ("rtx", r"edge-ssd\[rtx\]")]
)
def test_a_missing_tensorrt_says_which_package_for_which_machine(monkeypatch, runtime, said):
    monkeypatch.setitem(sys.modules, tensorrt_api.RUNTIMES[runtime], None)
    with pytest.raises(ImportError, match=said):
        tensorrt_api.load_tensorrt(runtime)


def test_the_timing_cache_is_one_file_per_version_and_gpu(model, with_tensorrt, tmp_path):
    trt = with_tensorrt()
    cache = str(tmp_path / "timings")
    compiled(model, timing_cache=cache)
    compiled(model, timing_cache=cache)
    assert [call[1] for call in trt.calls if call[0] == "cache"] == [b"", b"+"]
    assert (tmp_path / "timings.10.3.0.Orin_nvgpu_").read_bytes() == b"++"


def test_a_timing_cache_that_is_none_says_what_to_do(model, with_tensorrt, tmp_path):
    (tmp_path / "timings.10.3.0.Orin_nvgpu_").write_bytes(b"broken")
    with_tensorrt()
    with pytest.raises(ValueError, match="cannot read this timing cache; remove it"):
        compiled(model, timing_cache=str(tmp_path / "timings"))


def test_a_timing_cache_in_use_is_waited_for(model, with_tensorrt, tmp_path):
    with_tensorrt()
    cache = tmp_path / "timings"
    with open(f"{cache}.10.3.0.Orin_nvgpu_.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(AssertionError, match="waited"):
            _with_blocking_flock_failing(lambda: compiled(model, timing_cache=str(cache)))


def _with_blocking_flock_failing(call):
    """Runs `call` with a flock that raises where the real one would wait."""
    real = fcntl.flock

    def flock(file, flags):
        try:
            real(file, flags | fcntl.LOCK_NB)
        except OSError:
            raise AssertionError("waited") from None

    compiling.fcntl = type("fcntl", (), {"flock": staticmethod(flock), "LOCK_EX": fcntl.LOCK_EX})
    try:
        call()
    finally:
        compiling.fcntl = fcntl
