"""The GPU through CuPy: memory, streams, events and compiled kernels. All that touches CUDA goes through here.

It is thin on purpose, since it runs on a GPU alone: what is built on it (the launchers, the pipeline of a frame)
runs in the tests on a simulated device with the same methods.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import cupy
import numpy as np
import numpy.typing as npt
from cupy.cuda import runtime

from .source import OPTIONS, kernel_source

# A cupy.ndarray: CuPy has no types, and the simulated device of the tests has arrays of its own.
DeviceArray = Any

# Lets go of the interpreter for a moment, which a query of CUDA does not: a camera's thread would wait for it for
# milliseconds. time.sleep(0) takes 50 us before Python 3.13.
_let_others_run = ctypes.CDLL(None).sched_yield

# Waiting sleeps instead of polling: it leaves the core to others, and answers some tens of microseconds later.
BLOCKING, SPINNING = "block", "spin"

# cudaErrorNotReady: what an event says that has not happened yet.   cudaMemoryTypeUnregistered: ordinary memory.
_NOT_READY, _UNREGISTERED = 600, 0


class Device:
    """The current CUDA device and two streams of its own: for frames (`stream`), for uploads (`copy_stream`).

    name: as the driver has it.   compute_capability: (major, minor).   is_integrated: the GPU shares the
    CPU's memory, as on a Jetson.

    Raises OSError in one line when there is no usable GPU.
    """

    def __init__(self) -> None:
        try:
            self._index = runtime.getDevice()
            properties = runtime.getDeviceProperties(self._index)
        except runtime.CUDARuntimeError as error:
            raise OSError(
                f"no usable CUDA device ({_reason(error)}). Is the driver loaded (nvidia-smi), and does it "
                f"support CUDA {_version(runtime.runtimeGetVersion())}, for which this CuPy was made? "
                "An .onnx model runs on the CPU"
            ) from error
        self.name = properties["name"].decode()
        self.compute_capability = (properties["major"], properties["minor"])
        self.is_integrated = bool(properties["integrated"])
        self.stream, self.copy_stream = Stream(), Stream()
        self._kernels: dict[tuple, Callable[..., None]] = {}

    # ---- memory

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> DeviceArray:
        """A device array, not initialised. Raises MemoryError in one line when there is no room."""
        try:
            return cupy.empty(shape, dtype)
        except cupy.cuda.memory.OutOfMemoryError as error:
            free, total = runtime.memGetInfo()
            raise MemoryError(
                f"out of GPU memory: {free >> 20} of {total >> 20} MiB are free on {self.name}. "
                "Close other programs on the GPU, or take a smaller batch"
            ) from error

    def array(self, host: np.ndarray) -> DeviceArray:
        """A device array with the values of a NumPy array; waits for the copy."""
        array = self.empty(host.shape, host.dtype)
        array.set(host)
        # CUDA may return when the host's memory has been read and the GPU's not yet written, and our streams
        # wait for no other.
        cupy.cuda.get_current_stream().synchronize()
        return array

    def owns(self, array: DeviceArray) -> bool:
        """Whether this is an array on this device."""
        return isinstance(array, cupy.ndarray) and array.device.id == self._index

    def address(self, array: DeviceArray) -> int:
        """Where an array of this device begins."""
        return array.data.ptr

    def as_array(self, foreign: Any) -> DeviceArray:
        """A device array over the memory of another library's, without a copy."""
        return cupy.asarray(foreign)

    def view(
        self, array: DeviceArray, start: int, shape: tuple[int, ...], dtype: npt.DTypeLike
    ) -> DeviceArray:
        """An array over a part of a (n,) uint8 device array, from byte `start` on."""
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return array[start : start + nbytes].view(dtype).reshape(shape)

    def check_reachable(self, address: int) -> None:
        """Raises ValueError when kernels on this device cannot read from an address."""
        try:
            place = runtime.pointerGetAttributes(address)
        except runtime.CUDARuntimeError as error:
            raise ValueError(f"image: its address is none of CUDA's ({_reason(error)})") from error
        if place.type == _UNREGISTERED:
            raise ValueError("image: its address is none of CUDA's")
        if place.device != self._index:
            raise ValueError(
                f"image: lies on GPU {place.device}, the detector runs on GPU {self._index}; move it there"
            )

    def to_host(self, array: DeviceArray) -> np.ndarray:
        """A NumPy copy of a device array; waits for the whole device. Not for use in a frame."""
        runtime.deviceSynchronize()
        return cupy.asnumpy(array)

    def page_locked(self, nbytes: int) -> tuple[np.ndarray, int]:
        """(host, address): (nbytes,) uint8 that uploads read without a copy, and where the device sees it.

        Raises MemoryError in one line when the machine does not give so much.
        """
        try:
            pointer = runtime.hostAlloc(max(nbytes, 1), runtime.hostAllocMapped | runtime.hostAllocPortable)
        except runtime.CUDARuntimeError as error:
            raise MemoryError(f"no {nbytes} bytes of page-locked memory ({_reason(error)})") from error
        memory = _HostMemory(pointer, nbytes)
        # Under unified addressing, which every 64-bit system has, both see it at the same place.
        return np.asarray(memory), pointer

    def upload(self, address: int, host_address: int, nbytes: int) -> None:
        """Copies page-locked host memory to the device, on the current stream; both stay the caller's."""
        runtime.memcpyAsync(address, host_address, nbytes, runtime.memcpyHostToDevice, _current())

    def download(self, host_address: int, address: int, nbytes: int) -> None:
        """Copies device memory to page-locked host memory, on the current stream; both stay the caller's."""
        runtime.memcpyAsync(host_address, address, nbytes, runtime.memcpyDeviceToHost, _current())

    # ---- order

    def event(self, wait: str = SPINNING) -> Event:
        """An Event; wait: how its `synchronize` waits, "spin" or "block"."""
        return Event(wait)

    def wait_for_foreign(self, stream_pointer: int) -> None:
        """The current stream goes on when all that another library gave to its stream so far is done.

        stream_pointer: a cudaStream_t as an integer; 1 and 2 are CUDA's default streams.
        """
        event = cupy.cuda.Event(disable_timing=True)
        # Not through cupy.cuda.ExternalStream, which CuPy 14 warns of, every time.
        runtime.eventRecord(event.ptr, stream_pointer)
        cupy.cuda.get_current_stream().wait_event(event)

    # ---- kernels

    def kernel(self, name: str, **defines: str) -> Callable[..., None]:
        """kernel(grid, block, arguments, shared_bytes) launches NAME.cu on the current stream.

        defines: macros of the source, such as HEAD="float". Compiled once, then kept by CuPy on disk.
        """
        key = (name, *sorted(defines.items()))
        if key not in self._kernels:
            if cupy.cuda.get_current_stream().is_capturing():
                raise RuntimeError(f"{name} must have run once before it is captured")
            self._kernels[key] = self._compiled(name, defines)
        return self._kernels[key]

    def _compiled(self, name: str, defines: dict[str, str]) -> Callable[..., None]:
        options = (*OPTIONS, *(f"-D{macro}={value}" for macro, value in defines.items()))
        module = cupy.RawModule(code=kernel_source(name), options=options)
        function = module.get_function("clock_ns" if name == "clock" else name)

        def launch(grid: tuple[int, ...], block: int, arguments: tuple, shared_bytes: int) -> None:
            function(grid, (block,), arguments, shared_mem=shared_bytes)

        return launch


