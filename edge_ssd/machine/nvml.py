"""What NVIDIA's driver counts of the first GPU: energy, and time for which its clock was held back (NVML).

Four calls of the driver's own library, and not nvidia-ml-py, which binds the same library in 8000 lines: it would be
one more package to install for two counters of a discrete GPU (a Jetson's energy comes from its board's sensor). It
would save the declarations below; its errors would all have to become OSError here, as those of the other meters are.
"""

from __future__ import annotations

import ctypes
from typing import Any

# nvmlPerfPolicyType_t
_POLICIES = {"its power limit": 0, "heat": 1}


class _ViolationTime(ctypes.Structure):
    """nvmlViolationTime_t: microseconds of the CPU's clock, nanoseconds of violation."""

    _fields_ = [("reference_us", ctypes.c_ulonglong), ("violation_ns", ctypes.c_ulonglong)]


class GpuCounters:
    """Counters that only grow. Raises OSError without NVIDIA's driver."""

    def __init__(self) -> None:
        self._nvml, self._gpu = ctypes.CDLL("libnvidia-ml.so.1"), ctypes.c_void_p()
        self._call("nvmlInit_v2")
        self._call("nvmlDeviceGetHandleByIndex_v2", 0, ctypes.byref(self._gpu))

    def millijoules(self) -> int:
        """Energy so far. Raises OSError where it is not counted: before Volta."""
        count = ctypes.c_ulonglong()
        self._call("nvmlDeviceGetTotalEnergyConsumption", self._gpu, ctypes.byref(count))
        return count.value

    def held_back_s(self) -> dict[str, float]:
        """{reason: seconds so far for which the clock was lower because of it}; {} where that is not counted."""
        seconds, time = {}, _ViolationTime()
        for reason, policy in _POLICIES.items():
            try:
                self._call("nvmlDeviceGetViolationStatus", self._gpu, policy, ctypes.byref(time))
            except OSError:
                return {}
            seconds[reason] = time.violation_ns / 1e9
        return seconds

    def _call(self, name: str, *arguments: Any) -> None:
        try:
            status = getattr(self._nvml, name)(*arguments)
        except AttributeError:
            raise OSError(f"this driver has no {name}") from None
        if status:
            raise OSError(f"{name}: the driver does not tell (error {status})")


def gpu_held_back_s() -> dict[str, float]:
    """See `GpuCounters.held_back_s`; {} without a GPU."""
    try:
        return GpuCounters().held_back_s()
    except OSError:
        return {}
