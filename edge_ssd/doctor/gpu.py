"""The part of `edge-ssd doctor` about NVIDIA: GPU, driver, CuPy, TensorRT, Jetson."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import re
from pathlib import Path

from ..machine.gpu import GpuInfo, gpu_info
from .finding import Finding

_TEGRA_RELEASE = Path("/etc/nv_tegra_release")
_POWER_MODE = Path("/var/lib/nvpmodel/status")
_JETPACKS = {"35": "JetPack 5", "36": "JetPack 6", "38": "JetPack 7"}  # by release of Jetson Linux

_NO_GPU = "needed on a machine with an NVIDIA GPU alone"


def gpu_findings() -> list[Finding]:
    """Findings about the GPU and what uses it. Makes no CUDA context."""
    try:
        gpu = gpu_info()
    except OSError as error:
        advice = "models run on the CPU; with an NVIDIA GPU, install its driver and see that nvidia-smi works"
        return [Finding("NVIDIA GPU", False, str(error), advice), *_packages(None), *jetson_findings()]
    kind = "integrated, shares the CPU's memory" if gpu.integrated else "discrete"
    capability = "{}.{}".format(*gpu.compute_capability)
    findings = [
        Finding("NVIDIA GPU", True, f"{gpu.name}, compute capability {capability}, {kind}"),
        Finding(
            "CUDA driver",
            True,
            f"{gpu.driver or 'of unknown version'}, runs CUDA {gpu.cuda[0]}.{gpu.cuda[1]}",
        ),
    ]
    return [*findings, *_packages(gpu), *jetson_findings()]


def _packages(gpu: GpuInfo | None) -> list[Finding]:
    return [_cupy(gpu), _pycuda(gpu), _tensorrt(gpu), _tensorrt_rtx(gpu)]


def _cupy(gpu: GpuInfo | None) -> Finding:
    extra = _cupy_extra(gpu)
    if importlib.util.find_spec("cupy") is None:
        return Finding("CuPy", False, "not installed; launches the kernels", extra)
    majors = [major for major in (11, 12, 13) if _version_of(f"cupy-cuda{major}x")]
    if not majors:
        return Finding(
            "CuPy", True, f"{_version_of('cupy') or 'of unknown version'}, for the CUDA of this system"
        )
    detail = f"{_version_of(f'cupy-cuda{majors[0]}x')} for CUDA {majors[0]}"
    if len(majors) > 1:
        names = " ".join(f"cupy-cuda{major}x" for major in majors)
        return Finding(
            "CuPy", False, f"installed {len(majors)} times", f"pip uninstall {names}, then {extra}"
        )
    if gpu and majors[0] > gpu.cuda[0]:
        advice = f"pip uninstall cupy-cuda{majors[0]}x, then {extra}; or install a newer driver"
        return Finding("CuPy", False, f"{detail}; the driver runs CUDA {gpu.cuda[0]} at most", advice)
    return Finding("CuPy", True, detail)


def _cupy_extra(gpu: GpuInfo | None) -> str:
    if gpu is None:
        return f"{_NO_GPU}: pip install edge-ssd[cuda12] or [cuda13]"
    if gpu.cuda[0] < 12:
        return "install a driver that runs CUDA 12 or newer, then: pip install edge-ssd[cuda12]"
    return f"pip install edge-ssd[cuda{min(gpu.cuda[0], 13)}]"


def _pycuda(gpu: GpuInfo | None) -> Finding:
    if _version_of("pycuda"):
        return Finding("PyCUDA", True, _version_of("pycuda"))
    if gpu and gpu.integrated:
        return Finding(
            "PyCUDA", False, "not installed; maps frames for the GPU", "pip install edge-ssd[jetson]"
        )
    return Finding("PyCUDA", False, "not installed", "needed on a Jetson alone; CuPy maps memory elsewhere")


def _tensorrt(gpu: GpuInfo | None) -> Finding:
    advice = "on a Jetson JetPack brings it; on a desktop or server: pip install edge-ssd[tensorrt]"
    return _imported("TensorRT", "tensorrt", advice if gpu else f"{_NO_GPU}; {advice}")


def _tensorrt_rtx(gpu: GpuInfo | None) -> Finding:
    from ..build_engine.tensorrt_api import RTX_TARGETS

    advice = "for GeForce RTX PCs, and builds without a GPU: pip install edge-ssd[rtx]"
    finding = _imported("TensorRT-RTX", "tensorrt_rtx", advice)
    if finding.present and gpu and gpu.compute_capability not in RTX_TARGETS:
        detail = f"{finding.detail}, which does not run on this GPU"
        return Finding("TensorRT-RTX", False, detail, "use TensorRT; it can still build for GPUs elsewhere")
    return finding


def _imported(name: str, module: str, advice: str) -> Finding:
    """A package that is there only when its libraries load, too."""
    try:
        return Finding(name, True, importlib.import_module(module).__version__)
    except (ImportError, OSError, AttributeError) as error:
        return Finding(name, False, " ".join(str(error).split()), advice)


def _version_of(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def jetson_findings() -> list[Finding]:
    """JetPack and the power mode, on a Jetson; nothing elsewhere."""
    if not _TEGRA_RELEASE.is_file():
        return []
    found = re.search(r"R(\d+).*?REVISION:\s*([\d.]+)", _TEGRA_RELEASE.read_text(errors="replace"))
    release = f"Jetson Linux {found[1]}.{found[2]}" if found else "Jetson Linux of unknown release"
    jetpack = _JETPACKS.get(found[1], "JetPack of unknown version") if found else "JetPack of unknown version"
    findings = [Finding("JetPack", True, f"{jetpack} ({release})")]
    if _POWER_MODE.is_file():
        mode = re.search(r"pmode:\s*(\d+)", _POWER_MODE.read_text(errors="replace"))
        number = int(mode[1]) if mode else -1
        advice = "" if number == 0 else "for full speed: sudo nvpmodel -m 0, then sudo jetson_clocks"
        findings.append(
            Finding("power mode", number == 0, f"mode {number}" if mode else "not readable", advice)
        )
    return findings
