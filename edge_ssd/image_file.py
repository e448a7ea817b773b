"""Image files: their pixels, their size without decoding them, and whether they are all there."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

_PNG_HEAD, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND"
_JPEG_HEAD, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"

# JPEG's start-of-frame markers: C0..CF but for the tables C4, CC and the extension C8.
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN = 0xDA


def read_image(path, turned=True):
    """The image in a file: (H, W, 3) uint8 BGR, whatever its channels and depth.

    turned: as its orientation tag says; False gives the pixels as stored, on which boxes are marked.
    Raises FileNotFoundError, or ValueError naming the file when it is no image or not all there:
    OpenCV alone would fill what is missing of a JPEG with grey.
    """
    data = _read_bytes(path)
    try:
        flags = cv2.IMREAD_COLOR | (0 if turned else cv2.IMREAD_IGNORE_ORIENTATION)
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ValueError(f"{path}: {error.err}") from None
    if image is None:
        raise ValueError(f"{path}: not an image that OpenCV can read")
    return image


def read_image_size(path):
    """(height, width) of an image file as stored, from its header where it is JPEG or PNG.

    Raises FileNotFoundError; ValueError naming the file when it is no image or not all there.
    """
    data = _read_bytes(path)
    if data.startswith(_JPEG_HEAD):
        for marker, start in _jpeg_segments(data):
            if marker in _START_OF_FRAME:
                height, width = data[start + 3 : start + 5], data[start + 5 : start + 7]
                return int.from_bytes(height, "big"), int.from_bytes(width, "big")
        raise ValueError(f"{path}: a JPEG without a frame header")
    if data.startswith(_PNG_HEAD):
        return int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")
    return read_image(path, turned=False).shape[:2]


def _read_bytes(path):
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such image") from None
    problem = _incomplete(data)
    if problem:
        raise ValueError(f"{path}: {problem}")
    return data


def _incomplete(data):
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


def _png_ends(data):
    """Whether the chunks of a PNG lead to its end; what follows the end does not count."""
    at = len(_PNG_HEAD)
    while at + 12 <= len(data):
        if data[at + 4 : at + 8] == _PNG_END:
            return True
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return False


def _jpeg_segments(data):
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
