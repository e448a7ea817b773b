"""What an ONNX file may not do, found without parsing it."""

from __future__ import annotations

import mmap

from ..files import StrPath

# How ONNX Runtime, and OpenVINO with it, spells weights that lie at an address of the process instead of in a file.
_MEMORY_ADDRESS = b"_ORT_MEM_ADDR_"


class BadModel(ValueError):
    """What is wrong with an ONNX file, without the file's name."""


def refuse_memory_addresses(path: StrPath) -> None:
    """Raises ValueError for a model file whose weights are said to lie somewhere in the memory of who opens it.

    OpenVINO reads such an address, and the outputs then tell what was there. Whatever tensor names it, in a graph, a
    branch or a function: protobuf writes texts as they are, so the file is searched and not parsed.
    """
    with open(path, "rb") as file:
        if not file.seek(0, 2):
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content.find(_MEMORY_ADDRESS) >= 0:
                raise ValueError(
                    f"{path}: has weights at an address in memory ({_MEMORY_ADDRESS.decode()}) instead of in a file, "
                    "and would read what lies there; refused. Do not trust where it came from"
                )
