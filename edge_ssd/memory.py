"""Frames where the GPU can read them: page-locked buffers to capture into, and the way of one frame to a kernel.

Every copy on that way is counted, so that "zero copy" is a number and not a claim.
"""

from __future__ import annotations

import logging
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .device_array import DeviceArray
from .frames import Frame

if TYPE_CHECKING:
    from .kernels.device import Device

log = logging.getLogger("edge_ssd")

# 97 frames of 1280 x 720 BGR, 10 of 3840 x 2160: several for each of 16 cameras. Somebody who collects frames in a
# list gets ordinary memory for the rest: page-locked memory is taken from the whole machine.
_MOST_BYTES = 256 << 20

# Whole cache lines for a staged row, and as CUDA aligns for a plane.
_ROW_ALIGNMENT, _PLANE_ALIGNMENT = 64, 256


def mapped_buffer(device: Device, nbytes: int) -> tuple[np.ndarray, int]:
    """(host, address): (nbytes,) uint8 page-locked memory, and where the GPU sees the same bytes.

    Through PyCUDA where it is installed (JetPack), else through CuPy. Not write-combined, since the CPU
    reads it back to draw and record; not managed, which would move pages back and forth.
    """
    with suppress(ImportError):
        return _mapped_by_pycuda(nbytes)
    return device.page_locked(nbytes)


def _mapped_by_pycuda(nbytes: int) -> tuple[np.ndarray, int]:
    """As `mapped_buffer`. The primary context is CuPy's too; pycuda.autoinit would make a second one.

    Not run on a Jetson yet.
    """
    import pycuda.driver as driver

    driver.init()
    flags = driver.host_alloc_flags.DEVICEMAP | driver.host_alloc_flags.PORTABLE
    context = driver.Device(0).retain_primary_context()  # a Jetson has one
    context.push()
    try:
        host = driver.pagelocked_empty((nbytes,), np.uint8, mem_flags=flags)
        return host, int(host.base.get_device_pointer())
    except driver.MemoryError as error:
        raise MemoryError(f"no {nbytes} bytes of page-locked memory ({error})") from error
    finally:
        context.pop()


class FrameMemory:
    """A pool of page-locked frame buffers.

    device: edge_ssd.kernels.device.Device.   most_bytes: in all buffers together.

    `allocate` may be called in any thread; a buffer comes back when the last array that looks into it goes.
    """

    def __init__(self, device: Device, most_bytes: int = _MOST_BYTES) -> None:
        self._device, self._most_bytes = device, most_bytes
        self._buffers: list[_Buffer] = []  # all of them, for `address`
        self._free: dict[int, deque[_Buffer]] = {}  # by size

    def allocate(self, shape: tuple[int, ...]) -> np.ndarray | None:
        """A uint8 array of `shape` in page-locked memory; None when there is no room for another."""
        nbytes = int(np.prod(shape))
        free = self._free.setdefault(nbytes, deque())
        try:
            buffer = free.pop()
        except IndexError:
            buffer = self._new_buffer(nbytes)
        if buffer is None:
            return None
        return np.asarray(_Lease(buffer, free, tuple(shape)))

    def _new_buffer(self, nbytes: int) -> _Buffer | None:
        self._make_room(nbytes)
        if self._room() < nbytes:
            return None
        try:
            buffer = _Buffer(*mapped_buffer(self._device, nbytes))
        except MemoryError as error:
            log.info("frames go into ordinary memory: %s", error)
            return None
        self._buffers.append(buffer)
        return buffer

    def _room(self) -> int:
        """Bytes that may still be taken."""
        return self._most_bytes - sum(buffer.nbytes for buffer in list(self._buffers))

    def _make_room(self, nbytes: int) -> None:
        """Gives up free buffers of other sizes, as far as needed: the camera's has changed."""
        for size, free in list(self._free.items()):
            while size != nbytes and self._room() < nbytes:
                try:
                    self._buffers.remove(free.pop())
                except IndexError:
                    break

    def address(self, plane: np.ndarray) -> int | None:
        """Where the GPU sees a NumPy array, when it lies in one of the buffers; else None."""
        start = plane.ctypes.data
        for buffer in list(self._buffers):
            if 0 <= start - buffer.start < buffer.nbytes:
                return buffer.address + start - buffer.start
        return None


class _Buffer:
    """Page-locked memory: where the host sees it (start), where the GPU does (address)."""

    def __init__(self, host: np.ndarray, address: int) -> None:
        self.host, self.address = host, address
        self.start, self.nbytes = host.ctypes.data, host.nbytes


class _Lease:
    """A buffer in use, as NumPy takes it; back in the pool when the arrays over it are gone."""

    def __init__(self, buffer: _Buffer, free: deque[_Buffer], shape: tuple[int, ...]) -> None:
        self._buffer, self._free = buffer, free
        data = (buffer.start, False)
        self.__array_interface__ = {"shape": shape, "typestr": "|u1", "data": data, "version": 3}

    def __del__(self) -> None:
        self._free.append(self._buffer)


