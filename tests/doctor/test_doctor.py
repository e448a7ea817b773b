"""`edge-ssd doctor`: what it finds, what it advises, and that it finds something on a bare install too."""

from __future__ import annotations

import importlib.util
import json
import struct
import sys

import cv2
import onnxruntime
import pytest

from edge_ssd import cli, doctor
from edge_ssd.doctor import Finding, examine, v4l2, will_run
from edge_ssd.doctor import gpu as gpu_part
from edge_ssd.doctor.v4l2 import camera_formats
from edge_ssd.machine import gpu as machine_gpu
from edge_ssd.machine.gpu import GpuInfo


def found(name):
    (finding,) = [finding for finding in examine() if finding.name == name]
    return finding


@pytest.fixture
def without(monkeypatch):
    """Makes packages impossible to import."""

    def without(*packages):
        for package in packages:
            monkeypatch.setitem(sys.modules, package, None)

    return without


def test_this_machine_runs_onnx_models():
    assert found("OpenCV") == Finding("OpenCV", True, cv2.__version__)
    assert found("ONNX Runtime").detail.startswith(onnxruntime.__version__)
    assert "ONNX models on the CPU: edge-ssd run --model M.onnx" in will_run(examine())


def test_openvino_alone_runs_onnx_models(without, monkeypatch):
    without("onnxruntime", "torch")
    for present in (True, False):
        monkeypatch.setattr(
            doctor, "_openvino", lambda present=present: Finding("OpenVINO", present, "2026.4")
        )
        assert any("ONNX models" in sentence for sentence in will_run(examine())) == present


def test_an_openvino_that_is_missing_is_optional(without):
    without("openvino")
    assert "pip install edge-ssd[openvino]" in found("OpenVINO").advice


@pytest.mark.parametrize("exact", [True, False])
def test_a_cpu_on_which_int8_gains_little_says_so(monkeypatch, exact):
    monkeypatch.setattr(doctor, "sums_int8_exactly", lambda: exact)
    assert ("no VNNI" in found("CPU").detail) != exact


def test_everything_that_is_missing_has_advice():
    for finding in examine():
        assert finding.present or finding.advice, finding.name


def test_a_bare_install_runs_nothing_and_says_what_to_install(without, capsys):
    without("cv2", "onnxruntime", "openvino", "torch")
    assert will_run(examine()) == []
    assert cli.main(["doctor"]) == 1
    shown = capsys.readouterr().out
    assert "--  OpenCV" in shown
    assert "-> pip install edge-ssd[cpu]; on a Jetson, JetPack's python3-opencv" in shown
    assert shown.splitlines()[-1] == "nothing will run yet; follow the advice above"


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        ("libGL.so.1: cannot open shared object file: No such file or directory", "libgl1"),
        ("numpy.core.multiarray failed to import", "pip install 'numpy<2'"),
    ],
)
def test_an_opencv_that_cannot_be_loaded_says_why(monkeypatch, without, error, advice):
    class NoLibrary:
        def find_spec(self, name, *_):
            if name == "cv2":
                raise ImportError(error)

    monkeypatch.delitem(sys.modules, "cv2")
    monkeypatch.setattr(sys, "meta_path", [NoLibrary(), *sys.meta_path])
    finding = found("OpenCV")
    assert error in finding.detail
    assert advice in finding.advice


def test_parts_that_opencv_was_built_without(monkeypatch):
    build = "  GUI:                           NONE\n\n  Video I/O:\n    FFMPEG:    YES\n    GStreamer:   NO\n"
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: build)
    assert found("video files and network streams").present
    assert not found("cameras through V4L2").present
    assert not found("CSI cameras (Jetson)").present
    window = found("windows (--show)")
    assert not window.present
    assert window.advice == "install opencv-python, not opencv-python-headless"


@pytest.fixture
def camera(monkeypatch, tmp_path):
    """A camera node, and a function that sets what asking it for its formats gives."""
    (tmp_path / "video0").touch()
    monkeypatch.setattr(doctor, "_DEVICES", tmp_path)

    def answering(answer):
        def formats(device):
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(doctor, "camera_formats", formats)
        return found(f"camera {tmp_path}/video0")

    return answering


