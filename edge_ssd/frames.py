"""One camera frame: its pixels as the source has them, and when they were taken."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .device_array import DeviceArray, as_image

COLOR_MATRICES = ("bt601", "bt709")
COLOR_RANGES = ("limited", "full")
TIMESTAMP_SOURCES = ("driver", "stream", "arrival")

# Bytes of one pixel of the formats that lie in one plane; None: (H, W), without a channel axis.
_PACKED = {"bgr8": 3, "rgb8": 3, "bgra8": 4, "rgba8": 4, "mono8": None, "yuyv": 2, "uyvy": 2}
PIXEL_FORMATS = (*_PACKED, "nv12", "i420")

# One plane of an image, where it lies.
Plane = np.ndarray | DeviceArray


@dataclass(frozen=True, eq=False)
class Frame:
    """An image, what its bytes mean, and when it was taken.

    image: uint8 array; rows may have any pitch (a NumPy stride), pixels within a row lie together.
        NumPy, or on a GPU (PyTorch, CuPy, jetson-utils: `__cuda_array_interface__` or DLPack), which a
        detector on the GPU reads where it lies.
        bgr8, rgb8 (H, W, 3); bgra8, rgba8 (H, W, 4); mono8 (H, W); yuyv, uyvy (H, W, 2), W even;
        nv12, i420: (H * 3 / 2, W), rows of luma and then of chroma as OpenCV has them, H and W even,
        or the tuple of planes: nv12 (H, W), (H / 2, W / 2, 2); i420 (H, W), (H / 2, W / 2) twice.
    color_matrix, color_range: of the YUV formats; ignored by the others.
    timestamp_ns: when it was taken, on the monotonic clock.   timestamp_source: who said so: the
        camera's driver, the stream's own clock, or the moment the frame arrived here.
    sequence: number of the frame since the source opened; a gap is a drop.   source: file or address.
    capture_ms: what reading and decoding it took; waiting for a live camera is not in it.
    copies: how often the CPU copied the pixels since the driver or the decoder gave them.

    Two frames are equal when they are the same object, and hash so: their pixels may lie on a GPU, where comparing
    them would copy, or in a camera's buffer, where the next frame replaces them.

    Raises ValueError for a shape, dtype or layout that does not fit.
    """

    image: Any
    pixel_format: str = "bgr8"
    color_matrix: str = "bt601"
    color_range: str = "limited"
    timestamp_ns: int = 0
    timestamp_source: str = "arrival"
    sequence: int = 0
    source: str = ""
    capture_ms: float = 0.0
    copies: int = 0
    _planes: tuple[Plane, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name, choices in (
            ("pixel_format", PIXEL_FORMATS),
            ("color_matrix", COLOR_MATRICES),
            ("color_range", COLOR_RANGES),
            ("timestamp_source", TIMESTAMP_SOURCES),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}: expected one of {', '.join(choices)}, got {getattr(self, name)!r}")
        object.__setattr__(self, "_planes", split_planes(self.image, self.pixel_format))

    @property
    def planes(self) -> tuple[Plane, ...]:
        """The planes, tuple of uint8 views: one for packed formats, (H, W) and (H / 2, W / 2, 2) for nv12."""
        return self._planes

    @property
    def is_on_device(self) -> bool:
        """Whether the pixels lie in GPU memory."""
        return any(isinstance(plane, DeviceArray) for plane in self._planes)

    def age_ms(self) -> float:
        """Milliseconds since it was taken, by `timestamp_ns`."""
        return (now_ns() - self.timestamp_ns) / 1e6

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width), pixels."""
        height, width = self._planes[0].shape[:2]
        return height, width


def now_ns() -> int:
    """The clock of every timestamp here: monotonic, nanoseconds."""
    return time.monotonic_ns()


