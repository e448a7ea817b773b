"""What CPU this is, and what this process may use of it."""

from __future__ import annotations

import os
import platform
from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")


def usable_cores():
    """CPU cores that this process may run on; a container or taskset may allow fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_name():
    """The CPU's own name, as Linux tells it, or its architecture."""
    if _CPU_INFO.is_file():
        for line in _CPU_INFO.read_text(errors="replace").splitlines():
            if line.startswith(("model name", "Model")):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def sums_int8_exactly():
    """Whether this CPU multiplies 8-bit numbers without losing any of the sum.

    False on an x86 CPU without VNNI: two products of 8 bits are added in 16 there, and cut off beyond.

    With weights of 7 bits no sum is cut off. Where Linux does not tell, True.
    """
    if platform.machine().lower() not in ("x86_64", "amd64") or not _CPU_INFO.is_file():
        return True
    flags = next((line for line in _CPU_INFO.read_text().splitlines() if line.startswith("flags")), "vnni")
    return "vnni" in flags