def test_a_camera_says_its_formats(camera):
    finding = camera(("YUYV", "MJPG"))
    assert (finding.present, finding.detail) == (True, "unnamed: YUYV, MJPG")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (PermissionError(13, "Permission denied"), "group 'video'"),
        (OSError(16, "Device or resource busy"), "another program"),
        ((), "take another /dev/video"),  # the node of a camera's metadata
    ],
)
def test_a_camera_that_cannot_be_used_says_what_to_do(camera, answer, said):
    finding = camera(answer)
    assert not finding.present
    assert said in finding.advice


def test_formats_as_the_kernel_lists_them(monkeypatch, tmp_path):
    """VIDIOC_ENUM_FMT of <linux/videodev2.h>: 64 bytes, the code at byte 44, EINVAL past the last."""
    (tmp_path / "video0").touch()
    codes = {(1, 0): b"YUYV", (1, 1): b"MJPG", (9, 0): b"NV12"}

    def ioctl(handle, request, data):
        assert request == 0xC0405602
        assert len(data) == 64
        index, kind = struct.unpack_from("II", data)
        if (kind, index) not in codes:
            raise OSError(22, "Invalid argument")
        return data[:44] + codes[kind, index] + data[48:]

    monkeypatch.setattr(v4l2.fcntl, "ioctl", ioctl)
    assert camera_formats(tmp_path / "video0") == ("YUYV", "MJPG", "NV12")


def test_a_file_that_is_no_camera_has_no_formats(tmp_path):
    (tmp_path / "video0").touch()
    assert camera_formats(tmp_path / "video0") == ()


# ---------------------------------------------------------------------------------------------------------
# NVIDIA

ORIN = GpuInfo("Orin (nvgpu)", (8, 7), True, "540.4.0", (12, 6))
RTX = GpuInfo("NVIDIA RTX 6000 Ada", (8, 9), False, "570.86", (12, 8))


@pytest.fixture
def with_gpu(monkeypatch):
    """Puts a GPU, packages and their versions on this machine."""

    def put(gpu, modules=(), **versions):
        versions = {name.replace("_", "-"): version for name, version in versions.items()}
        monkeypatch.setattr(gpu_part, "gpu_info", lambda: gpu)
        monkeypatch.setattr(gpu_part, "_version_of", lambda package: versions.get(package, ""))
        real = importlib.util.find_spec
        has_cupy = any(name.startswith("cupy") for name in versions)
        monkeypatch.setattr(
            gpu_part.importlib.util,
            "find_spec",
            lambda name: (has_cupy or None) if name == "cupy" else real(name),
        )
        for name in ("tensorrt", "tensorrt_rtx"):
            module = type(name, (), {"__version__": "10.3.0"}) if name in modules else None
            monkeypatch.setitem(sys.modules, name, module)

    return put


def test_a_machine_without_a_gpu_says_what_works_there():
    finding = gpu_part.gpu_findings()[0]
    if finding.present:
        pytest.skip("this machine has a GPU")
    assert finding.name == "NVIDIA GPU"
    assert "models run on the CPU" in finding.advice


@pytest.mark.parametrize(("gpu", "kind"), [(ORIN, "integrated, shares the CPU's memory"), (RTX, "discrete")])
def test_a_gpu_is_described(with_gpu, gpu, kind):
    with_gpu(gpu)
    assert kind in found("NVIDIA GPU").detail
    assert "compute capability 8." in found("NVIDIA GPU").detail
    assert f"runs CUDA {gpu.cuda[0]}.{gpu.cuda[1]}" in found("CUDA driver").detail


def test_engines_run_where_gpu_cupy_and_tensorrt_are(with_gpu):
    with_gpu(RTX, ["tensorrt"], cupy_cuda12x="13.4")
    assert found("CuPy") == Finding("CuPy", True, "13.4 for CUDA 12")
    able = will_run(examine())
    assert "TensorRT engines on the GPU: edge-ssd run --model M.fp16.engine" in able
    assert any("building for tensorrt, cpu" in sentence for sentence in able)
    with_gpu(RTX, ["tensorrt"])
    assert not any("on the GPU" in sentence for sentence in will_run(examine()))


def test_tensorrt_rtx_does_not_run_on_a_jetson(with_gpu):
    with_gpu(ORIN, ["tensorrt", "tensorrt_rtx"], cupy_cuda12x="13.4")
    assert not found("TensorRT-RTX").present
    assert "does not run on this GPU" in found("TensorRT-RTX").detail
    assert "TensorRT engines on the GPU: edge-ssd run --model M.fp16.engine" in will_run(examine())
    with_gpu(RTX, ["tensorrt_rtx"])
    assert found("TensorRT-RTX").present


