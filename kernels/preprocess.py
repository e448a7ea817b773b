"""Launcher of preprocess.cu, and the descriptor that tells it where a frame lies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from .arrays import check_array, check_block, head_define, ints
from .color import COLOR_MATRICES, COLOR_RANGES, yuv_to_rgb

if TYPE_CHECKING:
    from .device import Device, DeviceArray

PIXEL_FORMATS = ("bgr8", "rgb8", "bgra8", "rgba8", "mono8", "nv12", "i420", "yuyv", "uyvy")

# As `struct FrameDescriptor` of preprocess.cu.
FRAME_DESCRIPTOR = np.dtype(
    [
        ("plane", "<u8", 3),
        ("pitch", "<i4", 3),
        ("image_size", "<i4", 2),
        ("inner_size", "<i4", 2),
        ("padding", "<i4", 2),
        ("format", "u1"),
        ("color_matrix", "u1"),
        ("unused", "u1", 2),
    ]
)

TILE_SIZE = (8, 32)

# Half of what every GPU gives a block, so that two blocks share a multiprocessor even there. The tile of a
# 1280 x 720 BGR frame for a 300 x 300 input takes 9 KB.
_SHARED_BYTES = 24 * 1024
# Of the 48 KB that every GPU gives a block, beside up to 4 KB of its own.
_MOST_SHARED_BYTES = 44 * 1024


class Placing(Protocol):
    """Where the resized frame lies in the input: (height, width) of it, (top, left) of its corner, pixels."""

    @property
    def inner_size(self) -> tuple[int, int]: ...

    @property
    def padding(self) -> tuple[int, int]: ...


def describe_frame(
    descriptor: np.ndarray | np.void,
    addresses: Sequence[int],
    pitches: Sequence[int],
    image_size: tuple[int, int],
    pixel_format: str,
    color_matrix: str,
    color_range: str,
    plan: Placing,
) -> None:
    """Fills one FRAME_DESCRIPTOR in place.

    addresses: of the planes, 1 to 3, as the device sees them.   pitches: bytes from row to row of each.
    image_size: (height, width).   plan: anything with inner_size and padding, as edge_ssd.resize.ResizePlan.

    Raises ValueError naming the argument that does not fit.
    """
    if pixel_format not in PIXEL_FORMATS:
        raise ValueError(f"pixel_format: expected one of {', '.join(PIXEL_FORMATS)}, got {pixel_format!r}")
    count = {"nv12": 2, "i420": 3}.get(pixel_format, 1)
    if len(addresses) != count or len(pitches) != count:
        raise ValueError(f"planes: expected {count} for {pixel_format}, got {len(addresses)}")
    row_bytes = _row_bytes(pixel_format, image_size[1])
    for pitch, least in zip(pitches, row_bytes):
        if not least <= pitch < 2**31:
            raise ValueError(f"pitch: expected at least the {least} bytes of a row, got {pitch}")
    descriptor["plane"] = (*addresses, *(0,) * (3 - count))
    descriptor["pitch"] = (*pitches, *(0,) * (3 - count))
    descriptor["image_size"], descriptor["inner_size"] = image_size, plan.inner_size
    descriptor["padding"] = plan.padding
    descriptor["format"] = PIXEL_FORMATS.index(pixel_format)
    descriptor["color_matrix"] = _matrix_index(color_matrix, color_range)


def preprocess_constants(
    mean: Sequence[float], std: Sequence[float], pad_value: Sequence[float]
) -> np.ndarray:
    """What the kernel needs of an input, (61,) float32: mean, 1 / std and padding per channel, colour matrices.

    mean, std, pad_value: three numbers each on the 0..255 scale, in the order of the input's channels.
    """
    means, stds, pads = (np.array(v, np.float32) for v in (mean, std, pad_value))
    channels = np.stack([means, 1 / stds, (pads - means) / stds], axis=1)
    conversions = [yuv_to_rgb(matrix, range_) for matrix in COLOR_MATRICES for range_ in COLOR_RANGES]
    tables = [np.append(conversion.matrix.ravel(), conversion.black) for conversion in conversions]
    return np.concatenate([channels.ravel(), *tables]).astype(np.float32)


def preprocess(
    device: Device,
    descriptors: DeviceArray,
    constants: DeviceArray,
    batch: DeviceArray,
    blue_first: bool,
    block: int = 256,
    shared_bytes: int = _SHARED_BYTES,
) -> None:
    """Frames -> network input.

    descriptors: (B * 64,) uint8 device array that holds B FRAME_DESCRIPTORs when the stream gets there.
    constants: (61,) float32, `preprocess_constants`.   batch: (B, 3, H, W) float32 or float16, written.
    blue_first: the input's channels are blue, green, red.   block: threads.   shared_bytes: see preprocess.cu.

    Launches on the current stream. Raises ValueError for an array that does not fit.
    """
    check_block(block, most=256)
    if not 1024 <= shared_bytes <= _MOST_SHARED_BYTES:
        raise ValueError(f"shared_bytes: expected 1024 to {_MOST_SHARED_BYTES}, got {shared_bytes}")
    batch_size, channels, height, width = batch.shape
    if channels != 3:
        raise ValueError(f"batch: expected (B, 3, H, W), got {tuple(batch.shape)}")
    define = head_define(batch.dtype)
    check_array(device, "batch", batch, batch.shape, batch.dtype)
    check_array(device, "descriptors", descriptors, (batch_size * FRAME_DESCRIPTOR.itemsize,), np.uint8)
    check_array(device, "constants", constants, (61,), np.float32)
    rows, columns = TILE_SIZE
    device.kernel("preprocess", BATCH=define)(
        (-(-width // columns), -(-height // rows), batch_size),
        block,
        (descriptors, constants, batch, *ints(height, width, blue_first, shared_bytes)),
        shared_bytes=shared_bytes,
    )


def _row_bytes(pixel_format: str, width: int) -> tuple[int, ...]:
    """Bytes of a row of each plane."""
    if pixel_format == "nv12":
        return width, width
    if pixel_format == "i420":
        return width, width // 2, width // 2
    return (width * {"mono8": 1, "yuyv": 2, "uyvy": 2, "bgra8": 4, "rgba8": 4}.get(pixel_format, 3),)


def _matrix_index(color_matrix: str, color_range: str) -> int:
    if color_matrix not in COLOR_MATRICES or color_range not in COLOR_RANGES:
        raise ValueError(
            f"color: expected {' or '.join(COLOR_MATRICES)} and {' or '.join(COLOR_RANGES)}, "
            f"got {color_matrix!r} and {color_range!r}"
        )
    return COLOR_MATRICES.index(color_matrix) * len(COLOR_RANGES) + COLOR_RANGES.index(color_range)
