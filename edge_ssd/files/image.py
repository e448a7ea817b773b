"""Image files: their pixels, and what their headers say without decoding them.

A file is looked at before OpenCV gets it: what is not all there, of an unknown kind, or too large for its header's size
is refused by name.
"""

from __future__ import annotations

import os

import cv2
import numpy as np

from .. import limits
from . import StrPath, read_file
from .image_header import ImageHeader, check_content, tells_whether_whole


def read_image(path: StrPath, turned: bool = True) -> np.ndarray:
    """The image in a file: (H, W, 3) uint8 BGR, whatever its channels and depth.

    turned: as its orientation tag says; False gives the pixels as stored, on which boxes are marked.
    Raises FileNotFoundError, or ValueError naming the file when it is no image, not all there or too large (see
    `edge_ssd.limits`): OpenCV alone would fill what is missing of a JPEG with grey, and take what memory a header asks
    for.
    """
    flags = cv2.IMREAD_COLOR | (0 if turned else cv2.IMREAD_IGNORE_ORIENTATION)
    return _decode(_read_checked(path)[0], path, flags)


def _decode(data: bytes, path: StrPath, flags: int) -> np.ndarray:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        too_large = error.code == cv2.Error.StsNoMem or "CV_IO_MAX_IMAGE" in error.err
        raise ValueError(f"{path}: {'the image is too large' if too_large else error.err}") from None
    if image is None:
        raise ValueError(f"{path}: not an image that OpenCV can read")
    return image


def read_image_size(path: StrPath) -> tuple[int, int]:
    """(height, width) of an image file as stored; reading and errors as `read_header`."""
    return read_header(path).size


def read_header(path: StrPath) -> ImageHeader:
    """The ImageHeader of an image file, without decoding it where it is JPEG or PNG.

    Raises FileNotFoundError; ValueError naming the file when it is no image, not all there or too large.
    """
    data, header = _read_checked(path)
    if not tells_whether_whole(data):
        _decode(data, path, cv2.IMREAD_COLOR)
    return header


def _read_checked(path: StrPath) -> tuple[bytes, ImageHeader]:
    try:
        data = read_file(path, limits.MOST_IMAGE_BYTES)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such image") from None
    try:
        return data, check_content(data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def shrunk(image: np.ndarray, most_side: int) -> np.ndarray:
    """The image, no side of it longer than `most_side`: for a picture that holds many."""
    scale = most_side / max(image.shape[:2])
    if scale >= 1:
        return image
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def use_one_opencv_thread() -> None:
    """Has OpenCV work in the calling thread, in this process from now on: for programs that run a network beside it.

    Its threads would share the cores with the network's: on two cores the resize of a 640 x 480 frame took 0.16 ms in
    one thread, and between 0.14 and 0.31 ms in two.
    """
    cv2.setNumThreads(1)


def opencv_name(name: StrPath) -> str:
    """A file's name or an address as text that OpenCV can take; ValueError when it is not UTF-8. Of a path, see
    `opencv_path`.

    OpenCV ends the process for such a name.
    """
    try:
        str(name).encode()
    except UnicodeEncodeError:
        shown = str(name).encode(errors="backslashreplace").decode()
        raise ValueError(f"{shown}: OpenCV cannot open a name that is not UTF-8; rename it") from None
    return str(name)


def opencv_path(path: StrPath) -> str:
    """The same of the path of a file, absolute: FFmpeg takes what stands before a colon in 10:30.mp4 for a protocol."""
    return opencv_name(os.path.abspath(path))
