"""What this machine has for running an SSD, what will run, and what to do about the rest."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for.

    name: what.   present: whether it is there and usable.   detail: version, or what is wrong.
    advice: what to do about it; empty when nothing needs doing.
    """

    name: str
    present: bool
    detail: str
    advice: str = ""


def examine():
    """Everything that is known of this machine, as a list of Findings. Opens no camera, starts no GPU."""
    return [
        _python(),
        _cpu(),
        *_opencv(),
        _onnxruntime(),
        _package("PyTorch", ("torch",), "runs checkpoints and trains", "pip install edge-ssd[train]"),
        *_cameras(),
        _demo_model(),
    ]


def will_run(findings):
    """The kinds of run that are possible here, one sentence each."""
    present = {finding.name for finding in findings if finding.present}
    able = []
    if {"OpenCV", "ONNX Runtime"} <= present:
        able.append("ONNX models on the CPU: edge-ssd run --model M.onnx")
    if {"OpenCV", "PyTorch"} <= present:
        able.append("training checkpoints on the CPU: edge-ssd run --model RUN/best.pt")
    return able


def _python():
    return Finding("Python", True, f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def _cpu():
    from .cpu_info import usable_cores

    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith(("model name", "Model")):
                name = line.partition(":")[2].strip()
                break
    return Finding("CPU", True, f"{name}, {usable_cores()} usable of {os.cpu_count()} cores")


def _opencv():
    try:
        import cv2
    except ImportError as error:
        return [
            Finding(
                "OpenCV",
                False,
                str(error),
                "pip install edge-ssd[cpu]; on a Jetson, JetPack's python3-opencv",
            )
        ]
    build = cv2.getBuildInformation()
    has = {name: _built_with(build, name) for name in ("FFMPEG", "GStreamer", "v4l/v4l2", "GUI")}
    return [
        Finding("OpenCV", True, cv2.__version__),
        Finding(
            "video files and network streams",
            has["FFMPEG"],
            "FFmpeg in OpenCV",
            "" if has["FFMPEG"] else "install an OpenCV with FFmpeg",
        ),
        Finding(
            "cameras through V4L2",
            has["v4l/v4l2"],
            "V4L2 in OpenCV",
            "" if has["v4l/v4l2"] else "install an OpenCV with V4L2",
        ),
        Finding(
            "CSI cameras (Jetson)",
            has["GStreamer"],
            "GStreamer in OpenCV",
            "" if has["GStreamer"] else "on a Jetson use JetPack's OpenCV; elsewhere it is not needed",
        ),
        Finding(
            "windows (--show)",
            has["GUI"],
            "GUI in OpenCV",
            "" if has["GUI"] else "this is opencv-python-headless: install opencv-python",
        ),
    ]


def _built_with(build, name):
    for line in build.splitlines():
        key, _, value = line.strip().partition(":")
        if key.strip() == name:
            return bool(value.strip()) and not value.strip().startswith(("NO", "NONE"))
    return False


def _onnxruntime():
    try:
        import onnxruntime
    except ImportError as error:
        return Finding("ONNX Runtime", False, str(error), "pip install edge-ssd[cpu]")
    return Finding(
        "ONNX Runtime", True, f"{onnxruntime.__version__}, {', '.join(onnxruntime.get_available_providers())}"
    )


def _package(name, distributions, purpose, advice):
    for distribution in distributions:
        if importlib.util.find_spec(distribution) is not None:
            return Finding(name, True, importlib.metadata.version(distribution))
    return Finding(name, False, f"not installed; {purpose}", advice)


def _cameras():
    devices = sorted(Path("/dev").glob("video*"))
    if not devices:
        return [
            Finding("cameras", False, "no /dev/video*", "plug one in, or use a file, a stream or demo://")
        ]
    findings = []
    for device in devices:
        label = Path("/sys/class/video4linux", device.name, "name")
        name = label.read_text().strip() if label.is_file() else "unnamed"
        readable = os.access(device, os.R_OK | os.W_OK)
        advice = "" if readable else "no permission: add the user to the group 'video' and log in again"
        findings.append(Finding(f"camera {device}", readable, name, advice))
    return findings


def _demo_model():
    from .run import DEMO_MODEL

    present = DEMO_MODEL.is_file() and DEMO_MODEL.with_suffix(".json").is_file()
    return Finding("demo model", present, "used without --model", "" if present else "reinstall edge-ssd")
