"""The network of a training checkpoint on the GPU, run by torch on CuPy's stream and memory.

Not run on a GPU yet: what needs one is `torch.cuda.ExternalStream`, `CUDAGraph` and the fused convolution.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import numpy as np
import torch
from torch import nn

from ..files import StrPath
from ..networks.checkpoint import load_model
from ..spec import SsdSpec
from . import Graph
from .cuda import capture_failure, current_stream_pointer
from .torch_network import fuse_relu, prepare

_TORCH_DTYPES = {"float16": torch.float16, "float32": torch.float32}

# Graphs whose capture failed: torch before 2.12 goes on asking them which memory is theirs (its issue 180395).
_FAILED = []


@dataclass(frozen=True)
class _Binding:
    """A batch array, the same memory as tensor, and the tensors that its outputs are put in."""

    batch: Any
    tensor: torch.Tensor
    outputs: tuple[torch.Tensor, torch.Tensor]


class TorchCudaEngine:
    """A network as a DeviceEngine (see `edge_ssd.engines`): channels-last, without batch norm, ReLU fused.

    network: (B, 3, H, W) -> loc, conf, such as an `Ssd`; changed in place and moved to the GPU.
    spec: its SsdSpec.   half: weights, input and outputs in float16, else float32.
    Everything on one thread: cuDNN's choice of algorithms, made in the first call for a batch size, is
    kept per thread.

    Raises OSError when torch cannot use a GPU, MemoryError when the GPU has no room.
    """

    max_batch = 0
    capturable = True

    def __init__(self, network: nn.Module, spec: SsdSpec, half: bool = True) -> None:
        self._device, name = _gpu()
        self.input_dtype = np.dtype(np.float16 if half else np.float32)
        self.precision = "fp16" if half else "fp32"
        self._spec = spec
        with _memory_error():
            self._network: Any = prepare(network, half).to(self._device)
        # By address and shape of the batch array.
        self._bindings: dict[tuple[int, tuple[int, ...]], _Binding] = {}
        self._streams = {}  # torch's view of CuPy's, by pointer
        self._graphs = WeakSet()
        self._pool: Any = None  # of the memory that all graphs share; see `capture`
        with _memory_error():
            self._shapes, self._dtypes, is_fused = self._tried()
        steps = "fused" if is_fused else "separate"
        self.description = f"torch {torch.__version__}, {self.input_dtype}, ReLU {steps}, {name}"

    @classmethod
    def open(cls, path: StrPath, half: bool = True, trusted: bool = False) -> tuple[TorchCudaEngine, SsdSpec]:
        """The engine and the SsdSpec in the checkpoint `path`. Raises as `load_model`, and OSError without a GPU.

        trusted: see `load_checkpoint`.
        """
        network, spec = load_model(path, trusted)
        return cls(network, spec, half), spec

    def output_shapes(self, batch_size: int) -> dict[str, tuple[int, ...]]:
        """Shapes of the outputs "loc" and "conf"; see `DeviceEngine`."""
        return {key: (batch_size, *shape[1:]) for key, shape in zip(("loc", "conf"), self._shapes)}

    def infer(self, batch: Any) -> tuple[Any, Any]:
        """Enqueues the network on CuPy's current stream; see `DeviceEngine`."""
        with _memory_error(), torch.inference_mode(), torch.cuda.stream(self._stream()):
            binding = self._bindings.get((batch.data.ptr, batch.shape)) or self._bind(batch)
            # The outputs of a captured network lie in the graph's own memory, where the next one puts its
            # intermediate maps; a copy of a megabyte, inside the graph too, gives them a place of their own.
            for place, output in zip(binding.outputs, self._run(binding.tensor)):
                place.copy_(output)
        return binding.outputs

    def capture(self, steps: Callable[[], None]) -> Graph:
        """What `steps` enqueues, as a CUDA graph; see `DeviceEngine`.

        Through torch, whose allocator must know that memory belongs to a graph from here on. All graphs
        share that memory, since they run one after the other and leave nothing in it.
        """
        if self._pool is None or not self._graphs:  # a pool is given up with the last graph in it
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        stream = self._stream()
        recording = torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local")
        try:
            with torch.cuda.stream(stream), recording:  # the outer one: a failed capture does not restore it
                steps()
        except (RuntimeError, MemoryError) as error:
            self._pool = None
            _FAILED.append(graph)
            raise capture_failure(error) from error
        captured = _Graph(graph, self._stream)
        self._graphs.add(captured)
        return captured

    def close(self) -> None:
        """Frees the network and all buffers; the caller has synchronised."""
        self._network = self._pool = None
        self._bindings.clear()
        # torch before 2.12 refuses after a capture that failed (its issue 180395).
        with suppress(RuntimeError):
            torch.cuda.empty_cache()

    def _stream(self):
        """CuPy's current stream as torch's."""
        pointer = current_stream_pointer()
        if pointer not in self._streams:
            self._streams[pointer] = torch.cuda.ExternalStream(pointer, device=self._device)
        return self._streams[pointer]

    def _run(self, tensor):
        with _cudnn():
            return self._network(tensor.contiguous(memory_format=torch.channels_last))

    def _tried(self):
        """Shapes and dtypes of the outputs for one image, and whether the fused path is taken."""
        batch = _noise(self._spec.input).to(self._device, _TORCH_DTYPES[self.input_dtype.name])
        with _cudnn():
            is_fused = fuse_relu(self._network, batch.contiguous(memory_format=torch.channels_last))
        with torch.inference_mode():
            outputs = self._run(batch)
        torch.cuda.synchronize()
        return [tuple(o.shape) for o in outputs], [o.dtype for o in outputs], is_fused

    def _bind(self, batch):
        """Buffers for the outputs of a batch array: all that is ever allocated for it here."""
        if self._network is None:
            raise ValueError("the engine is closed")
        wanted = (batch.shape[0], 3, *self._spec.input.size)
        if batch.shape != wanted or batch.dtype != self.input_dtype or not batch.flags.c_contiguous:
            raise ValueError(
                f"batch: expected C-contiguous {self.input_dtype} {wanted}, got {batch.dtype} {batch.shape}"
            )
        loc, conf = (
            torch.empty(shape, dtype=dtype, device=self._device)
            for shape, dtype in zip(self.output_shapes(len(batch)).values(), self._dtypes)
        )
        binding = _Binding(batch, torch.from_dlpack(batch), (loc, conf))
        self._bindings[batch.data.ptr, batch.shape] = binding
        return binding


