"""What NVIDIA's driver counts of the first GPU: energy, and time for which its clock was held back (NVML)."""

from __future__ import annotations

import ctypes

# nvmlPerfPolicyType_t
_POLICIES = {"its power limit": 0, "heat": 1}


class _ViolationTime(ctypes.Structure):
    """nvmlViolationTime_t: microseconds of the CPU's clock, nanoseconds of violation."""

    _fields_ = [("reference_us", ctypes.c_ulonglong), ("violation_ns", ctypes.c_ulonglong)]


class GpuCounters:
    """Counters that only grow. Raises OSError without NVIDIA's driver."""

    def __init__(self):
        self._nvml, self._gpu = ctypes.CDLL("libnvidia-ml.so.1"), ctypes.c_void_p()
        self._call("nvmlInit_v2")
        self._call("nvmlDeviceGetHandleByIndex_v2", 0, ctypes.byref(self._gpu))

    def millijoules(self):
        """Energy so far. Raises OSError where it is not counted: before Volta."""
        count = ctypes.c_ulonglong()
        self._call("nvmlDeviceGetTotalEnergyConsumption", self._gpu, ctypes.byref(count))
        return count.value

    def held_back_s(self):
        """{reason: seconds so far for which the clock was lower because of it}; {} where that is not counted."""
        seconds, time = {}, _ViolationTime()
        for reason, policy in _POLICIES.items():
            try:
                self._call("nvmlDeviceGetViolationStatus", self._gpu, policy, ctypes.byref(time))
            except OSError:
                return {}
            seconds[reason] = time.violation_ns / 1e9
        return seconds

    def _call(self, name, *arguments):
        try:
            status = getattr(self._nvml, name)(*arguments)
        except AttributeError:
            raise OSError(f"this driver has no {name}") from None
        if status:
            raise OSError(f"{name}: the driver does not tell (error {status})")


def gpu_held_back_s():
    """See `GpuCounters.held_back_s`; {} without a GPU."""
    try:
        return GpuCounters().held_back_s()
    except OSError:
        return {}
