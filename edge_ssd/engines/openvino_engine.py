"""OpenVINO as engine: the same ONNX model on the CPU."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import openvino
from openvino.frontend import FrontEndManager
from openvino.preprocess import PrePostProcessor

from ..files import StrPath
from ..machine.cpu import usable_cores
from ..model_files.load_advice import cannot_load
from ..model_files.onnx_file import BadModel
from ..spec import SsdSpec
from .layout import interleaved_pixels
from .onnx_model import as_fed, check_input, check_outputs, fed_shape, filled_up, heads_of, takes_batches
from .opening import Trial, check_opening

# OpenVINO's names for what it computes float32 layers in, by ours.
_PRECISIONS = {"fp32": "f32", "bf16": "bf16"}

# For tests, and for a machine whose instructions a hypervisor hides: what `has_bf16` says, "0" or "1".
_ASSUMED_BF16 = "EDGE_SSD_ASSUME_BF16"

# Batches that stay compiled, the latest ones: each is a copy of the network.
_MOST_BATCHES = 4


class _Batch(NamedTuple):
    """What the network is compiled for.

    images: at a time.   is_reversed: see `interleaved_pixels`; None for a planar batch.
    """

    images: int
    is_reversed: bool | None


class OpenVinoEngine:
    """One ONNX model in OpenVINO.

    path: the .onnx file.   spec: its SsdSpec, which names the input and the outputs.
    threads: CPU threads of the network; 0 takes one per core that this process may use.
    precision: what float32 layers are computed in, "fp32" or "bf16" (eight bits of mantissa; twice as fast on
    CPUs that have it). Quantised layers are computed in INT8 in both.
    in_flight: calls of `infer` that run at once, in engines that `share` it: the threads are all of theirs together.

    Each batch size is compiled when it is first seen: a fixed shape is the fastest; and for each layout in memory.
    Interleaved batches are read as they lie, at no cost: the network's own first step is to reorder its input.

    Raises FileNotFoundError; ValueError when the file is not a model, does not fit the spec or asks for a
    precision that this CPU does not have.
    """

    def __init__(
        self, path: StrPath, spec: SsdSpec, threads: int = 0, precision: str = "fp32", in_flight: int = 1
    ) -> None:
        self._path, self._spec = Path(path), spec
        if not self._path.is_file():
            raise FileNotFoundError(f"{path}: no such model file")
        if precision == "bf16" and not has_bf16():
            raise ValueError("precision: this CPU has no BF16 instructions; take --precision fp32")
        check_openvino_opens(self._path, spec, precision)
        settings = settings_of(threads, precision, in_flight)
        self._network: Any = Network(self._path, fed_shape(spec), settings, spec.input.batch_axis)
        self.input_dtype, self.max_batch = check_input(path, spec, self._network.input_types())
        check_outputs(path, spec, self._network.output_names())
        self.interleaved = self.input_dtype == np.float32 and takes_batches(spec)
        self._requests = {}  # by _Batch
        self.precision = precision
        self.description = f"OpenVINO {_version()}, CPU, {precision}"

    def infer(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(B, 3, H, W) -> the outputs `loc` and `conf` as the graph has them, valid until the next call."""
        if self._network is None:
            raise ValueError("the engine is closed")
        whole = filled_up(batch, self.max_batch)
        found = interleaved_pixels(whole) if self.interleaved else None
        pixels, is_reversed = found or (as_fed(whole, self._spec), None)
        kind = _Batch(len(whole), is_reversed)
        request = self._requests.get(kind) or self._request(kind)
        try:
            values = request.infer({self._spec.input.name: pixels}, share_inputs=True, share_outputs=True)
        except RuntimeError as error:
            raise ValueError(f"{self._path}: the network fails in OpenVINO ({_reason(error)})") from error
        return heads_of([values[name] for name in self._spec.outputs.names], self._spec, len(batch))

    def share(self) -> OpenVinoEngine:
        """See SharedEngine: a compiled network takes as many requests as there are threads for."""
        other = copy(self)
        other._requests = {}
        return other

    def close(self) -> None:
        """Frees the model, once those that share it are closed, too."""
        self._requests.clear()
        self._network = None

    def _request(self, kind):
        if len(self._requests) == _MOST_BATCHES:
            self._requests.pop(next(iter(self._requests)))
        self._requests[kind] = self._network.request(kind)
        return self._requests[kind]


def check_openvino_opens(path: Path, spec: SsdSpec, precision: str = "fp32") -> None:
    """See `check_opening`; raises ValueError naming the file."""
    try:
        check_opening(path, Trial("openvino", _version(), "OpenVINO", precision), spec)
    except BadModel as error:
        raise cannot_load(path, "OpenVINO", str(error)) from None


def settings_of(threads: int, precision: str, in_flight: int = 1) -> dict[str, Any]:
    """OpenVINO's settings for a Network; arguments as of OpenVinoEngine."""
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": in_flight,
        "INFERENCE_NUM_THREADS": threads or usable_cores(),
        "INFERENCE_PRECISION_HINT": _PRECISIONS[precision],
    }


