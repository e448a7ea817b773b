"""What this process may use of the CPU."""

from __future__ import annotations

import os


def usable_cores():
    """CPU cores that this process may run on; a container or taskset may allow fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
