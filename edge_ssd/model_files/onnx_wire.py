"""The structure of an ONNX file, read without the `onnx` package: graphs, nodes, and what tensors say of themselves.

The bytes of weights are skipped, so a large file takes no longer than a small one. Fields are numbered as in onnx.proto
(https://github.com/onnx/onnx/blob/main/onnx/onnx.proto); one of another wire type is unknown, as it is to protobuf.
"""

from __future__ import annotations

import mmap
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from .. import limits
from ..files import StrPath
from .onnx_file import BadModel

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
_FIXED_BYTES = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}

# (first byte, end) of a field in the file.
_Range = tuple[int, int]
# What a field holds: a whole number (of _VARINT), or where its bytes are.
_Field = tuple[int, int, int, int]


@dataclass
class Tensor:
    """A tensor without its values.

    data_type: of TensorProto.   raw_bytes: of its raw data, None without.   typed: {field: (bytes, entries)} of the
    lists that hold values instead; a packed list is one entry.   external: where else they are, {} if nowhere.
    """

    name: str = ""
    dims: list[int] = field(default_factory=list)
    data_type: int = 0
    raw_bytes: int | None = None
    typed: dict[int, tuple[int, int]] = field(default_factory=dict)
    is_external: bool = False
    external: dict[str, str] = field(default_factory=dict)


@dataclass
class SparseTensor:
    """A tensor of which few values are not zero; `dims` is what it fills when it is laid out."""

    dims: list[int] = field(default_factory=list)
    values: Tensor = field(default_factory=Tensor)


@dataclass
class Value:
    """A named input, output or inner tensor.   shape: None for a free side; None if not said."""

    name: str = ""
    has_type: bool = False
    shape: list[int | None] | None = None


@dataclass
class Node:
    """One operation.   graphs: of its attributes, such as the branches of an If."""

    op_type: str = ""
    domain: str = ""
    overload: str = ""
    name: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    graphs: list[Graph] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.op_type} (node {(self.name or next(iter(self.outputs), ''))!r})"


@dataclass
class Graph:
    """Nodes between inputs and outputs. A function's body is one, too."""

    nodes: list[Node] = field(default_factory=list)
    inputs: list[Value] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    constants: list[str] = field(default_factory=list)


@dataclass
class Function:
    """A function of the model: what a node of this name in this domain stands for."""

    name: str = ""
    domain: str = ""
    overload: str = ""
    opsets: dict[str, int] = field(default_factory=dict)
    body: Graph = field(default_factory=Graph)


@dataclass
class Model:
    """What an ONNX file holds besides weights.

    tensors, sparse: of all graphs and attributes.   structure_bytes: of the file without weights.
    """

    ir_version: int = 0
    opsets: dict[str, int] = field(default_factory=dict)
    graph: Graph = field(default_factory=Graph)
    functions: list[Function] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
    sparse: list[SparseTensor] = field(default_factory=list)
    structure_bytes: int = 0


