"""Weights that lie outside of an ONNX file, as exporters put them from 2 GB on, and some always."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from ..files import StrPath


def external_locations(path: StrPath) -> list[str]:
    """The files that hold weights of an ONNX model, as the model names them: relative to its folder; sorted.

    Raises ValueError for a file that is no ONNX model.
    """
    try:
        model = onnx.load(Path(path), load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise ValueError(f"{path}: not a whole ONNX model ({str(error).splitlines()[0]})") from None
    tensors = [*_tensors(model.graph.initializer, model.graph.node)]
    for function in model.functions:
        tensors += _tensors((), function.node)
    return sorted({ExternalDataInfo(tensor).location for tensor in tensors if uses_external_data(tensor)})


def _tensors(
    initializers: Iterable[onnx.TensorProto], nodes: Iterable[onnx.NodeProto]
) -> Iterator[onnx.TensorProto]:
    """The constants of a graph, and those of the branches and loops in it."""
    yield from initializers
    for node in nodes:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for graph in (attribute.g, *attribute.graphs):
                yield from _tensors(graph.initializer, graph.node)
