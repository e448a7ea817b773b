"""Image files: their pixels, what their headers say without decoding them, and whether they are all there.

The headers of JPEG and PNG are read here and not by Pillow. Pillow opens a file that is cut off and its `verify` passes
a cut JPEG, so the walk over chunks and segments would stay; a PNG of 16-bit colours it calls "RGB", without the
depth that the check of a data set asks for; and no extra needs Pillow for itself. What is left to take over is
the orientation tag, which it gives as stored, valid or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from . import StrPath

_PNG_HEAD, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND"
_JPEG_HEAD, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"

# JPEG's start-of-frame markers: C0..CF but for the tables C4, CC and the extension C8.
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN = 0xDA
_APP1, _EXIF = 0xE1, b"Exif\0\0"
# The orientation tag and its type, a 16-bit number, in a directory of EXIF's; 1 is "as stored".
_ORIENTATION, _SHORT, UPRIGHT = 0x0112, 3, 1
_BYTE_ORDERS: dict[bytes, Literal["little", "big"]] = {b"II*\0": "little", b"MM\0*": "big"}


@dataclass(frozen=True)
class ImageHeader:
    """What a file says of its image.

    size: (height, width), pixels as stored.   depth: bits of a channel.
    orientation: EXIF's tag, 1 to 8: 1 as stored, 3 upside down, 6 and 8 quarter turns, 5 and 7 those mirrored,
        2 and 4 mirrored; 1 where there is none.
    """

    size: tuple[int, int]
    depth: int
    orientation: int = UPRIGHT

    @property
    def shown_size(self) -> tuple[int, int]:
        """(height, width) of the image turned as its orientation tag says."""
        height, width = self.size
        return (width, height) if self.orientation >= 5 else (height, width)


def read_image(path: StrPath, turned: bool = True) -> np.ndarray:
    """The image in a file: (H, W, 3) uint8 BGR, whatever its channels and depth.

    turned: as its orientation tag says; False gives the pixels as stored, on which boxes are marked.
    Raises FileNotFoundError, or ValueError naming the file when it is no image or not all there:
    OpenCV alone would fill what is missing of a JPEG with grey.
    """
    flags = cv2.IMREAD_COLOR | (0 if turned else cv2.IMREAD_IGNORE_ORIENTATION)
    return _decode(_read_bytes(path), path, flags)


def _decode(data: bytes, path: StrPath, flags: int) -> np.ndarray:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ValueError(f"{path}: {error.err}") from None
    if image is None:
        raise ValueError(f"{path}: not an image that OpenCV can read")
    return image


def read_image_size(path: StrPath) -> tuple[int, int]:
    """(height, width) of an image file as stored; reading and errors as `read_header`."""
    return read_header(path).size


def read_header(path: StrPath) -> ImageHeader:
    """The ImageHeader of an image file, without decoding it where it is JPEG or PNG.

    Raises FileNotFoundError; ValueError naming the file when it is no image or not all there.
    """
    data = _read_bytes(path)
    if data.startswith(_JPEG_HEAD):
        return _jpeg_header(data, path)
    if data.startswith(_PNG_HEAD):
        size = int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")
        tags = [data[start : start + length] for name, start, length in _png_chunks(data) if name == b"eXIf"]
        return ImageHeader(size, data[24], _orientation(tags[0]) if tags else UPRIGHT)
    image = _decode(data, path, cv2.IMREAD_UNCHANGED)
    height, width = image.shape[:2]
    return ImageHeader((height, width), 8 * image.dtype.itemsize)


def _jpeg_header(data: bytes, path: StrPath) -> ImageHeader:
    orientation = UPRIGHT
    for marker, start in _jpeg_segments(data):
        if marker == _APP1 and data.startswith(_EXIF, start + 2):
            end = start + int.from_bytes(data[start : start + 2], "big")
            orientation = _orientation(data[start + 2 + len(_EXIF) : end])
        if marker in _START_OF_FRAME:
            height, width = data[start + 3 : start + 5], data[start + 5 : start + 7]
            size = int.from_bytes(height, "big"), int.from_bytes(width, "big")
            return ImageHeader(size, data[start + 2], orientation)
    raise ValueError(f"{path}: a JPEG without a frame header")


def _orientation(exif: bytes) -> int:
    """The orientation tag in EXIF data, which are laid out as a TIFF; UPRIGHT where there is no valid one."""
    order = _BYTE_ORDERS.get(exif[:4])
    if order is None:
        return UPRIGHT

    def number(at: int, size: int) -> int:
        return int.from_bytes(exif[at : at + size], order)

    directory = number(4, 4)
    for entry in range(directory + 2, directory + 2 + 12 * number(directory, 2), 12):
        if (number(entry, 2), number(entry + 2, 2)) == (_ORIENTATION, _SHORT):
            value = number(entry + 8, 2)
            return value if 1 <= value <= 8 else UPRIGHT
    return UPRIGHT


def _read_bytes(path: StrPath) -> bytes:
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such image") from None
    problem = _incomplete(data)
    if problem:
        raise ValueError(f"{path}: {problem}")
    return data


def _incomplete(data: bytes) -> str:
    """What is missing of an image file, as text; empty when nothing seems to be."""
    if not data:
        return "the file is empty"
    if data.startswith(_PNG_HEAD):
        return "" if _png_ends(data) else "the PNG is truncated (no end chunk)"
    if data.startswith(_JPEG_HEAD):
        # Neither a thumbnail before the scan nor what a phone puts after the image counts.
        scans = [start for marker, start in _jpeg_segments(data) if marker == _START_OF_SCAN]
        complete = scans and data.find(_JPEG_END, scans[0]) >= 0
        return "" if complete else "the JPEG is truncated (no end marker)"
    return ""


def _png_ends(data: bytes) -> bool:
    """Whether the chunks of a PNG lead to its end; what follows the end does not count."""
    return any(name == _PNG_END for name, _, _ in _png_chunks(data))


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(name, where its data are, their length in bytes) of the chunks of a PNG up to its end."""
    at = len(_PNG_HEAD)
    while at + 12 <= len(data):
        name, length = data[at + 4 : at + 8], int.from_bytes(data[at : at + 4], "big")
        yield name, at + 8, length
        if name == _PNG_END:
            return
        at += 12 + length


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """(marker, where its length field is) of the segments of a JPEG up to its first scan."""
    at = 2
    while data[at : at + 1] == b"\xff" and at + 3 < len(data):
        marker = data[at + 1]
        if marker == 0xFF:  # a filling byte
            at += 1
            continue
        yield marker, at + 2
        if marker == _START_OF_SCAN:
            return
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def use_one_opencv_thread() -> None:
    """Has OpenCV work in the calling thread, in this process from now on: for programs that run a network beside it.

    Its threads would share the cores with the network's: on two cores the resize of a 640 x 480 frame took 0.16 ms in
    one thread, and between 0.14 and 0.31 ms in two.
    """
    cv2.setNumThreads(1)


def opencv_name(name: StrPath) -> str:
    """A file's name or an address as text that OpenCV can take; ValueError when it is not UTF-8.

    OpenCV ends the process for such a name.
    """
    try:
        str(name).encode()
    except UnicodeEncodeError:
        shown = str(name).encode(errors="backslashreplace").decode()
        raise ValueError(f"{shown}: OpenCV cannot open a name that is not UTF-8; rename it") from None
    return str(name)