@dataclass(frozen=True)
class Placement:
    """Where a kernel finds a frame.

    addresses, pitches: of its planes, as the device sees them.   cpu_copies, bus_copies: made to get there.
    """

    addresses: tuple[int, ...]
    pitches: tuple[int, ...]
    cpu_copies: int
    bus_copies: int


class FrameSlot:
    """The way of one frame after the other to the kernel; each waits until the one before is done with.

    memory: FrameMemory.   mode: "mapped", the kernel reads pixels in host memory where they are; "pinned", they
    are copied to the GPU's memory first, beside the work on the frame before.

    Its buffers grow to the largest frame and stay: a stream of one size allocates nothing after its first.
    """

    def __init__(self, device: Device, memory: FrameMemory, mode: str) -> None:
        self._device, self._memory, self._mode = device, memory, mode
        self._staged = self._uploaded = None
        self._arrived = device.event()

    def place(self, frame: Frame) -> Placement:
        """The Placement of a Frame; enqueues what is to be copied, and makes the compute stream wait for it.

        The frame's pixels may be changed or freed when its end event has happened, not before.
        Raises ValueError for a frame on another GPU.
        """
        foreign = [plane for plane in frame.planes if isinstance(plane, DeviceArray)]
        if foreign:  # then all of them are
            return self._foreign(foreign)
        planes, cpu_copies = [plane for plane in frame.planes if isinstance(plane, np.ndarray)], 0
        found = [self._memory.address(plane) for plane in planes]
        addresses = [address for address in found if address is not None]
        if len(addresses) < len(planes):
            planes, addresses = self._stage(planes)
            cpu_copies = 1
        pitches = tuple(plane.strides[0] for plane in planes)
        # A flipped view has rows in falling order: its pitch is negative.
        if min(pitches) < 0:
            planes, addresses = self._stage(planes)
            pitches, cpu_copies = tuple(plane.strides[0] for plane in planes), cpu_copies + 1
        if self._mode == "mapped":
            return Placement(tuple(addresses), pitches, cpu_copies, bus_copies=0)
        return Placement(self._upload(planes), pitches, cpu_copies, bus_copies=1)

    def _foreign(self, planes: list[DeviceArray]) -> Placement:
        for plane in planes:
            self._device.check_reachable(plane.address)
        with self._device.stream:
            for stream in {plane.stream for plane in planes} - {0}:
                self._device.wait_for_foreign(stream)
        addresses = tuple(plane.address for plane in planes)
        return Placement(addresses, tuple(plane.strides[0] for plane in planes), 0, 0)

    def _stage(self, planes: list[np.ndarray]) -> tuple[list[np.ndarray], list[int]]:
        """The planes in page-locked memory, and their addresses."""
        row_bytes = [plane[0].nbytes for plane in planes]
        pitches = [-(-size // _ROW_ALIGNMENT) * _ROW_ALIGNMENT for size in row_bytes]
        total = sum(pitch * len(plane) for pitch, plane in zip(pitches, planes))
        if self._staged is None or self._staged[0].nbytes < total:
            self._staged = mapped_buffer(self._device, total)
        host, address = self._staged
        staged, addresses, start = [], [], 0
        for plane, pitch in zip(planes, pitches):
            strides = (
                pitch,
                *(plane.itemsize * int(np.prod(plane.shape[i + 1 :])) for i in range(1, plane.ndim)),
            )
            copy = np.ndarray(plane.shape, np.uint8, host.data, start, strides)
            np.copyto(copy, plane)
            staged.append(copy)
            addresses.append(address + start)
            start += pitch * len(plane)
        return staged, addresses

    def _upload(self, planes: list[np.ndarray]) -> tuple[int, ...]:
        """Copies page-locked planes to the GPU on the copy stream; their addresses there."""
        # The last row ends where its pixels end: what comes after it may not be ours.
        sizes = [plane.strides[0] * (len(plane) - 1) + plane[0].nbytes for plane in planes]
        starts, total = [], 0
        for size in sizes:
            starts.append(total)
            total += -(-size // _PLANE_ALIGNMENT) * _PLANE_ALIGNMENT
        if self._uploaded is None or self._uploaded.nbytes < total:
            self._uploaded = self._device.empty((total,), np.uint8)
        base = self._device.address(self._uploaded)
        addresses = tuple(base + start for start in starts)
        with self._device.copy_stream:
            for plane, address, size in zip(planes, addresses, sizes):
                self._device.upload(address, plane.ctypes.data, size)
            self._arrived.record()
        self._device.stream.wait_for(self._arrived)
        return addresses
