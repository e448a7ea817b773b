"""Weights that lie outside of an ONNX file, as exporters put them from 2 GB on, and some always."""

from __future__ import annotations

from ..files import StrPath
from .onnx_file import BadModel
from .onnx_wire import read_structure


def external_locations(path: StrPath) -> list[str]:
    """The files that hold weights of an ONNX model, as the model names them: relative to its folder; sorted.

    Raises ValueError for a file that is no ONNX model.
    """
    try:
        tensors = read_structure(path).tensors
    except BadModel as error:
        raise ValueError(f"{path}: not a whole ONNX model ({error})") from None
    return sorted({tensor.external.get("location", "") for tensor in tensors if tensor.is_external})
