"""Launcher of clock.cu."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .arrays import check_array, ints

if TYPE_CHECKING:
    from .device import Device, DeviceArray


def clock_ns(device: Device, times: DeviceArray, i: int) -> None:
    """Writes the GPU's time, nanoseconds, to times[i] when the current stream gets there.

    times: (n,) uint64.
    """
    check_array(device, "times", times, times.shape, np.uint64)
    if not 0 <= i < len(times):
        raise ValueError(f"i: expected 0 to {len(times) - 1}, got {i}")
    device.kernel("clock")((1,), 32, (times, *ints(i)), shared_bytes=0)
