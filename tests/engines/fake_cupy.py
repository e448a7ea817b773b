"""CuPy as far as the engines use it, in the CPU's memory; every call that matters is kept in `calls`."""

from __future__ import annotations

import inspect
import types

import numpy as np

from edge_ssd.engines import DeviceEngine


class FakeArray:
    """A device array; `host` is its memory."""

    def __init__(self, host):
        self.host = host
        self.shape, self.dtype, self.flags = host.shape, host.dtype, host.flags
        self.data = types.SimpleNamespace(ptr=host.ctypes.data)

    def __len__(self):
        return len(self.host)

    def __dlpack__(self, **options):
        return self.host.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.host.__dlpack_device__()


class FakeStream:
    """A stream whose capture fails with `breaks_with`, where that is an exception."""

    ptr = 77

    def __init__(self, calls):
        self.calls, self.breaks_with = calls, None

    def begin_capture(self, mode):
        self.calls.append(("begin_capture", mode))

    def end_capture(self):
        self.calls.append(("end_capture",))
        if self.breaks_with:
            raise self.breaks_with
        return types.SimpleNamespace(launch=lambda: self.calls.append(("launch",)))


def fake_cupy():
    """A module in the place of `cupy`; `calls`: list of tuples, `stream`: the current one."""
    module = types.ModuleType("cupy")
    module.calls = []
    module.stream = FakeStream(module.calls)

    def empty(shape, dtype):
        module.calls.append(("empty", shape, np.dtype(dtype).name))
        return FakeArray(np.zeros(shape, dtype))

    module.empty = empty
    runtime = types.SimpleNamespace(streamCaptureModeThreadLocal="thread-local")
    module.cuda = types.SimpleNamespace(get_current_stream=lambda: module.stream, runtime=runtime)
    return module


def assert_is_device_engine(engine):
    """Everything that a DeviceEngine has is there; methods take arguments of the same names."""
    for name in DeviceEngine.__annotations__:
        assert hasattr(engine, name), name
    for name in ("output_shapes", "infer", "capture", "close"):
        wanted = inspect.signature(getattr(DeviceEngine, name)).parameters
        assert list(inspect.signature(getattr(type(engine), name)).parameters) == list(wanted), name