def read_structure(path: StrPath) -> Model:
    """The Model in a file. Raises BadModel where it is no whole protobuf, and where reading it would cost too much."""
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        if not size:
            raise BadModel("the file is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Reader(data).model(size)


class _Reader:
    """One method for each message; `_left` is how many fields may still come, `_weights` the bytes of values."""

    def __init__(self, data: bytes | mmap.mmap) -> None:
        self._data = data
        self._left = limits.MOST_ONNX_FIELDS
        self._weights = 0
        self._tensors: list[Tensor] = []
        self._sparse: list[SparseTensor] = []

    def model(self, size: int) -> Model:
        model = Model(tensors=self._tensors, sparse=self._sparse)
        for number, wire, start, end in self._fields(0, size, once=(7,)):
            if wire == _VARINT and number == 1:
                model.ir_version = _signed(start)
            elif wire == _BYTES and number == 7:
                model.graph = self._graph((start, end), 1)
            elif wire == _BYTES and number == 8:
                self._opset(model.opsets, (start, end))
            elif wire == _BYTES and number == 25:
                model.functions.append(self._function((start, end)))
        model.structure_bytes = size - self._weights
        return model

    def _opset(self, opsets: dict[str, int], place: _Range) -> None:
        domain, version = "", 0
        for number, wire, start, end in self._fields(*place):
            if wire == _BYTES and number == 1:
                domain = self._text(start, end)
            elif wire == _VARINT and number == 2:
                version = _signed(start)
        opsets["" if domain == "ai.onnx" else domain] = version

    def _function(self, place: _Range) -> Function:
        function = Function()
        body = function.body
        for number, wire, start, end in self._fields(*place):
            if wire != _BYTES:
                continue
            if number == 1:
                function.name = self._text(start, end)
            elif number in (4, 5):
                (body.inputs if number == 4 else body.outputs).append(Value(self._text(start, end)))
            elif number == 7:
                body.nodes.append(self._node((start, end), 1))
            elif number == 9:
                self._opset(function.opsets, (start, end))
            elif number == 10:
                function.domain = self._text(start, end)
            elif number == 12:
                body.values.append(self._value((start, end)))
            elif number == 13:
                function.overload = self._text(start, end)
        return function

    def _graph(self, place: _Range, depth: int) -> Graph:
        if depth > limits.MOST_ONNX_DEPTH:
            raise BadModel(f"has graphs in graphs, more than {limits.MOST_ONNX_DEPTH} deep")
        graph = Graph()
        values = {11: graph.inputs, 12: graph.outputs, 13: graph.values}
        for number, wire, start, end in self._fields(*place):
            if wire != _BYTES:
                continue
            if number == 1:
                graph.nodes.append(self._node((start, end), depth))
            elif number == 5:
                graph.constants.append(self._tensor((start, end)).name)
            elif number in values:
                values[number].append(self._value((start, end)))
            elif number == 15:
                graph.constants.append(self._sparse_tensor((start, end)).values.name)
        return graph

    def _node(self, place: _Range, depth: int) -> Node:
        node = Node()
        for number, wire, start, end in self._fields(*place):
            if wire != _BYTES:
                continue
            if number == 1:
                node.inputs.append(self._text(start, end))
            elif number == 2:
                node.outputs.append(self._text(start, end))
            elif number == 3:
                node.name = self._text(start, end)
            elif number == 4:
                node.op_type = self._text(start, end)
            elif number == 5:
                self._attribute(node, (start, end), depth)
            elif number == 7:
                node.domain = self._text(start, end)
            elif number == 8:
                node.overload = self._text(start, end)
        if node.domain == "ai.onnx":
            node.domain = ""
        return node

    def _attribute(self, node: Node, place: _Range, depth: int) -> None:
        for number, wire, start, end in self._fields(*place, once=(5, 6, 22)):
            if wire != _BYTES:
                continue
            if number in (5, 10):
                self._tensor((start, end))
            elif number in (6, 11):
                node.graphs.append(self._graph((start, end), depth + 1))
            elif number in (22, 23):
                self._sparse_tensor((start, end))

    def _tensor(self, place: _Range) -> Tensor:
        tensor = Tensor()
        self._tensors.append(tensor)
        for number, wire, start, end in self._fields(*place, once=(9,)):
            if number == 1:
                tensor.dims += self._numbers(wire, start, end)
            elif number in (4, 5, 6, 7, 10, 11):
                self._add_typed(tensor, number, wire, start, end)
            elif wire == _VARINT and number == 2:
                tensor.data_type = _signed(start)
            elif wire == _VARINT and number == 14:
                tensor.is_external = start == 1
            elif wire == _BYTES and number == 8:
                tensor.name = self._text(start, end)
            elif wire == _BYTES and number == 9:
                tensor.raw_bytes = end - start
                self._weights += end - start
            elif wire == _BYTES and number == 13:
                key, value = self._entry(start, end)
                tensor.external[key] = value
        return tensor

    def _add_typed(self, tensor: Tensor, number: int, wire: int, start: int, end: int) -> None:
        size = 1 if wire == _VARINT else end - start
        size_before, entries = tensor.typed.get(number, (0, 0))
        tensor.typed[number] = size_before + size, entries + 1
        if wire == _BYTES:
            self._weights += size

    def _sparse_tensor(self, place: _Range) -> SparseTensor:
        sparse = SparseTensor()
        self._sparse.append(sparse)
        for number, wire, start, end in self._fields(*place, once=(1, 2)):
            if number == 3:
                sparse.dims += self._numbers(wire, start, end)
            elif wire == _BYTES and number == 1:
                sparse.values = self._tensor((start, end))
            elif wire == _BYTES and number == 2:
                self._tensor((start, end))
        return sparse

    def _value(self, place: _Range) -> Value:
        value = Value()
        for number, wire, start, end in self._fields(*place, once=(2,)):
            if wire == _BYTES and number == 1:
                value.name = self._text(start, end)
            elif wire == _BYTES and number == 2:
                value.has_type = start < end
                value.shape = self._shape((start, end))
        return value

    def _shape(self, place: _Range) -> list[int | None] | None:
        """The sides that a TypeProto says; None for one that is no tensor's, or says none."""
        shape = None
        for tensor_type in self._inside(*place, 1):
            for tensor_shape in self._inside(*tensor_type, 2):
                shape = []
                for dimension in self._inside(*tensor_shape, 1):
                    sides = [
                        _signed(value)
                        for number, wire, value, _ in self._fields(*dimension)
                        if wire == _VARINT and number == 1
                    ]
                    shape.append(sides[-1] if sides else None)
        return shape

    def _inside(self, start: int, end: int, wanted: int) -> list[_Range]:
        """Where the messages of one number are."""
        return [
            (first, stop)
            for number, wire, first, stop in self._fields(start, end)
            if wire == _BYTES and number == wanted
        ]

    def _entry(self, start: int, end: int) -> tuple[str, str]:
        texts = {1: "", 2: ""}
        for number, wire, first, stop in self._fields(start, end):
            if wire == _BYTES:
                texts[number] = self._text(first, stop)
        return texts[1], texts[2]

    def _numbers(self, wire: int, start: int, end: int) -> list[int]:
        """Of a repeated whole number: the one, or the packed ones."""
        if wire == _VARINT:
            return [_signed(start)]
        numbers = []
        while wire == _BYTES and start < end:
            number, start = self._varint(start, end)
            numbers.append(_signed(number))
            self._count()
        return numbers

    def _fields(self, start: int, end: int, once: Collection[int] = ()) -> Iterator[_Field]:
        """(number, wire type, value or first byte, end) of each field.   once: numbers that may come one time only."""
        data, seen = self._data, set()
        while start < end:
            key, start = (data[start], start + 1) if data[start] < 128 else self._varint(start, end)
            number, wire = key >> 3, key & 7
            self._count()
            if number in once:
                if number in seen:
                    raise BadModel("not a whole ONNX file: holds twice what may be there once")
                seen.add(number)
            if wire == _VARINT:
                value, start = self._varint(start, end)
                yield number, wire, value, start
                continue
            if wire == _BYTES:
                length, start = self._varint(start, end)
            elif wire in _FIXED_BYTES:
                length = _FIXED_BYTES[wire]
            else:
                raise BadModel(f"not a whole ONNX file: no field can begin like that at byte {start - 1}")
            if length > end - start or not number:
                raise BadModel(f"not a whole ONNX file: what begins at byte {start} is cut off")
            yield number, wire, start, start + length
            start += length

    def _varint(self, start: int, end: int) -> tuple[int, int]:
        """(a whole number in protobuf's variable length, what follows it)."""
        data, value, shift = self._data, 0, 0
        for at in range(start, min(end, start + 10)):
            byte = data[at]
            value |= (byte & 127) << shift
            if byte < 128:
                return value & 0xFFFFFFFFFFFFFFFF, at + 1
            shift += 7
        raise BadModel(f"not a whole ONNX file: the number at byte {start} is cut off")

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise BadModel(f"has more than the {limits.MOST_ONNX_FIELDS} fields that are read")

    def _text(self, start: int, end: int) -> str:
        return self._data[start:end].decode("utf-8", "surrogateescape")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
