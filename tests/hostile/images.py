"""Small image files that claim to be huge, of each kind that is read."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np


def _encoded(suffix):
    return bytearray(cv2.imencode(suffix, np.zeros((8, 8, 3), np.uint8))[1].tobytes())


def jpeg(width, height):
    """A JPEG of some 600 bytes; a decoder fills what is missing with grey."""
    data = _encoded(".jpg")
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def png(width, height):
    """A PNG with the pixels of 8 x 8."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = _encoded(".png")
    data[12:33] = header + struct.pack(">I", zlib.crc32(header))
    return bytes(data)


def bmp(width, height):
    data = _encoded(".bmp")
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def webp(width, height):
    data = b"\x2f" + struct.pack("<I", width - 1 | height - 1 << 14) + bytes(27)
    return b"RIFF" + struct.pack("<I", len(data) + 12) + b"WEBPVP8L" + struct.pack("<I", len(data)) + data


def tiff(width, height):
    tags = ((256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (279, 4))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + b"\0" * 4


def ppm(width, height):
    return b"P6\n# a comment\n%d %d\n255\n" % (width, height) + bytes(99)


BOMBS = {
    "a.jpg": jpeg(30000, 30000),
    "b.png": png(50000, 50000),
    "c.bmp": bmp(40000, -40000),
    "d.webp": webp(16383, 16383),
    "e.tiff": tiff(30000, 30000),
    "f.ppm": ppm(30000, 30000),
}
