"""A float16 copy of a model, with islands of float32 where float16 cannot hold the numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper

from .graph import Graph

# Half of what float16 holds: images that calibration did not see may reach further.
OVERFLOW_LIMIT = 30_000.0

# Sums of squares: past an RMS of 11, 512 of them exceed 65504.
_SUMS_OF_SQUARES = ("ReduceL2", "ReduceSumSquare", "LpNormalization", "LRN")
_SUMS = ("ReduceSum", "ReduceMean")
# What stands between a sum of squares and the division by its root.
_UP_TO_DIVISION = (
    "Sqrt",
    "Add",
    "Max",
    "Min",
    "Clip",
    "Pow",
    "Reciprocal",
    "Expand",
    "Unsqueeze",
    "Squeeze",
    "Reshape",
)
_ALWAYS_FLOAT32 = {"Resize": (1, 2), "Upsample": (1,)}  # inputs that the operator wants in float32


def convert_to_fp16(
    model: ModelProto, ranges: Mapping[str, tuple[float, float]] | None = None
) -> tuple[ModelProto, dict[str, str]]:
    """`model` with float16 weights and activations between float32 input and outputs.

    model: ModelProto.   ranges: {tensor: (low, high)} seen on real images, or None when there were none.
    L2 normalisation stays float32, as does what makes or reads a tensor beyond OVERFLOW_LIMIT.

    Returns the new ModelProto, and {name of a float32 node: why}.
    """
    graph = Graph(model)
    islands = {**norm_islands(graph), **overflow_islands(graph, ranges or {})}
    _Converter(graph, islands).convert()
    return graph.finished(), islands


def norm_islands(graph: Graph) -> dict[str, str]:
    """{name: why} of the nodes that normalise by a sum of squares, from the squares to the division."""
    island = {}
    for node in graph.nodes:
        squares = _squares_of(graph, node)
        if squares is not None:
            for part in (*squares, node, *_up_to_division(graph, node)):
                island[part.name] = "L2 normalisation: a sum of squares overflows float16"
    return island


def _squares_of(graph: Graph, node: NodeProto) -> list[NodeProto] | None:
    """The nodes that square what `node` sums: [] when it does so itself, None when it sums no squares."""
    if node.op_type in _SUMS_OF_SQUARES:
        return []
    maker = graph.producer.get(node.input[0]) if node.op_type in _SUMS else None
    if maker is None:
        return None
    if maker.op_type == "Mul" and maker.input[0] == maker.input[1]:
        return [maker]
    if maker.op_type == "Pow" and graph.is_constant(maker.input[1]):
        return [maker] if np.all(graph.constant(maker.input[1]) == 2) else None
    return None


def _up_to_division(graph: Graph, node: NodeProto) -> list[NodeProto]:
    found, front = [], list(node.output)
    while front:
        for reader in graph.consumers[front.pop()]:
            if reader.op_type in _UP_TO_DIVISION:
                front.extend(reader.output)
            elif reader.op_type not in ("Div", "Mul"):
                continue
            found.append(reader)
    return found


def overflow_islands(graph: Graph, ranges: Mapping[str, tuple[float, float]]) -> dict[str, str]:
    """{name: why} of the nodes that make or read a tensor, or hold a constant, beyond OVERFLOW_LIMIT."""
    island = {}
    for node in graph.nodes:
        for name in (*node.input, *node.output):
            largest = _largest(graph, name, ranges)
            if largest > OVERFLOW_LIMIT:
                island[node.name] = f"{name} reaches {largest:.3g}, float16 ends at 65504"
    return island


def _largest(graph: Graph, name: str, ranges: Mapping[str, tuple[float, float]]) -> float:
    if name in ranges:
        return max(abs(value) for value in ranges[name])
    if graph.is_constant(name) and graph.is_float(name):
        # Infinity as the bound of a Clip is no number that overflows.
        values = np.abs(graph.constant(name))
        return float(values[np.isfinite(values) & (values < np.finfo(np.float32).max)].max(initial=0))
    return 0.0


class _Converter:
    """Walks the nodes in order; a tensor is cast where its reader wants the other type."""

    def __init__(self, graph: Graph, islands: Mapping[str, str]) -> None:
        self.graph, self.islands = graph, islands
        self.half: set[str] = set()  # tensors that are float16 by now
        self.nodes: list[NodeProto] = []
        self.casts: dict[tuple[str, bool], str] = {}

    def convert(self) -> None:
        for node in self.graph.nodes:
            wants_half = node.name not in self.islands
            fixed = _ALWAYS_FLOAT32.get(node.op_type, ())
            for i, name in enumerate(node.input):
                if name and self.graph.is_float(name):
                    node.input[i] = self._as(name, wants_half and i not in fixed)
            if wants_half:
                _make_half(node)
                self.half.update(name for name in node.output if self.graph.is_float(name))
            self.nodes.append(node)
        self._restore_outputs()
        self.graph.replace_nodes(self.nodes)

    def _as(self, name: str, half: bool) -> str:
        """The name under which a float tensor is to be had as float16, or as float32."""
        if half == (name in self.half):
            return name
        key = name, half
        if key not in self.casts:
            self.casts[key] = f"{name}_fp16" if half else f"{name}_fp32"
            if self.graph.is_constant(name):
                self.graph.add_constant(self.casts[key], _to_half(self.graph.constant(name)))
            else:
                self.nodes.append(_cast(name, self.casts[key], half))
        return self.casts[key]

    def _restore_outputs(self) -> None:
        """The outputs keep their names and float32: what makes them gets another name."""
        for entry in self.graph.model.graph.output:
            name = entry.name
            if name not in self.half:
                continue
            inner = f"{name}_fp16"
            for node in self.nodes:
                for names in (node.input, node.output):
                    for i, used in enumerate(names):
                        if used == name:
                            names[i] = inner
            self.nodes.append(_cast(inner, name, half=False))


def _cast(name: str, output: str, half: bool) -> NodeProto:
    to = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    return helper.make_node("Cast", [name], [output], name=f"Cast_{output}", to=to)


def _make_half(node: NodeProto) -> None:
    """Turns float32 into float16 in the attributes that name a type or hold a tensor."""
    for entry in node.attribute:
        if node.op_type == "Cast" and entry.name == "to" and entry.i == TensorProto.FLOAT:
            entry.i = TensorProto.FLOAT16
        if node.op_type == "ConstantOfShape" and entry.t.data_type == TensorProto.FLOAT:
            value = _to_half(np.frombuffer(entry.t.raw_data, np.float32))
            entry.t.CopyFrom(helper.make_tensor("value", TensorProto.FLOAT16, [1], value.tobytes(), raw=True))


def _to_half(array: np.ndarray) -> np.ndarray:
    """float16, with what float16 cannot hold (the bounds of a Clip) at its ends."""
    limit = np.finfo(np.float16).max
    return np.clip(array, -limit, limit).astype(np.float16)
