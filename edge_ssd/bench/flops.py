"""How much arithmetic a network is: multiply-adds of its convolutions and matrix products."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..files import StrPath

if TYPE_CHECKING:
    import onnx


def giga_multiply_adds(path: StrPath) -> float | None:
    """Of one image through an ONNX model, in 10^9, as torchvision's documentation counts its "GFLOPS".

    None without the onnx package, or where a shape is not known.
    """
    try:
        import onnx
    except ImportError:
        return None
    try:
        return _of_model(onnx.load(str(path)))
    except (IndexError, onnx.shape_inference.InferenceError):  # an input or a layer without sides
        return None


def _of_model(model: onnx.ModelProto) -> float | None:
    import onnx

    weights = {tensor.name for tensor in model.graph.initializer}  # old exporters list them as inputs, too
    for entry in model.graph.input:
        if entry.name not in weights:
            entry.type.tensor_type.shape.dim[0].dim_value = 1
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {i.name: tuple(i.dims) for i in graph.initializer}
    for value in (*graph.value_info, *graph.output, *graph.input):
        shapes[value.name] = tuple(axis.dim_value for axis in value.type.tensor_type.shape.dim)
    total = 0
    for node in graph.node:
        per_output = _multiply_adds_per_output(node, shapes)
        outputs = math.prod(shapes.get(node.output[0], (0,)))
        if per_output is None or (per_output and not outputs):
            return None
        total += per_output * outputs
    return total / 1e9


def _multiply_adds_per_output(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> int | None:
    """For one element of its output; 0 for a node that only moves or adds, None where a shape is not known."""
    if node.op_type == "Conv":
        weight = shapes.get(node.input[1])
        return math.prod(weight[1:]) or None if weight else None
    if node.op_type in ("Gemm", "MatMul"):
        return shapes.get(node.input[0], (0,))[-1]
    return 0
