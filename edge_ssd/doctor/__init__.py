"""What this machine has for running an SSD, what will run, and what to do about the rest."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
from collections.abc import Iterable
from pathlib import Path

from ..engines.choice import PRECISION_VARIABLE, choose_cpu_engine
from ..machine.cpu import cpu_name, sums_int8_exactly, usable_cores
from .finding import Finding
from .gpu import gpu_findings
from .v4l2 import camera_formats

_DEVICES = Path("/dev")


def examine() -> list[Finding]:
    """Everything that is known of this machine, as a list of Findings. Starts no camera and no GPU."""
    return [
        _python(),
        _cpu(),
        *_opencv(),
        _onnxruntime(),
        _openvino(),
        *_engine_of_onnx(),
        _onnx(),
        _torch(),
        *gpu_findings(),
        *_cameras(),
        _demo_model(),
    ]


def will_run(findings: Iterable[Finding]) -> list[str]:
    """The kinds of run that are possible here, one sentence each.   findings: of `examine`."""
    present = {finding.name for finding in findings if finding.present}
    able = []
    if "OpenCV" in present and present & {"ONNX Runtime", "OpenVINO"}:
        able.append("ONNX models on the CPU: edge-ssd run --model M.onnx")
    if {"OpenCV", "PyTorch"} <= present:
        able.append("training checkpoints on the CPU: edge-ssd run --model RUN/best.pt")
    engines = [name for name in ("TensorRT", "TensorRT-RTX") if name in present]
    if {"NVIDIA GPU", "CuPy"} <= present and engines:
        able.append(f"{' and '.join(engines)} engines on the GPU: edge-ssd run --model M.fp16.engine")
    if {"OpenCV", "ONNX Runtime", "ONNX"} <= present:
        able.append(f"building for {', '.join(_build_targets(present))}: edge-ssd build M.onnx --runtime ...")
    return able


def _build_targets(present: set[str]) -> list[str]:
    """Values of `edge-ssd build --runtime` that work here."""
    targets = ["tensorrt"] if {"TensorRT", "NVIDIA GPU"} <= present else []
    return [*targets, *(["rtx"] if "TensorRT-RTX" in present else []), "cpu"]


def _python() -> Finding:
    return Finding("Python", True, f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def _cpu() -> Finding:
    int8 = "" if sums_int8_exactly() else ", no VNNI: INT8 gains less"
    return Finding("CPU", True, f"{cpu_name()}, {usable_cores()} usable of {os.cpu_count()} cores{int8}")


def _opencv() -> list[Finding]:
    try:
        import cv2
    except ImportError as error:
        advice = "pip install edge-ssd[cpu]; on a Jetson, JetPack's python3-opencv"
        if "numpy.core" in str(error) or "_ARRAY_API" in str(error):
            advice = "this OpenCV was built for NumPy 1: pip install 'numpy<2'"
        elif "libGL" in str(error):
            advice = "install the system's libgl1, or opencv-python-headless in place of opencv-python"
        return [Finding("OpenCV", False, str(error), advice)]
    build = cv2.getBuildInformation()
    jetson_only = "on a Jetson use JetPack's OpenCV; elsewhere it is not needed"
    return [
        Finding("OpenCV", True, cv2.__version__),
        _part_of_opencv(build, "FFMPEG", "video files and network streams", "install an OpenCV with FFmpeg"),
        _part_of_opencv(build, "v4l/v4l2", "cameras through V4L2", "install an OpenCV with V4L2"),
        _part_of_opencv(build, "GStreamer", "CSI cameras (Jetson)", jetson_only),
        _part_of_opencv(
            build, "GUI", "windows (--show)", "install opencv-python, not opencv-python-headless"
        ),
    ]


def _part_of_opencv(build: str, part: str, purpose: str, advice: str) -> Finding:
    present = _built_with(build, part)
    detail = f"{part} in OpenCV" if present else f"this OpenCV has no {part}"
    return Finding(purpose, present, detail, "" if present else advice)


def _built_with(build: str, part: str) -> bool:
    """Whether OpenCV's build information says more than NO or NONE of a part."""
    found = re.search(rf"^\s*{re.escape(part)}:\s*(\w+)", build, re.MULTILINE)
    return found is not None and found.group(1) not in ("NO", "NONE")