class Stream:
    """A stream that waits for no other; as a context, everything is launched on it."""

    def __init__(self) -> None:
        self.cupy = cupy.cuda.Stream(non_blocking=True)

    def __enter__(self) -> Stream:
        self.cupy.__enter__()
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self.cupy.__exit__(*error)

    def wait_for(self, event: Event) -> None:
        """What comes later on this stream starts when the event has happened."""
        self.cupy.wait_event(event.cupy)

    def synchronize(self) -> None:
        """Waits until all that this stream was given is done."""
        self.cupy.synchronize()


class Event:
    """A point on a stream.   wait: how `synchronize` waits, "spin" or "block"."""

    def __init__(self, wait: str) -> None:
        self.cupy = cupy.cuda.Event(block=wait == BLOCKING, disable_timing=True)
        self._spins = wait != BLOCKING

    def record(self) -> None:
        """Puts it at the end of the current stream."""
        self.cupy.record(cupy.cuda.get_current_stream())

    def is_done(self) -> bool:
        """Whether it has happened, was never recorded, or never will because the GPU has failed."""
        # `Event.done` of CuPy is False for an error, too, and would stay so.
        return runtime.eventQuery(self.cupy.ptr) != _NOT_READY

    def synchronize(self) -> None:
        """Waits until it has happened; at once when it was never recorded. RuntimeError when the GPU has failed."""
        if self._spins:
            # Polling answers at once; cudaEventSynchronize may yield, depending on how the context was made.
            pointer = self.cupy.ptr
            while (status := runtime.eventQuery(pointer)) == _NOT_READY:
                _let_others_run()
            if status == 0:
                return
        self.cupy.synchronize()  # waits, or raises what went wrong


class _HostMemory:
    """Page-locked memory that is freed with the last array that looks into it."""

    def __init__(self, pointer: int, nbytes: int) -> None:
        self._pointer = pointer
        self.__array_interface__ = {
            "shape": (nbytes,),
            "typestr": "|u1",
            "data": (pointer, False),
            "version": 3,
        }

    def __del__(self) -> None:
        with suppress(Exception):  # the context is gone when the program ends
            runtime.freeHost(self._pointer)


def _current() -> int:
    return cupy.cuda.get_current_stream().ptr


def _reason(error: Exception) -> str:
    return str(error).split(":")[-1].strip()


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"
