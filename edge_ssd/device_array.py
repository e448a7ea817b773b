"""An image that lies on a GPU already: described, not touched. NumPy and the standard library only."""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np

# Of DLPack's DLDeviceType and DLDataTypeCode.
_CPU, _CUDA, _CUDA_MANAGED, _UNSIGNED = 1, 2, 13, 1

# CUDA's legacy default stream, as the array interface and DLPack number it.
_DEFAULT_STREAM = 1


@dataclass(frozen=True, eq=False)
class DeviceArray:
    """An array of another library (PyTorch, CuPy, jetson-utils, JAX) in GPU memory.

    address: where it begins.   shape; strides, in bytes; dtype: as NumPy has them.
    stream: cudaStream_t of the work that makes it, as an integer; 0 when there is nothing to wait for.
    owner: what keeps the memory alive.

    Two are equal when they are the same object, and hash so: to compare pixels they would have to be copied.
    """

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype
    stream: int
    owner: Any

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return self.dtype.itemsize

    def __getitem__(self, rows: slice) -> DeviceArray:
        """Some rows: a slice without a step."""
        start, stop, step = rows.indices(self.shape[0])
        if step != 1:
            raise ValueError(f"expected rows next to each other, got a step of {step}")
        shape = (max(0, stop - start), *self.shape[1:])
        return replace(self, address=self.address + start * self.strides[0], shape=shape)

    def reshape(self, *shape: int) -> DeviceArray:
        """The same memory in another shape; ValueError unless it is contiguous."""
        if self.strides != contiguous_strides(self.shape, self.itemsize) or math.prod(shape) != math.prod(
            self.shape
        ):
            raise ValueError(
                f"image: a {self.shape} array on the GPU with strides {self.strides} must be contiguous"
            )
        return replace(self, shape=shape, strides=contiguous_strides(shape, self.itemsize))

    def __array__(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        raise TypeError(
            "this image lies on the GPU; copy it to the host first (torch: .cpu(), CuPy: asnumpy)"
        )


def contiguous_strides(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Strides in bytes of a C-contiguous array.   itemsize: bytes of an element."""
    strides = [itemsize]
    for size in reversed(shape[1:]):
        strides.insert(0, strides[0] * size)
    return tuple(strides[-len(shape) :]) if shape else ()


def as_image(image: Any) -> np.ndarray | DeviceArray:
    """`image` as a NumPy array where it lies in host memory, as a DeviceArray where it lies on a GPU.

    image: NumPy, or anything with `__cuda_array_interface__` or `__dlpack__`.
    Raises ValueError for anything else.
    """
    if isinstance(image, (np.ndarray, DeviceArray)):
        return image
    interface = getattr(image, "__cuda_array_interface__", None)
    has_dlpack = hasattr(image, "__dlpack_device__")
    # Before version 3 (torch's) the interface does not tell the stream that makes the image; DLPack does.
    if interface is not None and (interface.get("version", 0) >= 3 or not has_dlpack):
        return _from_interface(image, interface)
    if has_dlpack:
        kind, _ = image.__dlpack_device__()
        if kind == _CPU:
            return np.from_dlpack(image)
        if kind in (_CUDA, _CUDA_MANAGED):
            return _from_dlpack(image)
        raise ValueError(
            f"image: lies on a device of DLPack type {int(kind)}; expected the host or a CUDA GPU"
        )
    raise ValueError(
        f"image: expected a NumPy, CUDA or DLPack array, got {type(image).__module__}.{type(image).__name__}; "
        "of a PIL image in RGB take numpy.asarray(image)[..., ::-1]"
    )


def _from_interface(owner: Any, interface: dict[str, Any]) -> DeviceArray:
    shape, dtype = tuple(interface["shape"]), np.dtype(interface["typestr"])
    strides = interface.get("strides") or contiguous_strides(shape, dtype.itemsize)
    return DeviceArray(
        address=interface["data"][0],
        shape=shape,
        strides=tuple(strides),
        dtype=dtype,
        # Before version 3 the interface says nothing of streams; the default stream is what was meant.
        stream=int(interface.get("stream") or 0) if interface.get("version", 0) >= 3 else _DEFAULT_STREAM,
        owner=owner,
    )


class _DLTensor(ctypes.Structure):
    """The head of DLPack's DLManagedTensor (dlpack.h)."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),  # in elements; null when contiguous
        ("byte_offset", ctypes.c_uint64),
    )


def _from_dlpack(image: Any) -> DeviceArray:
    # The producer lets its work come before what CUDA's default stream is given from now on.
    capsule = image.__dlpack__(stream=_DEFAULT_STREAM)
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.restype, get_pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    tensor = _DLTensor.from_address(get_pointer(capsule, b"dltensor"))
    if (tensor.code, tensor.bits, tensor.lanes) != (_UNSIGNED, 8, 1):
        raise ValueError(f"image: expected uint8, got DLPack type code {tensor.code} of {tensor.bits} bits")
    shape = tuple(tensor.shape[: tensor.ndim])
    strides = tuple(tensor.strides[: tensor.ndim]) if tensor.strides else contiguous_strides(shape, 1)
    return DeviceArray(
        address=(tensor.data or 0) + tensor.byte_offset,
        shape=shape,
        strides=strides,
        dtype=np.dtype(np.uint8),
        stream=_DEFAULT_STREAM,
        # An unused capsule frees its tensor when it is collected.
        owner=(capsule, image),
    )