@pytest.mark.parametrize(
    ("cuda", "said"),
    [((11, 4), "a driver that runs CUDA 12 or newer"), ((12, 6), "[cuda12]"), ((14, 0), "[cuda13]")],
)
def test_the_cupy_that_fits_the_driver_is_named(with_gpu, cuda, said):
    with_gpu(GpuInfo("Orin (nvgpu)", (8, 7), True, "540", cuda))
    assert said in found("CuPy").advice


@pytest.mark.parametrize(
    ("versions", "said"),
    [
        ({}, "pip install edge-ssd[cuda12]"),
        ({"cupy_cuda13x": "14.0"}, "pip uninstall cupy-cuda13x, then pip install edge-ssd[cuda12]"),
        ({"cupy_cuda12x": "13.4", "cupy_cuda13x": "14.0"}, "pip uninstall cupy-cuda12x cupy-cuda13x"),
    ],
)
def test_a_cupy_that_does_not_fit_the_driver(with_gpu, versions, said):
    with_gpu(RTX, **versions)
    assert not found("CuPy").present
    assert said in found("CuPy").advice


def test_a_cupy_for_an_older_cuda_than_the_drivers_fits(with_gpu):
    with_gpu(GpuInfo("GB10", (12, 1), True, "580", (13, 0)), cupy_cuda12x="13.4")
    assert found("CuPy").present


def test_pycuda_is_for_integrated_gpus(with_gpu):
    with_gpu(ORIN)
    assert found("PyCUDA").advice == "pip install edge-ssd[jetson]"
    with_gpu(RTX)
    assert "Jetson alone" in found("PyCUDA").advice


def test_a_tensorrt_whose_libraries_are_missing_says_so(with_gpu, monkeypatch):
    with_gpu(RTX)

    def broken(name):
        raise ImportError("libnvinfer.so.10: cannot open shared object file")

    monkeypatch.setattr(gpu_part.importlib, "import_module", broken)
    assert "libnvinfer.so.10" in found("TensorRT").detail
    assert "JetPack brings it" in found("TensorRT").advice


@pytest.mark.parametrize(("mode", "present"), [("0000", True), ("0002", False)])
def test_a_jetson_says_its_jetpack_and_power_mode(monkeypatch, tmp_path, mode, present):
    (tmp_path / "release").write_text("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n")
    (tmp_path / "status").write_text(f"pmode:{mode} fmode:fanNull\n")
    monkeypatch.setattr(gpu_part, "_TEGRA_RELEASE", tmp_path / "release")
    monkeypatch.setattr(gpu_part, "_POWER_MODE", tmp_path / "status")
    assert found("JetPack").detail == "JetPack 6 (Jetson Linux 36.4.3)"
    power = found("power mode")
    assert power.present == present
    assert ("jetson_clocks" in power.advice) != present


def test_the_driver_is_asked_through_its_own_library(monkeypatch):
    """Calls and numbers as cuda.h has them."""
    answers = {75: 8, 76: 7, 18: 1}

    class Cuda:
        def cuInit(self, flags):
            return 0

        def cuDeviceGet(self, device, ordinal):
            return 0

        def cuDeviceGetName(self, name, length, device):
            name.value = b"Orin (nvgpu)"
            return 0

        def cuDriverGetVersion(self, version):
            version._obj.value = 12060
            return 0

        def cuDeviceGetAttribute(self, value, attribute, device):
            value._obj.value = answers[attribute]
            return 0

    monkeypatch.setattr(machine_gpu.ctypes, "CDLL", lambda name: Cuda())
    gpu = machine_gpu.gpu_info()
    assert (gpu.name, gpu.compute_capability, gpu.integrated, gpu.cuda) == (
        "Orin (nvgpu)",
        (8, 7),
        True,
        (12, 6),
    )
    monkeypatch.setattr(Cuda, "cuInit", lambda self, flags: 100)
    with pytest.raises(OSError, match="no NVIDIA GPU"):
        machine_gpu.gpu_info()
    monkeypatch.setattr(Cuda, "cuInit", lambda self, flags: 803)
    with pytest.raises(OSError, match="CUDA error 803"):
        machine_gpu.gpu_info()


def test_the_findings_as_json(capsys):
    assert cli.main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report) == {"findings", "will_run"}
    assert {"name", "present", "detail", "advice"} == set(report["findings"][0])
