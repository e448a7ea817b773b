"""Whether this CPU multiplies 8-bit numbers without losing any of the sum."""

from __future__ import annotations

import platform
from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")


def sums_int8_exactly():
    """False on an x86 CPU without VNNI: two products of 8 bits are added in 16 there, and cut off beyond.

    With weights of 7 bits no sum is cut off. Where Linux does not tell, True.
    """
    if platform.machine().lower() not in ("x86_64", "amd64") or not _CPU_INFO.is_file():
        return True
    flags = next((line for line in _CPU_INFO.read_text().splitlines() if line.startswith("flags")), "vnni")
    return "vnni" in flags