def _gpu():
    """torch's current device, and its name."""
    if not torch.cuda.is_available():
        raise OSError(
            f"torch {torch.__version__} cannot use a GPU here; install torch for CUDA, or run the model on the CPU"
        )
    device = torch.device("cuda", torch.cuda.current_device())
    return device, torch.cuda.get_device_name(device)


@contextmanager
def _memory_error():
    """Turns torch's paragraph about a full GPU into one line that says what to do."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise MemoryError(
            "out of GPU memory. Close other programs on the GPU, or take a smaller batch or network"
        ) from error


def _cudnn():
    """cuDNN's settings for the block: algorithms are tried out once for each shape, for shapes never change;
    no TF32, which would leave three digits of float32."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False)


def _noise(spec):
    """(1, 3, H, W) float32: an image of random pixels, normalised as the InputSpec says."""
    pixels = 255 * torch.rand((1, 3, *spec.size), generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(values)[:, None, None] for values in (spec.mean, spec.std))
    return (pixels - mean) / std


class _Graph:
    """A captured graph, launched on the stream that is CuPy's current one then."""

    def __init__(self, graph, current_stream):
        self._graph, self._current_stream = graph, current_stream

    def launch(self):
        """Enqueues it; does not wait."""
        with torch.cuda.stream(self._current_stream()):
            self._graph.replay()
