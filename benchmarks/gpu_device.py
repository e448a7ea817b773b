"""What gpu-check ran on: the GPU, the versions, and what its memory and its launches cost at least."""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

SECTION = "device"
COPY, EMPTY_LAUNCH = "device-to-device copy", "empty launch in a graph"

_PACKAGES = ("torch", "torchvision", "tensorrt", "tensorrt_rtx", "numpy", "opencv", "onnxruntime")
_DISTRIBUTIONS = {
    "opencv": ("opencv-python", "opencv-python-headless"),
    "tensorrt_rtx": ("tensorrt-rtx", "tensorrt-rtx-cu13", "tensorrt-rtx-cu12", "tensorrt_rtx"),
}
_ROOT = Path(__file__).resolve().parent.parent
_MOST_COPY_BYTES = 1 << 30


def run(records):
    """Adds the rows of this section."""
    with records.row(SECTION, "GPU") as values:
        values.update(gpu_facts())
    with records.row(SECTION, "software") as values:
        values.update(software())
    from edge_ssd.kernels.device import Device

    from .gpu_timing import GraphTimer

    device = Device()
    timer = GraphTimer(device)
    with records.row(SECTION, COPY) as values:
        values.update(copy_bandwidth(device, timer))
    with records.row(SECTION, EMPTY_LAUNCH) as values:
        values.update(empty_launch(device, timer))


def gpu_facts():
    """What the driver says of the GPU."""
    from cupy.cuda import runtime

    from edge_ssd.gpu_info import gpu_info

    properties, info = runtime.getDeviceProperties(runtime.getDevice()), gpu_info()
    return {
        "name": info.name,
        "compute_capability": "{}.{}".format(*info.compute_capability),
        "multiprocessors": properties["multiProcessorCount"],
        "l2_mib": properties["l2CacheSize"] / 2**20,
        "memory_gib": properties["totalGlobalMem"] / 2**30,
        "integrated": str(info.integrated),
        "driver": info.driver or _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        "driver_cuda": "{}.{}".format(*info.cuda),
    }


def software():
    """Versions of what runs, and the commit of this checkout."""
    import cupy

    cuda = cupy.cuda.runtime.runtimeGetVersion()
    versions = {
        "commit": commit(_ROOT),
        "python": platform.python_version(),
        "cuda": f"{cuda // 1000}.{cuda % 1000 // 10}",
        "cupy": cupy.__version__,
    }
    return versions | {name: version for name in _PACKAGES if (version := _version(name))}


def commit(root):
    """The commit of a checkout, with "+ changes" when files differ from it; "unknown" without git."""
    found = _output("git", "-C", str(root), "rev-parse", "--short=12", "HEAD")
    changed = found and _output("git", "-C", str(root), "status", "--porcelain", "--untracked-files=no")
    return (found + (" + changes" if changed else "")) or "unknown"


def copy_bandwidth(device, timer):
    """Bytes read and written per second by a large copy within the GPU's memory."""
    import cupy
    from cupy.cuda import runtime

    free, _ = runtime.memGetInfo()
    nbytes = min(_MOST_COPY_BYTES, free // 8) // 256 * 256
    source = cupy.arange(nbytes // 4, dtype=cupy.int32)
    target = cupy.empty_like(source)
    device.stream.synchronize()

    def copy():
        stream = cupy.cuda.get_current_stream().ptr
        runtime.memcpyAsync(target.data.ptr, source.data.ptr, nbytes, runtime.memcpyDeviceToDevice, stream)

    timing = timer([copy])
    if not bool((source == target).all()):
        raise RuntimeError("the copy does not equal its source")
    gb_per_s = 2 * nbytes / timing.median_us / 1e3
    return {"gb_per_s": gb_per_s, "bytes": 2 * nbytes, **timing.as_values()}


def empty_launch(device, timer):
    """What a kernel that does next to nothing takes: no launch inside a graph is shorter."""
    import numpy as np
    from edge_ssd.kernels import clock_ns

    times = device.empty((4,), np.uint64)
    return timer([lambda: clock_ns(device, times, 0)]).as_values()


def _version(name):
    for distribution in _DISTRIBUTIONS.get(name, (name,)):
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    # JetPack's own packages are no pip distributions.
    module = sys.modules.get({"opencv": "cv2"}.get(name, name))
    return getattr(module, "__version__", "")


def _output(*command):
    """What a program writes; "" when it is not there or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
