"""Sizes in the headers of image files, as OpenCV's decoders take them, and what is too large to decode."""

from __future__ import annotations

import struct

import numpy as np
import pytest

pytest.importorskip("cv2")

import cv2

from edge_ssd import limits
from edge_ssd.files.image_header import check_content
from tests.media import encoded

_PROGRESSIVE = (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
_WHOLE_COLOR = (*_PROGRESSIVE, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)


def picture(width=200, height=100, depth=np.uint8, channels=3):
    return np.zeros((height, width, channels), depth)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tiff", ".ppm"])
def test_size_and_depth_are_those_of_the_image(suffix):
    header = check_content(encoded(picture(), suffix))
    assert (header.size, header.depth) == ((100, 200), 8)
    if suffix in (".png", ".tiff", ".ppm"):
        assert check_content(encoded(picture(depth=np.uint16), suffix)).depth == 16


def test_lossless_webp_has_its_own_header():
    assert check_content(encoded(picture(), ".webp", cv2.IMWRITE_WEBP_QUALITY, 101)).size == (100, 200)


@pytest.mark.parametrize(
    "data", [b"", b"GIF89a" + b"\0" * 99, b"BM", b"II*\0", b"P6\n", b"P6 1", b"RIFF\0\0\0\0WEBPx"]
)
def test_what_has_no_size_is_no_image(data):
    with pytest.raises(ValueError, match=r"empty|not an image"):
        check_content(data)


def limited(monkeypatch, megapixels):
    monkeypatch.setenv(limits.MEGAPIXELS_VARIABLE, str(megapixels))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tiff", ".ppm"])
def test_an_image_at_the_limit_is_read_and_one_above_is_not(monkeypatch, suffix):
    data = encoded(picture(200, 100), suffix)
    limited(monkeypatch, 0.02)
    check_content(data)
    limited(monkeypatch, 0.019999)
    with pytest.raises(ValueError, match=r"too large: 200 x 100 pixels; .* EDGE_SSD_MAX_MEGAPIXELS"):
        check_content(data)


# Bytes of a pixel while decoding, of at most 7 of a pixel that is allowed: the largest side of a 100 x N image.
@pytest.mark.parametrize(
    ("data", "fits"),
    [
        (lambda n: encoded(picture(n), ".jpg"), 100),
        (lambda n: encoded(picture(n), ".jpg", *_PROGRESSIVE), 100),  # 3 + 1.5 samples of 2
        (lambda n: encoded(picture(n), ".jpg", *_WHOLE_COLOR), 77),  # 3 + 3 samples of 2
        (lambda n: _animated(encoded(picture(n), ".png")), 58),  # 12
        (lambda n: _webp(n, 100, flags=0), 100),
        (lambda n: _webp(n, 100, flags=2), 63),  # 11
        (lambda n: encoded(picture(n, depth=np.uint16), ".tiff", cv2.IMWRITE_TIFF_ROWSPERSTRIP, 100), 77),
    ],
)
def test_what_takes_more_memory_has_a_lower_limit(monkeypatch, data, fits):
    limited(monkeypatch, 0.01)
    check_content(data(fits))
    with pytest.raises(ValueError, match="too large"):
        check_content(data(fits + 1))


def _animated(png):
    chunk = struct.pack(">I4sII", 8, b"acTL", 2, 0) + b"\0" * 4
    return png[:33] + chunk + png[33:]


def _webp(width, height, flags):
    sides = b"".join((side - 1).to_bytes(3, "little") for side in (width, height))
    return b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0" + bytes((flags, 0, 0, 0)) + sides


def test_scans_of_a_jpeg_are_counted(monkeypatch):
    data = encoded(picture(100), ".jpg", *_PROGRESSIVE)
    scan = data[data.rfind(b"\xff\xda") : -2]
    limited(monkeypatch, 0.02)
    check_content(data[:-2] + scan * 20 + data[-2:])
    with pytest.raises(ValueError, match="pixels in 41 scans"):
        check_content(data[:-2] + scan * (41 - data.count(b"\xff\xda")) + data[-2:])


def _with_size(jpeg, width, height):
    at = jpeg.index(b"\xff\xc0")
    return jpeg[: at + 5] + struct.pack(">HH", height, width) + jpeg[at + 9 :]


def _frame(jpeg):
    at = jpeg.index(b"\xff\xc0")
    return jpeg[at : at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")]


def test_of_two_headers_the_larger_counts_or_none():
    jpeg, png = encoded(picture(), ".jpg"), encoded(picture(), ".png")
    bomb = _with_size(jpeg, 65500, 65500)
    at = jpeg.index(b"\xff\xc0")
    with pytest.raises(ValueError, match="65500 x 65500"):
        check_content(jpeg[:at] + _frame(jpeg) + _frame(bomb) + jpeg[at:])
    with pytest.raises(ValueError, match="not an image"):
        check_content(png[:33] + png[8:33] + png[33:])


@pytest.mark.parametrize("marker", [b"\xff\x01", b"\xff\xd0"])
def test_a_header_is_not_hidden_behind_a_marker_without_a_length(marker):
    """A decoder goes on right behind such a marker; a reader that takes a length from there jumps over the bomb."""
    jpeg = encoded(picture(), ".jpg")
    bomb = _frame(_with_size(jpeg, 65500, 65500))
    with pytest.raises(ValueError, match="65500 x 65500"):
        check_content(jpeg[:2] + marker + bomb + jpeg[2:])


def test_a_tag_of_a_tiff_that_is_there_twice_counts_with_its_larger_value():
    tiff = bytearray(encoded(picture(), ".tiff"))
    directory = int.from_bytes(tiff[4:8], "little")
    count = int.from_bytes(tiff[directory : directory + 2], "little")
    entries = [tiff[directory + 2 + 12 * i : directory + 14 + 12 * i] for i in range(count)]
    twice = [struct.pack("<HHII", 256, 4, 1, 1 << 30), *entries]
    moved = bytes(tiff) + struct.pack("<H", count + 1) + b"".join(map(bytes, twice)) + b"\0" * 4
    with pytest.raises(ValueError, match="1073741824 x 100"):
        check_content(moved[:4] + struct.pack("<I", len(tiff)) + moved[8:])