def split_planes(image: Any, pixel_format: str) -> tuple[Plane, ...]:
    """The planes of an image in `pixel_format`, as views; see `Frame`. Raises ValueError when it does not fit."""
    planes = tuple(as_image(plane) for plane in (image if isinstance(image, tuple) else (image,)))
    if len({isinstance(plane, DeviceArray) for plane in planes}) > 1:
        raise ValueError("image: some of its planes lie on a GPU and others do not; move them together")
    for plane in planes:
        if plane.dtype != np.uint8:
            raise ValueError(f"image: expected uint8, got {plane.dtype}")
        if min(plane.shape, default=0) < 1:
            raise ValueError(f"image: expected at least one pixel, got shape {plane.shape}")
    if pixel_format in _PACKED:
        planes = (_packed_plane(planes, pixel_format),)
    elif isinstance(image, tuple):
        _check_planes(planes, pixel_format)
    else:
        planes = _split_stacked(planes[0], pixel_format)
    return tuple(_rows_together(plane) for plane in planes)


def _packed_plane(planes: tuple[Plane, ...], pixel_format: str) -> Plane:
    channels = _PACKED[pixel_format]
    plane = planes[0]
    shape = plane.shape[:2] if channels is None else (*plane.shape[:2], channels)
    if len(planes) != 1 or plane.ndim < 2 or plane.shape != shape:
        wanted = "(H, W)" if channels is None else f"(H, W, {channels})"
        raise ValueError(f"image: expected {wanted} for {pixel_format}, got {_shapes(planes)}{_hint(plane)}")
    if pixel_format in ("yuyv", "uyvy") and plane.shape[1] % 2:
        raise ValueError(f"image: expected an even width for {pixel_format}, got {plane.shape[1]}")
    return plane


def _split_stacked(image: Plane, pixel_format: str) -> tuple[Plane, ...]:
    rows = image.shape[0]
    if image.ndim != 2 or rows % 3 or image.shape[1] % 2:
        raise ValueError(
            f"image: expected (H * 3 / 2, W), H and W even, for {pixel_format}, got {image.shape}"
        )
    height, width = rows * 2 // 3, image.shape[1]
    luma, chroma = image[:height], image[height:]
    if height % 2:
        raise ValueError(f"image: expected an even height for {pixel_format}, got {height}")
    if pixel_format == "nv12":
        return luma, chroma.reshape(height // 2, width // 2, 2)
    # Two rows of quarter-size chroma lie side by side in one row of the image: U's first, then V's.
    rows = _contiguous(chroma).reshape(height, width // 2)
    return luma, rows[: height // 2], rows[height // 2 :]


def _check_planes(planes: tuple[Plane, ...], pixel_format: str) -> None:
    height, width = planes[0].shape[:2]
    quarter = (height // 2, width // 2)
    wanted = {"nv12": [(height, width), (*quarter, 2)], "i420": [(height, width), quarter, quarter]}[
        pixel_format
    ]
    if [p.shape for p in planes] != wanted or height % 2 or width % 2:
        raise ValueError(
            f"image: expected planes {wanted}, sides even, for {pixel_format}, got {_shapes(planes)}"
        )


def _rows_together(plane: Plane) -> Plane:
    """Pixels within a row must lie together; only the pitch is free."""
    expected = plane.itemsize
    for size, stride in zip(reversed(plane.shape[1:]), reversed(plane.strides[1:])):
        if size > 1 and stride != expected:
            return _contiguous(plane)
        expected *= size
    return plane


def _contiguous(plane: Plane) -> Plane:
    """The plane with its elements together: a copy where it must be one, which it is not on a GPU."""
    return plane.reshape(*plane.shape) if isinstance(plane, DeviceArray) else np.ascontiguousarray(plane)


def _shapes(planes: tuple[Plane, ...]) -> str:
    return " and ".join(str(p.shape) for p in planes)


def _hint(plane: Plane) -> str:
    if plane.ndim == 2:
        return '; a grey image is pixel_format "mono8"'
    if plane.ndim == 3 and plane.shape[2] == 4:
        return '; with an alpha channel it is "bgra8" or "rgba8"'
    return ""
