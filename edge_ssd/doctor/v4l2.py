"""The pixel formats of a V4L2 camera, asked of the kernel: no stream is started, no tool is needed."""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator

from ..files import StrPath

# struct v4l2_fmtdesc of <linux/videodev2.h>: index, type, flags, description, pixelformat, and 16 bytes more.
_FORMAT = struct.Struct("III32sI16x")
_ENUM_FORMATS = 0xC0000000 | _FORMAT.size << 16 | ord("V") << 8 | 2  # _IOWR('V', 2, struct v4l2_fmtdesc)
_CAPTURE, _CAPTURE_MULTIPLANAR = 1, 9
_MOST = 64


def camera_formats(device: StrPath) -> tuple[str, ...]:
    """Four-character codes of what a camera gives, such as ("YUYV", "MJPG"); () for a node that captures nothing.

    device: such as /dev/video0. Raises OSError when it cannot be opened.
    """
    handle = os.open(device, os.O_RDWR | os.O_NONBLOCK)
    try:
        codes = [code for kind in (_CAPTURE, _CAPTURE_MULTIPLANAR) for code in _codes(handle, kind)]
    finally:
        os.close(handle)
    return tuple(dict.fromkeys(codes))


def _codes(handle: int, kind: int) -> Iterator[str]:
    for index in range(_MOST):
        try:
            answer = fcntl.ioctl(handle, _ENUM_FORMATS, _FORMAT.pack(index, kind, 0, b"", 0))
        except OSError:  # past the last one, or not a camera
            return
        yield struct.pack("<I", _FORMAT.unpack(answer)[4]).decode("ascii", errors="replace").strip()
