"""What CPU this is, and what this process may use of it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")
_PROC_CGROUP, _CGROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """CPU cores that this process may keep busy; a container or taskset may allow fewer than there are.

    Of a share of CPU time, such as `docker run --cpus 2.5`, whole cores, at least one: more threads would use it up
    and then all stand still for the rest of a tenth of a second.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *map(int, _cpu_shares())]))


def _cpu_shares() -> Iterator[float]:
    """The limits on this process's CPU time, in cores: those of its control groups, and of the groups these are in."""
    for line in _lines(_PROC_CGROUP):
        _, controllers, group = line.split(":", 2)
        if controllers == "":  # version 2
            folder, files = _CGROUPS, ("cpu.max",)
        elif "cpu" in controllers.split(","):
            folder, files = _CGROUPS / "cpu", ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        else:
            continue
        # A container sees its own group as the root, and may be told the path that it has outside.
        for path in (folder / group.strip("/"), *(folder / group.strip("/")).parents):
            numbers = " ".join(line for name in files for line in _lines(path / name)).split()
            if len(numbers) == 2 and numbers[0] not in ("max", "-1"):
                yield int(numbers[0]) / int(numbers[1])
            if path == folder:
                break


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def cpu_name() -> str:
    """The CPU's own name, as Linux tells it, or its architecture."""
    if _CPU_INFO.is_file():
        for line in _CPU_INFO.read_text(errors="replace").splitlines():
            if line.startswith(("model name", "Model")):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def sums_int8_exactly() -> bool:
    """Whether this CPU multiplies 8-bit numbers without losing any of the sum.

    False on an x86 CPU without VNNI: two products of 8 bits are added in 16 there, and cut off beyond.

    With weights of 7 bits no sum is cut off. Where Linux does not tell, True.
    """
    if platform.machine().lower() not in ("x86_64", "amd64") or not _CPU_INFO.is_file():
        return True
    flags = next((line for line in _CPU_INFO.read_text().splitlines() if line.startswith("flags")), "vnni")
    return "vnni" in flags