class Network:
    """The model in a file, compiled for every _Batch that is asked for; of several threads.

    path: of a file that has passed `check_openvino_opens`, or may do harm.   image_shape: of one image, or None for
    the model's own.   settings: see `settings_of`.   batch_axis: whether images lie in a batch.
    Raises ValueError naming the file.
    """

    def __init__(
        self,
        path: Path,
        image_shape: Sequence[int] | None,
        settings: dict[str, Any],
        batch_axis: bool = True,
    ) -> None:
        self._path, self._image_shape, self._settings = path, image_shape, settings
        self._batch_axis = batch_axis
        self._core = openvino.Core()
        self._model = self._read()
        self._compiled = {}  # by _Batch
        self._lock = Lock()

    def _read(self):
        # Named, or all of OpenVINO's readers have a try at a broken file and say so.
        reader = FrontEndManager().load_by_framework("onnx")
        try:
            return reader.convert(reader.load(str(self._path)))
        except Exception as error:  # the reader's exceptions have no common base but Exception
            raise cannot_load(self._path, "OpenVINO", _reason(error)) from error

    def input_types(self) -> dict[str, tuple[Any, Sequence[Any]]]:
        """{name: (dtype, shape)} of the inputs; None for an axis of any length."""
        return _types(self._model.inputs)

    def output_names(self) -> Collection[str]:
        """The names of the outputs."""
        return _types(self._model.outputs)

    def run(self, batch: np.ndarray) -> dict[str, list[int]]:
        """{name: shape} of the outputs for a batch. Raises ValueError when the network fails."""
        request = self.request(_Batch(len(batch), None))
        try:
            values = request.infer([batch])
        except RuntimeError as error:
            raise ValueError(f"{self._path}: the network fails in OpenVINO ({_reason(error)})") from error
        return {name: list(value.shape) for port, value in values.items() for name in port.names}

    def request(self, kind: _Batch) -> Any:
        """A new request for batches of this _Batch."""
        # OpenVINO gives the thread that compiles a stack for signals, and leaves it there when two engines have
        # freed theirs in another order than they came: the next Ctrl-C would end the process by a segmentation
        # fault. So that is a thread which ends here.
        with self._lock, ThreadPoolExecutor(1) as thread:
            return thread.submit(self._new_request, kind).result()

    def _new_request(self, kind):
        if kind not in self._compiled:
            if len(self._compiled) == _MOST_BATCHES:
                self._compiled.pop(next(iter(self._compiled)))
            self._compiled[kind] = self._compile(kind)
        return self._compiled[kind].create_infer_request()

    def _compile(self, kind):
        try:
            model = self._model.clone()
            if self._image_shape:
                model.reshape([kind.images, *self._image_shape] if self._batch_axis else [*self._image_shape])
            if kind.is_reversed is not None:
                model = _reading_interleaved(model, kind.is_reversed)
            return self._core.compile_model(model, "CPU", self._settings)
        except RuntimeError as error:
            raise ValueError(
                f"{self._path}: OpenVINO cannot run this model with {kind.images} images ({_reason(error)})"
            ) from error


def _reading_interleaved(model, is_reversed):
    """The model with an input (B, H, W, 3), whose channels lie the other way round when `is_reversed`."""
    steps = PrePostProcessor(model)
    image = steps.input()
    image.tensor().set_layout(openvino.Layout("NHWC"))
    image.model().set_layout(openvino.Layout("NCHW"))
    if is_reversed:  # OpenVINO turns the weights of the first layer round instead
        image.preprocess().reverse_channels()
    return steps.build()


def has_bf16() -> bool:
    """Whether this CPU computes in BF16 itself, as OpenVINO sees it; emulated, it would be slower.

    The environment's EDGE_SSD_ASSUME_BF16 has the last word.
    """
    assumed = os.environ.get(_ASSUMED_BF16)
    return assumed == "1" if assumed else cpu_has_bf16()


@cache
def cpu_has_bf16() -> bool:
    """Whether OpenVINO says so of this CPU, whatever the environment says."""
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def default_precision() -> str:
    """What OpenVINO computes float32 layers in on this CPU when it is not told: "f32", "bf16" or "f16"."""
    return openvino.Core().get_property("CPU", "INFERENCE_PRECISION_HINT").get_type_name()


def _types(ports):
    """{name: (dtype, shape)} of inputs or outputs; None for an axis of any length."""
    types = {}
    for port in ports:
        shape = [axis.get_length() if axis.is_static else None for axis in port.partial_shape]
        types.update((name, (_dtype(port.element_type), shape)) for name in port.names)
    return types


def _dtype(element_type):
    try:
        return np.dtype(element_type.to_dtype())
    except (RuntimeError, TypeError):
        return element_type.get_type_name()


def _version():
    return openvino.__version__.split("-")[0]


def _reason(error):
    """The last line that says something: OpenVINO puts where it was in its sources in front."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
