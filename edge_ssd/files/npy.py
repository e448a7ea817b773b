"""A table of numbers in an .npy file from elsewhere, read without trusting what its header claims."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
from numpy.lib import format as npy_format

from . import StrPath, read_file

# Of a header: that of a plain array has some 80. It is a Python literal, and a long one can exhaust the parser.
_MOST_HEADER_BYTES = 4096
_MOST_ITEM_BYTES = 16
_HEADER_READERS = {
    (1, 0): (2, npy_format.read_array_header_1_0),
    (2, 0): (4, npy_format.read_array_header_2_0),
}


def read_npy(path: StrPath, columns: Sequence[int], most_rows: int) -> np.ndarray:
    """The float array (rows, *columns) in an .npy file, of any float dtype.

    Nothing is allocated beyond the size of the file. Raises ValueError, without the path, for any other content and
    for more than `most_rows`; FileNotFoundError.
    """
    most_bytes = most_rows * math.prod(columns) * _MOST_ITEM_BYTES + _MOST_HEADER_BYTES
    try:
        content = read_file(path, most_bytes)
    except ValueError as error:
        raise ValueError(str(error).removeprefix(f"{path}: ")) from None
    if content.startswith(b"PK"):
        raise ValueError("expected one array, got an archive of several")
    shape, in_columns, dtype, start = _header(content)
    if len(shape) != 1 + len(columns) or shape[1:] != tuple(columns) or dtype.kind != "f":
        wanted = ", ".join(["P", *map(str, columns)])
        raise ValueError(f"expected a ({wanted}) float array, got {shape} {dtype}")
    if not 0 <= shape[0] <= most_rows:
        raise ValueError(f"expected at most {most_rows} rows, got {shape[0]}")
    count = math.prod(shape)
    if len(content) - start < count * dtype.itemsize:
        raise ValueError(
            f"not a readable .npy file ({len(content) - start} bytes of numbers, the header claims "
            f"{count * dtype.itemsize})"
        )
    return np.frombuffer(content, dtype, count, start).reshape(shape, order="F" if in_columns else "C")


def _header(content: bytes) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """(shape, whether columns come first, dtype, where the numbers start)."""
    file = io.BytesIO(content)
    try:
        length_bytes, read_header = _HEADER_READERS[npy_format.read_magic(file)]
        length = int.from_bytes(content[file.tell() : file.tell() + length_bytes], "little")
        if length > _MOST_HEADER_BYTES:
            raise ValueError(f"a header of {length} bytes")
        shape, in_columns, dtype = read_header(file)
        if dtype.hasobject:
            raise ValueError("it holds pickled objects")
    except Exception as error:  # whatever NumPy, its parser and Python's make of a header
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"not a readable .npy file ({reason[:200]})") from None
    return tuple(map(int, shape)), in_columns, dtype, file.tell()  # False passes for 0
