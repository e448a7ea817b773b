"""What NVIDIA GPU this is, asked of the driver itself: no CUDA toolkit, no package, no context."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# CUdevice_attribute, as cuda.h numbers them since CUDA 5.
_MAJOR, _MINOR, _INTEGRATED = 75, 76, 18
_ERROR_NO_DEVICE = 100


@dataclass(frozen=True)
class GpuInfo:
    """The first GPU.

    name: the GPU's own.   compute_capability: (major, minor).   integrated: whether it shares the CPU's
    memory, as on a Jetson.   driver: of the kernel module, "" if not told.   cuda: (major, minor), the newest
    CUDA that the driver runs.
    """

    name: str
    compute_capability: tuple[int, int]
    integrated: bool
    driver: str
    cuda: tuple[int, int]


def gpu_info() -> GpuInfo:
    """The GpuInfo of this machine. Raises OSError saying what is missing: the driver, or a GPU behind it."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        raise OSError("no NVIDIA driver on this machine (libcuda.so.1 is not there)") from None
    status = cuda.cuInit(0)
    if status:
        problem = (
            "no NVIDIA GPU"
            if status == _ERROR_NO_DEVICE
            else f"the NVIDIA driver fails (CUDA error {status})"
        )
        raise OSError(f"{problem}; nvidia-smi says more")
    device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    _checked(cuda.cuDeviceGet(ctypes.byref(device), 0))
    _checked(cuda.cuDeviceGetName(name, len(name), device))
    version = _number(cuda.cuDriverGetVersion)
    major, minor, integrated = (
        _number(cuda.cuDeviceGetAttribute, attribute, device) for attribute in (_MAJOR, _MINOR, _INTEGRATED)
    )
    return GpuInfo(
        name.value.decode(errors="replace"),
        (major, minor),
        bool(integrated),
        _driver_version(),
        (version // 1000, version % 1000 // 10),
    )


def _number(function: Callable[..., int], *arguments: Any) -> int:
    value = ctypes.c_int()
    _checked(function(ctypes.byref(value), *arguments))
    return value.value


def _checked(status: int) -> None:
    if status:
        raise OSError(f"the NVIDIA driver fails (CUDA error {status}); nvidia-smi says more")


def _driver_version() -> str:
    for path in ("/sys/module/nvidia/version", "/sys/module/nvgpu/version"):
        if Path(path).is_file():
            return Path(path).read_text().strip()
    return ""
