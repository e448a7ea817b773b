"""Checks of what is handed to a kernel: a launch itself checks nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from .device import Device, DeviceArray

_ALIGNMENT = 16


def check_array(
    device: Device, name: str, array: DeviceArray, shape: tuple[int, ...], dtype: npt.DTypeLike
) -> DeviceArray:
    """A device array, as a launch argument.

    Raises ValueError naming the array when it is not a C-contiguous array of this shape and dtype on this
    device, 16-byte aligned.
    """
    if not device.owns(array):
        raise ValueError(f"{name}: expected an array on {device.name}, got {_place_of(array)}")
    if array.dtype != dtype:
        raise ValueError(f"{name}: expected {np.dtype(dtype)}, got {array.dtype}")
    if tuple(array.shape) != tuple(shape):
        raise ValueError(f"{name}: expected shape {tuple(shape)}, got {tuple(array.shape)}")
    if not array.flags.c_contiguous:
        raise ValueError(f"{name}: expected a C-contiguous array, got strides {array.strides}")
    if array.size and device.address(array) % _ALIGNMENT:
        raise ValueError(f"{name}: expected an address that is a multiple of {_ALIGNMENT}; copy the array")
    return array


def head_define(dtype: npt.DTypeLike) -> str:
    """The C++ type of a head, for the kernels' HEAD. Raises ValueError for another dtype."""
    types = {np.dtype(np.float32): "float", np.dtype(np.float16): "__half"}
    if np.dtype(dtype) not in types:
        raise ValueError(f"dtype: expected float32 or float16, got {np.dtype(dtype)}")
    return types[np.dtype(dtype)]


def ints(*values: int) -> tuple[np.int32, ...]:
    """Launch arguments of type int: CuPy passes a Python number as 64 bits, whatever the kernel takes."""
    return tuple(np.int32(value) for value in values)


def floats(*values: float) -> tuple[np.float32, ...]:
    """Launch arguments of type float."""
    return tuple(np.float32(value) for value in values)


def check_block(block: int, most: int = 1024) -> None:
    """Raises ValueError for a number of threads that a kernel does not take."""
    if block % 32 or not 32 <= block <= most:
        raise ValueError(f"block: expected a multiple of 32 from 32 to {most}, got {block}")


def _place_of(array: DeviceArray) -> str:
    owner = getattr(array, "device", None)
    return f"{type(array).__name__} on {owner}" if owner is not None else type(array).__name__
