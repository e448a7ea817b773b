"""What this machine has for running an SSD, what will run, and what to do about the rest."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

from .cpu_info import cpu_name, usable_cores

_DEVICES = Path("/dev")


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
        _torch(),
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
    return Finding("CPU", True, f"{cpu_name()}, {usable_cores()} usable of {os.cpu_count()} cores")


def _opencv():
    try:
        import cv2
    except ImportError as error:
        advice = "pip install edge-ssd[cpu]; on a Jetson, JetPack's python3-opencv"
        if "libGL" in str(error):
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


def _part_of_opencv(build, part, purpose, advice):
    present = _built_with(build, part)
    detail = f"{part} in OpenCV" if present else f"this OpenCV has no {part}"
    return Finding(purpose, present, detail, "" if present else advice)


def _built_with(build, part):
    """Whether OpenCV's build information says more than NO or NONE of a part."""
    found = re.search(rf"^\s*{re.escape(part)}:\s*(\w+)", build, re.MULTILINE)
    return found is not None and found.group(1) not in ("NO", "NONE")


def _onnxruntime():
    try:
        import onnxruntime
    except ImportError as error:
        return Finding("ONNX Runtime", False, str(error), "pip install edge-ssd[cpu]")
    return Finding(
        "ONNX Runtime", True, f"{onnxruntime.__version__}, {', '.join(onnxruntime.get_available_providers())}"
    )


def _torch():
    # Importing it would take seconds.
    if importlib.util.find_spec("torch") is None:
        return Finding(
            "PyTorch", False, "not installed; runs checkpoints, trains", "pip install edge-ssd[train]"
        )
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        version = "of unknown version"
    return Finding("PyTorch", True, version)


def _cameras():
    devices = sorted(_DEVICES.glob("video*"))
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
