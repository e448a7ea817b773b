"""What gpu-check ran on: the GPU, the versions, and what its memory and its launches cost at least."""

from __future__ import annotations

from edge_ssd.machine.facts import ROOT, commit, output_of, versions

SECTION = "device"
COPY, EMPTY_LAUNCH = "device-to-device copy", "empty launch in a graph"

_MOST_COPY_BYTES = 1 << 30


def run(records):
    """Adds the rows of this section."""
    with records.row(SECTION, "GPU") as values:
        values.update(gpu_facts())
    with records.row(SECTION, "software") as values:
        values.update(software())
    from edge_ssd.kernels.device import Device

    from .timing import GraphTimer

    device = Device()
    timer = GraphTimer(device)
    with records.row(SECTION, COPY) as values:
        values.update(copy_bandwidth(device, timer))
    with records.row(SECTION, EMPTY_LAUNCH) as values:
        values.update(empty_launch(device, timer))


def gpu_facts():
    """What the driver says of the GPU."""
    from cupy.cuda import runtime

    from edge_ssd.machine.gpu import gpu_info

    properties, info = runtime.getDeviceProperties(runtime.getDevice()), gpu_info()
    return {
        "name": info.name,
        "compute_capability": "{}.{}".format(*info.compute_capability),
        "multiprocessors": properties["multiProcessorCount"],
        "l2_mib": properties["l2CacheSize"] / 2**20,
        "memory_gib": properties["totalGlobalMem"] / 2**30,
        "integrated": str(info.integrated),
        "driver": info.driver
        or output_of("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        "driver_cuda": "{}.{}".format(*info.cuda),
    }


def software():
    """Versions of what runs, and the commit of this checkout."""
    from cupy.cuda import runtime

    cuda = runtime.runtimeGetVersion()
    return {"commit": commit(ROOT), "cuda": f"{cuda // 1000}.{cuda % 1000 // 10}", **versions()}


def copy_bandwidth(device, timer):
    """Bytes read and written per second by a large copy within the GPU's memory."""
    import cupy
    from cupy.cuda import runtime

    free, _ = runtime.memGetInfo()
    nbytes = min(_MOST_COPY_BYTES, free // 8) // 256 * 256
    source = cupy.arange(nbytes // 4, dtype=cupy.int32)
    target = cupy.empty_like(source)
    cupy.cuda.get_current_stream().synchronize()  # the device's own stream waits for no other

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
