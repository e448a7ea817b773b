"""What the headers of image files say, and whether decoding such a file would cost too much.

JPEG, PNG, BMP, WebP, TIFF, and PPM, PGM, PBM; a file of another kind is not decoded. Where a decoder might read a
header in two ways, the larger size counts, or the file is refused.

Pillow is not used: it opens a file that is cut off and its `verify` passes a cut JPEG, so the walk over chunks and
segments would stay; a PNG of 16-bit colours it calls "RGB", without the depth that the check of a data set asks for;
and no extra needs Pillow for itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from .. import limits

_PNG_HEAD, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND"
_JPEG_HEAD, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"

# JPEG's start-of-frame markers: C0..CF but for the tables C4, CC and the extension C8; those of progressive ones.
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_START_OF_SCAN = 0xDA
# Markers without a length behind them: the restarts and TEM.
_BARE = frozenset(range(0xD0, 0xD8)) | {0x01}
_APP1, _EXIF = 0xE1, b"Exif\0\0"
# The orientation tag and its type, a 16-bit number, in a directory of EXIF's; 1 is "as stored".
_ORIENTATION, _SHORT, UPRIGHT = 0x0112, 3, 1
_ByteOrder = Literal["little", "big"]
_BYTE_ORDERS: dict[bytes, _ByteOrder] = {b"II*\0": "little", b"MM\0*": "big"}

# TIFF: its heads (True: of BigTIFF), the tags that say what decoding takes, the bytes of the types of whole numbers.
_TIFF_HEADS: dict[bytes, tuple[_ByteOrder, bool]] = {
    b"II*\0": ("little", False),
    b"MM\0*": ("big", False),
    b"II+\0": ("little", True),
    b"MM\0+": ("big", True),
}
_WIDTH, _HEIGHT, _BITS, _SAMPLES, _ROWS_OF_STRIP, _TILE_WIDTH, _TILE_HEIGHT = (
    256,
    257,
    258,
    277,
    278,
    322,
    323,
)
_TIFF_BYTES = {1: 1, 3: 2, 4: 4, 6: 1, 8: 2, 9: 4, 16: 8, 17: 8}

_PNM_TOKEN = re.compile(rb"(?:[ \t\r\n\v\f]|#[^\n]*\n)*([0-9]+)")

# Memory that OpenCV takes while it decodes, bytes of a pixel, measured with OpenCV 5: the image twice, or once and what
# its decoder needs beside it.
_TWICE, _ONCE = 6, 3
_OF_APNG, _OF_ANIMATED_WEBP, _OF_ALPHA_WEBP, _OF_JPEG_SAMPLE = 9, 8, 4, 2


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


class _Cost(NamedTuple):
    """What decoding takes.   extra_bytes: of memory beside the image.   scans: times that it goes over all pixels.
    depth: bits of a channel."""

    width: int
    height: int
    extra_bytes: int = 0
    scans: int = 1
    depth: int = 8


def check_content(data: bytes) -> ImageHeader:
    """The ImageHeader of an image file. Raises ValueError for one that is not whole or would cost too much to decode.

    Only of JPEG and PNG files it says whether all is there; other kinds have to be decoded for that.
    """
    if problem := _incomplete(data):
        raise ValueError(problem)
    cost = _cost(data)
    if cost is None or min(cost.width, cost.height) < 1:
        raise ValueError("not an image that OpenCV can read: expected JPEG, PNG, BMP, WebP, TIFF, PPM or PGM")
    _check_cost(cost)
    if data.startswith(_JPEG_HEAD):
        return _jpeg_header(data)
    if data.startswith(_PNG_HEAD):
        return _png_header(data)
    return ImageHeader((cost.height, cost.width), cost.depth)


def check_size(width: int, height: int) -> None:
    """Raises ValueError for an image, or a frame of a video, of more pixels than are read."""
    _check_cost(_Cost(width, height))


def _check_cost(cost: _Cost) -> None:
    most = limits.most_image_pixels()
    pixels = cost.width * cost.height
    memory = max(_TWICE * pixels, _ONCE * pixels + cost.extra_bytes)
    problem = ""
    if pixels > most:
        problem = "pixels"
    elif memory > limits.MOST_DECODING_BYTES * most:
        problem = f"pixels that take {memory / 1e6:.0f} MB to decode"
    elif cost.scans * pixels > limits.MOST_JPEG_SCANS * most:
        problem = f"pixels in {cost.scans} scans"
    if problem:
        raise ValueError(
            f"the image is too large: {cost.width} x {cost.height} {problem}; expected at most {most / 1e6:g} "
            f"megapixels, which {limits.MEGAPIXELS_VARIABLE} can raise"
        )


def tells_whether_whole(data: bytes) -> bool:
    """Whether `check_content` sees that an image file is not all there: of JPEG and PNG."""
    return data.startswith((_JPEG_HEAD, _PNG_HEAD))


def _png_header(data: bytes) -> ImageHeader:
    size = int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")
    tags = [data[start : start + length] for name, start, length in _png_chunks(data) if name == b"eXIf"]
    return ImageHeader(size, data[24], _orientation(tags[0]) if tags else UPRIGHT)


def _jpeg_header(data: bytes) -> ImageHeader:
    orientation = UPRIGHT
    for marker, start in _jpeg_segments(data):
        if marker == _APP1 and data.startswith(_EXIF, start + 2):
            end = start + int.from_bytes(data[start : start + 2], "big")
            orientation = _orientation(data[start + 2 + len(_EXIF) : end])
        if marker in _START_OF_FRAME:
            height, width = data[start + 3 : start + 5], data[start + 5 : start + 7]
            size = int.from_bytes(height, "big"), int.from_bytes(width, "big")
            return ImageHeader(size, data[start + 2], orientation)
    raise AssertionError("a JPEG without a frame header has no cost")


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
    """(marker, where its length field is) of the segments of a JPEG up to its first scan.

    It ends where a decoder might read on in another way than this.
    """
    at = 2
    while data[at : at + 1] == b"\xff" and at + 3 < len(data):
        marker = data[at + 1]
        if marker == 0xFF:  # a filling byte
            at += 1
            continue
        if marker in _BARE:
            at += 2
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0 or length < 2:
            return
        yield marker, at + 2
        if marker == _START_OF_SCAN:
            return
        at += 2 + length


def _cost(data: bytes) -> _Cost | None:
    """The cost of decoding an image file; None for one that is of no known kind, or has no size in its header."""
    if data.startswith(_JPEG_HEAD):
        return _cost_of_jpeg(data)
    if data.startswith(_PNG_HEAD):
        return _cost_of_png(data)
    if data.startswith(b"BM"):
        return _cost_of_bmp(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _cost_of_webp(data)
    if data[:4] in _TIFF_HEADS:
        return _cost_of_tiff(data)
    if re.match(rb"P[1-6][ \t\r\n\v\f#]", data):
        return _cost_of_pnm(data)
    return None


def _cost_of_jpeg(data: bytes) -> _Cost | None:
    """Of several frame headers the largest counts."""
    frames: list[tuple[int, int, int]] = []
    samples, components, in_scan, is_progressive = 0.0, 0, 0, False
    for marker, start in _jpeg_segments(data):
        if marker in _START_OF_FRAME:
            header = data[start : start + int.from_bytes(data[start : start + 2], "big")]
            if len(header) < 8 or len(header) < 8 + 3 * header[7]:
                return None
            frames.append((int.from_bytes(header[5:7], "big"), int.from_bytes(header[3:5], "big"), header[7]))
            samples, components = max(samples, _samples_of_pixel(header)), max(components, header[7])
            is_progressive |= marker in _PROGRESSIVE
        elif marker == _START_OF_SCAN:
            in_scan = data[start + 2] if start + 2 < len(data) else 0
    if not frames:
        return None
    width, height, _ = max(frames, key=lambda frame: frame[0] * frame[1])
    # Where one scan does not hold it all, the coefficients of all of them are kept, and any number may follow.
    if not is_progressive and in_scan >= components:
        return _Cost(width, height)
    scans = data.count(bytes((0xFF, _START_OF_SCAN)))
    return _Cost(width, height, round(width * height * samples * _OF_JPEG_SAMPLE), scans)


def _samples_of_pixel(frame_header: bytes) -> float:
    """Of all components: 3 without subsampling, 1.5 where colour is halved both ways."""
    factors = [(byte >> 4, byte & 15) for byte in frame_header[9 : 8 + 3 * frame_header[7] : 3]]
    widest, highest = max((h for h, _ in factors), default=1), max((v for _, v in factors), default=1)
    return sum(h * v for h, v in factors) / max(1, widest * highest)


def _cost_of_png(data: bytes) -> _Cost | None:
    """Only with its header first, and once."""
    chunks = [(name, start, length) for name, start, length in _png_chunks(data)]
    headers = [(start, length) for name, start, length in chunks if name == b"IHDR"]
    if chunks[0][0] != b"IHDR" or [length for _, length in headers] != [13]:
        return None
    # An animation's frames lie within the image, but their sizes are their own.
    frames = [start + 4 for name, start, _ in chunks if name == b"fcTL"]
    sizes = [
        (int.from_bytes(data[at : at + 4], "big"), int.from_bytes(data[at + 4 : at + 8], "big"))
        for at in (16, *frames)
    ]
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    is_animated = any(name == b"acTL" for name, _, _ in chunks)
    return _Cost(width, height, width * height * _OF_APNG if is_animated else 0)


def _cost_of_bmp(data: bytes) -> _Cost | None:
    if int.from_bytes(data[14:18], "little") == 12:
        return _Cost(int.from_bytes(data[18:20], "little"), int.from_bytes(data[20:22], "little"))
    width, height = (int.from_bytes(data[at : at + 4], "little", signed=True) for at in (18, 22))
    return _Cost(abs(width), abs(height))  # a height below 0: from the top down


def _cost_of_webp(data: bytes) -> _Cost | None:
    kind = data[12:16]
    if kind == b"VP8X":
        flags = data[20] if len(data) > 20 else 0
        width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        extra = _OF_ANIMATED_WEBP if flags & 0x02 else _OF_ALPHA_WEBP
        return _Cost(width, height, extra * width * height)
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        return _Cost(width, height, _OF_ALPHA_WEBP * width * height)
    if kind == b"VP8 ":
        return _Cost(
            int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
        )
    return None


def _cost_of_tiff(data: bytes) -> _Cost | None:
    """Of the first directory, with its largest strip or tile, which is decoded as a whole."""
    tags = _tiff_tags(data)
    if not tags.get(_WIDTH) or not tags.get(_HEIGHT):
        return None
    width, height = tags[_WIDTH], tags[_HEIGHT]
    rows, columns = tags.get(_TILE_HEIGHT, 0), tags.get(_TILE_WIDTH, 0)
    part = rows * columns if rows or columns else width * min(height, tags.get(_ROWS_OF_STRIP) or height)
    bits = max(8, tags.get(_BITS, 1))
    return _Cost(width, height, part * max(4, tags.get(_SAMPLES, 1) * bits // 8), depth=bits)


def _tiff_tags(data: bytes) -> dict[int, int]:
    """The tags of a TIFF's first directory that are whole numbers, the largest value of each; {} for a broken one."""
    order, is_big = _TIFF_HEADS[data[:4]]

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], order)

    count_bytes, field = (8, 8) if is_big else (2, 4)
    directory = number(8, 8) if is_big else number(4, 4)
    count = number(directory, count_bytes)
    step = 4 + 2 * field
    if count > limits.MOST_TIFF_TAGS:
        return {}
    tags: dict[int, int] = {}
    for entry in range(directory + count_bytes, directory + count_bytes + step * count, step):
        size = _TIFF_BYTES.get(number(entry + 2, 2))
        if size:
            values = min(number(entry + 4, field), 64)
            at = entry + 4 + field
            if values * size > field:
                at = number(at, field)
            found = [number(at + i * size, size) for i in range(values)]
            tag = number(entry, 2)
            tags[tag] = max([tags.get(tag, 0), *found])
    return tags


def _cost_of_pnm(data: bytes) -> _Cost | None:
    width = _PNM_TOKEN.match(data, 2)
    height = _PNM_TOKEN.match(data, width.end()) if width else None
    if not width or not height or max(len(width[1]), len(height[1])) > 10:
        return None
    highest = _PNM_TOKEN.match(data, height.end())
    is_deep = data[1:2] in b"2356" and highest is not None and (len(highest[1]) > 5 or int(highest[1]) > 255)
    return _Cost(int(width[1]), int(height[1]), depth=16 if is_deep else 8)
