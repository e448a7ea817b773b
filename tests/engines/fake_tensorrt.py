"""TensorRT as far as the engine uses it, as strict as the real one: what it is not asked properly it refuses.

A plan is the JSON of {"tensors": {name: [mode, type, shape]}, "profiles": [[least, best, most], ...]}, shapes with
-1 for the batch. Running it fills every output with the sum of its input.
"""

from __future__ import annotations

import ctypes
import enum
import json
import math
import types

import numpy as np

SIZES = {"FLOAT": 4, "HALF": 2, "INT8": 1, "INT64": 8}


class TensorIOMode(enum.Enum):
    INPUT, OUTPUT = 1, 2


class DataType(enum.Enum):
    FLOAT, HALF, INT8, INT64 = range(4)


class Severity(enum.Enum):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class ILogger:
    Severity = Severity

    def __init__(self):
        self.is_made = True  # a subclass that does not call this crashes the real one

    def log(self, severity, message):
        raise NotImplementedError


def _memory(address, count, kind):
    dtype = {"FLOAT": np.float32, "HALF": np.float16}[kind]
    raw = (ctypes.c_char * (count * SIZES[kind])).from_address(address)
    return np.frombuffer(raw, dtype)


class IExecutionContext:
    def __init__(self, engine):
        self._engine, self._calls = engine, engine._calls
        self._profile = self._shape = None
        self._addresses = {}

    def set_optimization_profile_async(self, profile_index, stream_handle):
        self._calls.append(("profile", profile_index, stream_handle))
        self._profile, self._shape = profile_index, None
        return profile_index < self._engine.num_optimization_profiles

    def set_input_shape(self, name, shape):
        self._calls.append(("shape", name, shape))
        if self._profile is None or self._shape is not None:
            return False
        least, _, most = self._engine.get_tensor_profile_shape(name, self._profile)
        self._shape = shape
        return all(a <= s <= b for a, s, b in zip(least, shape, most))

    def set_tensor_address(self, name, memory):
        self._calls.append(("address", name, memory))
        self._addresses[name] = memory
        return name in self._engine._tensors and memory != 0

    def execute_async_v3(self, stream_handle):
        self._calls.append(("execute", self._shape[0], stream_handle))
        tensors = self._engine._tensors
        if set(self._addresses) != set(tensors):
            self._engine._log.log(Severity.ERROR, "Address is not set for some tensor\nsecond line")
            return False
        batch = self._shape[0]
        (total,) = (
            _memory(self._addresses[name], batch * math.prod(shape[1:]), kind).sum()
            for name, (mode, kind, shape) in tensors.items()
            if mode == "INPUT"
        )
        for name, (mode, kind, shape) in tensors.items():
            if mode == "OUTPUT" and kind in ("FLOAT", "HALF"):
                _memory(self._addresses[name], batch * math.prod(shape[1:]), kind)[:] = total
        return True


class ICudaEngine:
    def __init__(self, plan, log, calls):
        self._tensors, self._profiles = plan["tensors"], plan["profiles"]
        self._log, self._calls = log, calls

    @property
    def num_io_tensors(self):
        return len(self._tensors)

    @property
    def num_optimization_profiles(self):
        return max(1, len(self._profiles))

    def get_tensor_name(self, index):
        return list(self._tensors)[index]

    def get_tensor_mode(self, name):
        return TensorIOMode[self._tensors[name][0]]

    def get_tensor_dtype(self, name):
        return DataType[self._tensors[name][1]]

    def get_tensor_shape(self, name):
        return self._tensors[name][2]

    def get_tensor_profile_shape(self, name, profile_index):
        shape = self._tensors[name][2]
        sizes = self._profiles[profile_index] if self._profiles else [shape[0]] * 3
        return [(size, *shape[1:]) for size in sizes]

    def create_execution_context(self):
        self._calls.append(("context",))
        return self._context_class(self)

    _context_class = IExecutionContext


class Runtime:
    engine_host_code_allowed = False

    def __init__(self, logger):
        assert logger.is_made
        self._log = logger

    def deserialize_cuda_engine(self, serialized_engine):
        if not serialized_engine.startswith(b"{"):
            self._log.log(Severity.ERROR, "The engine plan file is generated on an incompatible device\nmore")
            return None
        return self._engine_class(json.loads(serialized_engine), self._log, self._calls)


def fake_tensorrt(version, calls):
    """A module in the place of `tensorrt` 10.3 or 11.4, or `tensorrt_rtx` 1.7; calls: list that it adds to."""
    is_rtx = version.startswith("1.")
    context_class = _rtx_context(calls) if is_rtx else IExecutionContext
    engine_class = _rtx_engine() if is_rtx else ICudaEngine
    engine_class = type("ICudaEngine", (engine_class,), {"_context_class": context_class})
    runtime_class = type("Runtime", (Runtime,), {"_engine_class": engine_class, "_calls": calls})
    module = types.ModuleType("tensorrt_rtx" if is_rtx else "tensorrt")
    module.__version__ = version
    classes = {"TensorIOMode": TensorIOMode, "DataType": DataType, "ILogger": ILogger}
    classes |= {"Runtime": runtime_class, "ICudaEngine": engine_class, "IExecutionContext": context_class}
    if is_rtx:
        classes["DynamicShapesKernelSpecializationStrategy"] = types.SimpleNamespace(EAGER="eager")
    vars(module).update(classes)
    return module


def _rtx_context(calls):
    class RtxContext(IExecutionContext):
        _can_be_captured = True

        def is_stream_capturable(self, stream):
            calls.append(("is_stream_capturable", stream))
            return self._can_be_captured

    return RtxContext


def _rtx_engine():
    class RtxEngine(ICudaEngine):
        def create_runtime_config(self):
            return types.SimpleNamespace(dynamic_shapes_kernel_specialization_strategy="lazy")

        def create_execution_context(self, runtime_config=None):
            self._calls.append(
                ("specialization", runtime_config.dynamic_shapes_kernel_specialization_strategy)
            )
            return super().create_execution_context()

    return RtxEngine