def _onnxruntime() -> Finding:
    try:
        import onnxruntime
    except ImportError as error:
        return Finding("ONNX Runtime", False, str(error), "pip install edge-ssd[cpu]")
    return Finding(
        "ONNX Runtime", True, f"{onnxruntime.__version__}, {', '.join(onnxruntime.get_available_providers())}"
    )


def _openvino() -> Finding:
    if importlib.util.find_spec("openvino") is None:
        advice = "pip install edge-ssd[openvino], where INT8 or BF16 on an x86 CPU is wanted"
        return Finding("OpenVINO", False, "not installed; a second engine for the CPU", advice)
    return Finding("OpenVINO", True, importlib.metadata.version("openvino"))


def _engine_of_onnx() -> list[Finding]:
    """Which engine `auto` takes for an ONNX model, and in which precision; nothing where there is none."""
    if not any(importlib.util.find_spec(name) for name in ("onnxruntime", "openvino")):
        return []
    try:
        engines = {name: choose_cpu_engine(name) for name in ("M.onnx", "M.int8.onnx")}
    except (ValueError, ImportError) as error:
        return [Finding("--engine auto", False, str(error), f"unset {PRECISION_VARIABLE}, or correct it")]
    detail = ", ".join(f"{name} in {engine.name} ({engine.precision})" for name, engine in engines.items())
    advice = ""
    if engines["M.onnx"].precision == "bf16":
        advice = (
            f"bf16 is faster, its boxes and scores differ a little; {PRECISION_VARIABLE}=fp32 turns it off"
        )
    return [Finding("--engine auto", True, detail, advice)]


def _onnx() -> Finding:
    if importlib.util.find_spec("onnx") is None:
        return Finding("ONNX", False, "not installed; builds FP16 and INT8", "pip install edge-ssd[build]")
    return Finding("ONNX", True, importlib.metadata.version("onnx"))


def _torch() -> Finding:
    # Importing it would take seconds.
    if importlib.util.find_spec("torch") is None:
        return Finding(
            "PyTorch", False, "not installed; runs checkpoints, trains", "pip install edge-ssd[train]"
        )
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return Finding("PyTorch", True, "of unknown version")
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers and tuple(map(int, numbers.groups())) < (2, 10):
        advice = (
            "before 2.10 it refuses checkpoints from elsewhere, which it cannot read safely: see SECURITY.md"
        )
        return Finding("PyTorch", True, version, advice)
    return Finding("PyTorch", True, version)


def _cameras() -> list[Finding]:
    devices = sorted(_DEVICES.glob("video*"))
    if not devices:
        return [
            Finding("cameras", False, "no /dev/video*", "plug one in, or use a file, a stream or demo://")
        ]
    findings = []
    for device in devices:
        label = Path("/sys/class/video4linux", device.name, "name")
        name = label.read_text().strip() if label.is_file() else "unnamed"
        findings.append(_camera(device, name))
    return findings


def _camera(device: Path, name: str) -> Finding:
    try:
        formats = camera_formats(device)
    except PermissionError:
        advice = "no permission: add the user to the group 'video' and log in again"
        return Finding(f"camera {device}", False, name, advice)
    except OSError as error:
        advice = "is another program using it? Unplug it and plug it in again"
        return Finding(f"camera {device}", False, f"{name}: {error.strerror}", advice)
    if not formats:
        return Finding(f"camera {device}", False, f"{name}: gives no pictures", "take another /dev/video*")
    return Finding(f"camera {device}", True, f"{name}: {', '.join(formats)}")


def _demo_model() -> Finding:
    from ..models import DEMO_MODEL

    present = DEMO_MODEL.is_file() and DEMO_MODEL.with_suffix(".json").is_file()
    return Finding("demo model", present, "used without --model", "" if present else "reinstall edge-ssd")
