"""TensorRT as engine: a plan on the GPU, through `tensorrt` (10.3 to 11.4) or `tensorrt_rtx` (1.7).

Not run on a GPU yet. The tests drive it through stand-ins that have the attributes of 10.3, of 11 and of
TensorRT-RTX and nothing else, and look every name up in the real packages.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cupy
import numpy as np

from ..files import StrPath
from ..machine.gpu import gpu_info
from ..model_files.manifest import FLAVOURS, EngineFile, Manifest, Running, check_manifest, read_manifest
from ..spec import SsdSpec
from . import Graph
from .cuda import capture_failure, capture_with_cupy, current_stream_pointer
from .tensorrt_log import take_reason, tensorrt_log

# What not every version has, by the class that has it ("" for the module); used where `_has` finds it.
OPTIONAL = (
    # TensorRT-RTX alone: a plan may allocate while it runs, unless it was built with REQUIRE_USER_ALLOCATION.
    ("IExecutionContext", "is_stream_capturable"),
    # TensorRT-RTX alone, which has the other two with it.
    ("", "DynamicShapesKernelSpecializationStrategy"),
    ("ICudaEngine", "create_runtime_config"),
    ("IRuntimeConfig", "dynamic_shapes_kernel_specialization_strategy"),
)

_INSTALL = {
    "tensorrt": "It ships with JetPack; on a desktop: pip install edge-ssd[tensorrt]",
    "tensorrt_rtx": "pip install edge-ssd[rtx]",
}

_MOST_BYTES_PER_ELEMENT = 8  # of any type that a tensor can have: int64


@dataclass(frozen=True)
class _Binding:
    """A batch array and the buffers of its outputs, by name; they live until the engine is closed."""

    batch: Any
    outputs: dict[str, Any]


class TensorRtEngine:
    """One plan as a DeviceEngine (see `edge_ssd.engines`).

    trt: the module, tensorrt or tensorrt_rtx.   path: of the plan.   file: its EngineFile, checked already.
    gpu_name: for `description`.   trusted: whether a plan may run host code, which one that was built
    version-compatible holds.

    One execution context for each batch size, in the profile that holds it (0: batch 1 alone, 1: from 2 on)
    and never reshaped, so that a captured graph stays valid.

    Raises ValueError for a plan that cannot be loaded or does not fit the spec.
    """

    capturable = True

    def __init__(
        self, trt: Any, path: StrPath, file: EngineFile, gpu_name: str, trusted: bool = False
    ) -> None:
        spec, manifest = file.spec, file.manifest
        self._trt, self._path, self._spec = trt, Path(path), spec
        self.precision = "fp32" if manifest.precision == "fp32" else "fp16"
        self.description = f"{FLAVOURS[manifest.flavour]} {trt.__version__}, {manifest.precision}, {gpu_name}"
        self._runtime: Any
        self._engine: Any
        self._runtime, self._engine = self._load(manifest, trusted)
        self._names = {"loc": spec.outputs.loc_names[0], "conf": spec.outputs.conf_names[0]}
        self._outputs = self._checked_outputs()
        self.input_dtype = self._checked_input()
        self._batch_sizes = self._profiles()
        self.max_batch = max(most for _, most in self._batch_sizes)
        self._contexts: dict[int, Any] = {}  # by batch size
        # By address and shape of the batch array.
        self._bindings: dict[tuple[int, tuple[int, ...]], _Binding] = {}
        self._bound: dict[int, _Binding] = {}  # binding whose addresses the context of a batch size has
        self._latest: Any = None  # context of the latest call

    @classmethod
    def open(cls, path: StrPath, trusted: bool = False) -> tuple[TensorRtEngine, SsdSpec]:
        """The engine in the plan `path`, and the SsdSpec beside it.   trusted: see the class.

        Raises FileNotFoundError, ImportError (naming the package), OSError without a GPU, EngineMismatch
        for a plan of another machine, ValueError for one that does not fit its spec, or holds a program and is not
        trusted.
        """
        file = read_manifest(path)
        manifest = file.manifest
        if manifest.version_compatible and not trusted:
            raise ValueError(
                f"{path}: was built version-compatible, so it holds a program that TensorRT would run. If you trust "
                "who built it: --trust-engine, or Detector.load(..., trust_engine=True), but not in a bundle; else "
                f"build it here from {manifest.onnx} without --version-compatible"
            )
        trt = _imported(manifest, path)
        # Before anything of TensorRT runs: without a driver its Runtime ends the process.
        try:
            gpu = gpu_info()
        except OSError as error:
            raise OSError(
                f"Running {path} needs an NVIDIA GPU: {error}. Or use {manifest.onnx}, which runs on the CPU"
            ) from None
        running = Running(manifest.flavour, trt.__version__, gpu.compute_capability, gpu.name, gpu.driver)
        check_manifest(manifest, path, running)
        return cls(trt, path, file, gpu.name, trusted), file.spec

    def output_shapes(self, batch_size: int) -> dict[str, tuple[int, ...]]:
        """Shapes of the outputs "loc" and "conf"; see `DeviceEngine`."""
        self._profile_of(batch_size)
        return {key: self._shape_of(name, batch_size) for key, name in self._names.items()}

    def infer(self, batch: Any) -> tuple[Any, Any]:
        """Enqueues the network on CuPy's current stream; see `DeviceEngine`."""
        stream = current_stream_pointer()
        binding = self._bindings.get((batch.data.ptr, batch.shape)) or self._bind(batch, stream)
        size = batch.shape[0]
        context = self._contexts[size]
        if self._bound.get(size) is not binding:
            self._set_addresses(context, binding)
            self._bound[size] = binding
        self._latest = context
        if not context.execute_async_v3(stream):
            raise RuntimeError(f"{self._path}: TensorRT did not run the network{take_reason(self._trt)}")
        return binding.outputs[self._names["loc"]], binding.outputs[self._names["conf"]]

    def capture(self, steps: Callable[[], None]) -> Graph:
        """What `steps` enqueues, as a CUDA graph; see `DeviceEngine`."""
        try:
            self._check_capturable()
            return capture_with_cupy(steps)
        except RuntimeError as error:
            raise capture_failure(error) from error

    def close(self) -> None:
        """Frees contexts, plan and buffers; the caller has synchronised."""
        self._latest = None
        for held in (self._bound, self._bindings, self._contexts):
            held.clear()
        self._engine = None
        self._runtime = None  # last: the others live in it

    def _check_capturable(self):
        context = self._latest
        if context is None or not _has(self._trt, "IExecutionContext", "is_stream_capturable"):
            return
        if not context.is_stream_capturable(current_stream_pointer()):
            raise RuntimeError(
                f"it was built without REQUIRE_USER_ALLOCATION, or allocates{take_reason(self._trt)}"
            )

    def _load(self, manifest: Manifest, trusted: bool) -> tuple[Any, Any]:
        runtime = self._trt.Runtime(tensorrt_log(self._trt))
        if manifest.version_compatible and trusted:
            runtime.engine_host_code_allowed = True  # such a plan brings the runtime of its own version along
        engine = runtime.deserialize_cuda_engine(self._path.read_bytes())
        if engine is None:
            raise ValueError(
                f"{self._path}: TensorRT cannot load this plan{take_reason(self._trt)}. "
                f"Rebuild it here: {manifest.rebuild_command}"
            )
        return runtime, engine

    def _tensors(self, mode):
        """Names of the inputs or the outputs."""
        engine = self._engine
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        return [name for name in names if engine.get_tensor_mode(name) == mode]

    def _checked_input(self):
        """The dtype of the one input, which fits the spec."""
        name, found = self._spec.input.name, self._tensors(self._trt.TensorIOMode.INPUT)
        if found != [name]:
            raise ValueError(
                f"{self._path}: the spec's input.name is {name!r}, the engine's inputs are {found}"
            )
        given, wanted = tuple(self._engine.get_tensor_shape(name)), (3, *self._spec.input.size)
        if given[1:] != wanted:
            raise ValueError(
                f"{self._path}: input {name!r} is {given}, the spec says (B, {', '.join(map(str, wanted))})"
            )
        return self._dtype_of(name)

    def _checked_outputs(self):
        """Names of all outputs; those of the spec are among them and have types that we read."""
        found = self._tensors(self._trt.TensorIOMode.OUTPUT)
        for key, name in self._names.items():
            if name not in found:
                raise ValueError(
                    f"{self._path}: the spec's outputs.{key} is {name!r}, the engine's outputs are {found}"
                )
            self._dtype_of(name)
        return found

    def _dtype_of(self, name):
        dtypes = {
            self._trt.DataType.FLOAT: np.dtype(np.float32),
            self._trt.DataType.HALF: np.dtype(np.float16),
        }
        given = self._engine.get_tensor_dtype(name)
        if given not in dtypes:
            raise ValueError(f"{self._path}: {name!r}: expected float32 or float16, got {given}")
        return dtypes[given]

    def _profiles(self):
        """(fewest, most) images of each optimisation profile."""
        engine, name = self._engine, self._spec.input.name
        fixed = engine.get_tensor_shape(name)[0]
        if fixed != -1:
            return [(fixed, fixed)]
        shapes = [engine.get_tensor_profile_shape(name, i) for i in range(engine.num_optimization_profiles)]
        return [(least[0], most[0]) for least, _, most in shapes]

    def _profile_of(self, batch_size):
        for profile, (fewest, most) in enumerate(self._batch_sizes):
            if fewest <= batch_size <= most:
                return profile
        sizes = " or ".join(f"{a}" if a == b else f"{a} to {b}" for a, b in self._batch_sizes)
        raise ValueError(f"batch: this engine takes {sizes} images at a time, got {batch_size}")

    def _shape_of(self, name, batch_size):
        first, *rest = self._engine.get_tensor_shape(name)
        if first not in (-1, batch_size) or -1 in rest:
            raise ValueError(
                f"{self._path}: output {name!r} is {(first, *rest)}: only its first axis may be dynamic, "
                f"and is the batch ({batch_size})"
            )
        return (batch_size, *rest)

    def _bind(self, batch, stream):
        """A context for a batch array and buffers for its outputs: all that is ever allocated for it."""
        if self._engine is None:
            raise ValueError("the engine is closed")
        size = batch.shape[0]
        wanted = (size, 3, *self._spec.input.size)
        if batch.shape != wanted or batch.dtype != self.input_dtype or not batch.flags.c_contiguous:
            raise ValueError(
                f"batch: expected C-contiguous {self.input_dtype} {wanted}, got {batch.dtype} {batch.shape}"
            )
        if size not in self._contexts:
            self._contexts[size] = self._new_context(size, stream)
        outputs = {name: self._buffer(name, size) for name in self._outputs}
        binding = _Binding(batch, outputs)
        self._bindings[batch.data.ptr, batch.shape] = binding
        return binding

    def _buffer(self, name, batch_size):
        shape = self._shape_of(name, batch_size)
        if name in self._names.values():
            return cupy.empty(shape, self._dtype_of(name))
        # Nobody reads it, but TensorRT wants an address; so its type does not matter.
        return cupy.empty(math.prod(shape) * _MOST_BYTES_PER_ELEMENT, np.uint8)

    def _new_context(self, batch_size, stream):
        profile = self._profile_of(batch_size)
        context = self._created_context()
        if context is None:
            raise ValueError(
                f"{self._path}: no execution context for batch {batch_size}{take_reason(self._trt)}. "
                "Is there enough GPU memory?"
            )
        self._check(context.set_optimization_profile_async(profile, stream), f"profile {profile}")
        shape = (batch_size, 3, *self._spec.input.size)
        self._check(context.set_input_shape(self._spec.input.name, shape), f"input shape {shape}")
        return context

    def _created_context(self):
        engine, trt = self._engine, self._trt
        if not _has(trt, "", "DynamicShapesKernelSpecializationStrategy"):
            return engine.create_execution_context()
        # By default TensorRT-RTX compiles the kernels of a dynamic shape in the background and runs general
        # ones meanwhile; a captured graph would keep those.
        runtime_config = engine.create_runtime_config()
        eager = trt.DynamicShapesKernelSpecializationStrategy.EAGER
        runtime_config.dynamic_shapes_kernel_specialization_strategy = eager
        return engine.create_execution_context(runtime_config=runtime_config)

    def _set_addresses(self, context, binding):
        addresses = {name: array.data.ptr for name, array in binding.outputs.items()}
        addresses[self._spec.input.name] = binding.batch.data.ptr
        for name, address in addresses.items():
            self._check(context.set_tensor_address(name, address), f"the address of {name!r}")

    def _check(self, accepted, what):
        if not accepted:
            raise ValueError(f"{self._path}: TensorRT does not take {what}{take_reason(self._trt)}")


def _has(trt, class_name, name):
    """Whether this version has a name of OPTIONAL."""
    assert (class_name, name) in OPTIONAL
    return hasattr(getattr(trt, class_name) if class_name else trt, name)


def _imported(manifest, path):
    try:
        return importlib.import_module(manifest.flavour)
    except (ImportError, OSError) as error:  # OSError: a library that the package loads itself
        raise ImportError(
            f"Running {path} needs the {manifest.flavour!r} package ({error}). "
            f"{_INSTALL[manifest.flavour]}. Or use {manifest.onnx}, which runs on the CPU."
        ) from error
