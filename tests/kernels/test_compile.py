"""The CUDA sources through NVIDIA's own compilers, for every architecture; no GPU needed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edge_ssd.kernels.source import KERNELS, OPTIONS, kernel_source

# The macros with which the launchers compile each kernel.
_VARIANTS = {
    "preprocess": ("BATCH=float", "BATCH=__half"),
    "score_candidates": ("HEAD=float", "HEAD=__half"),
    "class_nms": ("HEAD=float", "HEAD=__half"),
    "merge": ("HEAD=float",),
    "clock": ("HEAD=float",),
}
_ALL = [(name, define) for name in KERNELS for define in _VARIANTS[name]]

# sm_75: the oldest that TensorRT 10 takes; Orin, H100 and H200, Thor.
_MUST_COMPILE = {75, 87, 90, 110}


@pytest.fixture(scope="module")
def nvrtc():
    return pytest.importorskip(
        "cuda.bindings.nvrtc", reason="NVRTC (cuda-bindings, nvidia-cuda-nvrtc) is missing"
    )


@pytest.fixture(scope="module")
def headers():
    """Where cuda_fp16.h lies: in the wheel nvidia-cuda-runtime."""
    import importlib.util

    spec = importlib.util.find_spec("nvidia")
    for folder in spec.submodule_search_locations if spec else ():
        for header in sorted(Path(folder).glob("*/include/cuda_fp16.h")):
            return header.parent
    pytest.skip("cuda_fp16.h (nvidia-cuda-runtime) is missing")


def _architectures(nvrtc):
    try:
        error, architectures = nvrtc.nvrtcGetSupportedArchs()
    except RuntimeError as failure:  # the bindings are there, the library is not
        pytest.skip(f"NVRTC (nvidia-cuda-nvrtc) is missing: {failure}")
    assert error == 0
    return [a for a in architectures if a >= 75]


def _log(nvrtc, source, name, define, architecture, headers):
    """What the compiler says; empty when it has nothing to say."""
    error, program = nvrtc.nvrtcCreateProgram(source.encode(), f"{name}.cu".encode(), 0, [], [])
    assert error == 0
    options = [*OPTIONS, f"-D{define}", f"--gpu-architecture=sm_{architecture}", f"-I{headers}"]
    (error,) = nvrtc.nvrtcCompileProgram(program, len(options), [option.encode() for option in options])
    _, size = nvrtc.nvrtcGetProgramLogSize(program)
    log = bytearray(size)
    nvrtc.nvrtcGetProgramLog(program, log)
    nvrtc.nvrtcDestroyProgram(program)
    text = bytes(log).rstrip(b"\0").decode()
    return text or ("" if error == 0 else str(error))


@pytest.mark.parametrize(("name", "define"), _ALL)
def test_nvrtc_compiles_it_for_every_architecture_without_a_warning(nvrtc, headers, name, define):
    architectures = _architectures(nvrtc)
    assert set(architectures) >= _MUST_COMPILE
    # One of the two types on all of them; the other where GPUs differ most.
    if define.endswith("__half"):
        architectures = sorted(_MUST_COMPILE)
    for architecture in architectures:
        log = _log(nvrtc, kernel_source(name), name, define, architecture, headers)
        assert log == "", f"sm_{architecture}"


def test_nvrtc_sees_an_error_and_its_line(nvrtc, headers):
    source = kernel_source("clock").replace("u64 now;", "u64 now")
    assert "clock.cu(15): error" in _log(nvrtc, source, "clock", "HEAD=float", 90, headers)


@pytest.mark.parametrize(("name", "define"), _ALL)
def test_nothing_spills_into_local_memory(tmp_path, name, define):
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("nvcc is not on the PATH")
    source = tmp_path / f"{name}.cu"
    source.write_text(kernel_source(name), encoding="utf-8")
    for architecture in ("sm_87", "sm_90"):
        command = [nvcc, "-cubin", "-arch", architecture, "-Xptxas", "-v", *OPTIONS, f"-D{define}"]
        done = subprocess.run(
            [*command, str(source), "-o", str(tmp_path / "out.cubin")], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        used = re.findall(r"(\d+) bytes (?:stack frame|spill stores|spill loads)", done.stderr)
        assert len(used) == 3, done.stderr
        assert set(used) == {"0"}, f"{architecture}: {done.stderr}"
