"""Image files: their size without decoding them, and their pixels."""

from __future__ import annotations

from pathlib import Path

import cv2

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")

_PNG_START = b"\x89PNG\r\n\x1a\n"
_START_OF_SCAN, _END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"

# JPEG's start-of-frame markers: C0..CF but for the tables C4, CC and the extension C8.
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}

# Boxes are marked on the stored pixels, so an orientation tag must not turn them.
_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


def read_image(path):
    """The image as stored, (H, W, 3) uint8 BGR. Raises FileNotFoundError or ValueError naming the file."""
    image = cv2.imread(str(path), _FLAGS)
    if image is None:
        if not Path(path).exists():
            raise FileNotFoundError(f"{path}: no such image")
        raise ValueError(f"{path}: not a readable image")
    return image


def read_image_size(path):
    """(height, width) of an image file, from its header where it is JPEG or PNG.

    Raises FileNotFoundError; ValueError naming the file when it is no image or ends early.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such image") from None
    if data[:2] == b"\xff\xd8":
        # Decoders fill up a truncated file with grey and say nothing.
        if data.find(_END_OF_IMAGE, max(0, data.rfind(_START_OF_SCAN))) < 0:
            raise ValueError(f"{path}: the JPEG file ends early, after {len(data)} bytes")
        return _jpeg_size(data, path)
    if data[:8] == _PNG_START:
        if b"IEND" not in data[-16:]:
            raise ValueError(f"{path}: the PNG file ends early, after {len(data)} bytes")
        return int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")
    return read_image(path).shape[:2]


def _jpeg_size(data, path):
    position = 2
    while position + 9 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # a filling byte
            position += 1
            continue
        if marker in _START_OF_FRAME:
            height = int.from_bytes(data[position + 5 : position + 7], "big")
            return height, int.from_bytes(data[position + 7 : position + 9], "big")
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    raise ValueError(f"{path}: not a readable JPEG file; it has no frame header")
