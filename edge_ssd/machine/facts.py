"""What a benchmark ran on: processor, clocks, power mode, versions, commit."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from ..version import __version__
from .cpu import cpu_name, usable_cores
from .gpu import gpu_info

ROOT = Path(__file__).resolve().parent.parent.parent

# By the name in a report: the distributions that bring it.
_PACKAGES = {
    "numpy": ("numpy",),
    "opencv": ("opencv-python", "opencv-python-headless"),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "openvino": ("openvino",),
    "torch": ("torch",),
    "torchvision": ("torchvision",),
    "cupy": ("cupy-cuda12x", "cupy-cuda13x", "cupy"),
    "tensorrt": ("tensorrt",),
    "tensorrt_rtx": ("tensorrt-rtx", "tensorrt-rtx-cu13", "tensorrt-rtx-cu12"),
}
_CPU = Path("/sys/devices/system/cpu")
_INSTRUCTIONS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "amx_bf16",
    "amx_int8",
    "asimddp",
)


def machine_facts() -> dict[str, Any]:
    """A dict of text and numbers: what a reader has to know to compare a report with another."""
    return {
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "instructions": " ".join(name for name in _INSTRUCTIONS if name in _cpu_flags()),
        "memory_gib": _memory_gib(),
        "clock_governor": _read(_CPU / "cpu0/cpufreq/scaling_governor"),
        "board": _read(Path("/proc/device-tree/model")).rstrip("\0"),
        "power_mode": _power_mode(),
        **_gpu_facts(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "versions": versions(),
        "commit": commit(ROOT),
        "command": shlex.join([_program(), *sys.argv[1:]]),
    }


def _program() -> str:
    """What was called: python -m edge_ssd is edge-ssd."""
    name = Path(sys.argv[0]).name
    return "edge-ssd" if name == "__main__.py" else name


def versions() -> dict[str, str]:
    """{package: version} of this package, Python and what it runs with, as far as installed."""
    found = {"edge_ssd": __version__, "python": platform.python_version()}
    return found | {name: version for name in _PACKAGES if (version := _version(name))}


def commit(root: Path) -> str:
    """The commit of a checkout, with "+ changes" when files differ from it. Without git, and of an installed package,
    which may lie inside somebody else's checkout: what the environment's EDGE_SSD_COMMIT says, else "unknown"."""
    found = changed = ""
    if (root / ".git").exists():
        found = output_of("git", "-C", str(root), "rev-parse", "--short=12", "HEAD")
        changed = found and output_of("git", "-C", str(root), "status", "--porcelain", "--untracked-files=no")
    return (found + (" + changes" if changed else "")) or os.environ.get("EDGE_SSD_COMMIT") or "unknown"


def clock_mhz() -> list[float]:
    """Current clocks of the CPU's cores, a list; empty where the kernel does not tell."""
    texts = [_read(path) for path in sorted(_CPU.glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))]
    return [int(text) / 1e3 for text in texts if text]


def throttle_events() -> int:
    """How often the CPU's cores have throttled for heat since the system started; 0 where it is not told."""
    texts = [_read(path) for path in _CPU.glob("cpu[0-9]*/thermal_throttle/core_throttle_count")]
    return sum(int(text) for text in texts if text)


def gpu_memory_mib(process_id: int | None) -> float | None:
    """GPU memory of a process, as NVIDIA's driver tells; None where it does not (a Jetson), or for none."""
    listed = output_of("nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits")
    used = [
        line.partition(",")[2].strip()
        for line in listed.splitlines()
        if line.split(",")[0] == str(process_id)
    ]
    return float(used[0]) if used and used[0].isdecimal() else None


def output_of(*command: str) -> str:
    """What a program writes, stripped; "" when it is not there or fails.   command: the program and its arguments."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _version(name: str) -> str:
    for distribution in _PACKAGES[name]:
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    # JetPack's own packages are no distributions that pip knows.
    return getattr(sys.modules.get({"opencv": "cv2"}.get(name, name)), "__version__", "")


def _cpu_flags() -> list[str]:
    for line in _read(Path("/proc/cpuinfo")).splitlines():
        if line.startswith(("flags", "Features")):
            return line.partition(":")[2].split()
    return []


def _memory_gib() -> float | None:
    if not hasattr(os, "sysconf"):
        return None
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def _power_mode() -> str:
    """A Jetson's, as nvpmodel has it: "15W"."""
    lines = [line for line in output_of("nvpmodel", "-q").splitlines() if "NV Power Mode" in line]
    return lines[0].partition(":")[2].strip() if lines else ""


def _gpu_facts() -> dict[str, Any]:
    try:
        gpu = gpu_info()
    except OSError:
        return {"gpu": ""}
    return {"gpu": gpu.name, "gpu_driver": gpu.driver, "gpu_integrated": gpu.integrated}


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
