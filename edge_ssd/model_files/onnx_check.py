"""Whether an ONNX file from elsewhere is one that an engine may see, found without an engine and without `onnx`.

Engines trust what they open: OpenVINO crashes on a Conv without weights, and reads whatever file external data name.
What is refused here no engine could run; what only may be wrong is left to the opening in a process of its own
(`edge_ssd.engines.opening`).
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .. import limits
from ..files import StrPath
from .onnx_file import BadModel, refuse_memory_addresses
from .onnx_operators import ANY, OFTEN_EMPTY, counts_of
from .onnx_wire import Function, Graph, Model, Node, SparseTensor, Tensor, Value, read_structure

# Of the format and of ONNX's own operators, today 13 and 26.
_MOST_IR_VERSION, _MOST_OPSET = 100, 255

# Bits of an element, by data_type of TensorProto; 0 for texts, which have any length.
_BITS = {
    1: 32,
    2: 8,
    3: 8,
    4: 16,
    5: 16,
    6: 32,
    7: 64,
    8: 0,
    9: 8,
    10: 16,
    11: 64,
    12: 32,
    13: 64,
    14: 64,
    15: 128,
}
_BITS |= {16: 16, 17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8, 25: 2, 26: 2}
_MOST_DATA_TYPE = 100  # later ones than those above are left to the engine
# Lists of TensorProto whose packed length tells how many values they hold: float_data, double_data.
_FIXED_LISTS = {4: 4, 10: 8}


@dataclass(frozen=True)
class CheckedModel:
    """What of a checked model its opening needs.

    inputs, outputs: {name: sides, None for a free one; None if not said}, inputs of what it is fed.   external: files
    beside the model that hold weights, as the model names them, sorted.
    """

    inputs: dict[str, list[int | None] | None]
    outputs: dict[str, list[int | None] | None]
    external: tuple[str, ...]


def check_onnx(path: StrPath) -> CheckedModel:
    """The CheckedModel in a file.

    Raises BadModel, which does not name the file, for one that no engine may see, and ValueError naming it where
    weights are said to lie in memory.
    """
    refuse_memory_addresses(path)
    model = read_structure(path)
    if model.structure_bytes > limits.MOST_ONNX_HEADER_BYTES:
        raise BadModel(
            f"has {model.structure_bytes} bytes besides weights, more than the {limits.MOST_ONNX_HEADER_BYTES} that "
            "are read"
        )
    if not 1 <= model.ir_version <= _MOST_IR_VERSION:
        raise BadModel(f"ir_version: expected 1 to {_MOST_IR_VERSION}, got {model.ir_version}")
    _check_opsets(model.opsets)
    for tensor in model.tensors:
        _check_tensor(tensor)
    for sparse in model.sparse:
        _check_sparse(sparse)
    external = _external_files(Path(path), model.tensors)
    for function in model.functions:
        _check_opsets(function.opsets)
    _Names(model).check()
    _check_calls(model)
    constants = set(model.graph.constants)
    fed = [value for value in model.graph.inputs if value.name not in constants]
    return CheckedModel(_shapes(fed), _shapes(model.graph.outputs), external)


def _shapes(values: Iterable[Value]) -> dict[str, list[int | None] | None]:
    return {value.name: value.shape for value in values}


def _check_opsets(opsets: dict[str, int]) -> None:
    for domain, version in opsets.items():
        if not domain and not 1 <= version <= _MOST_OPSET:
            raise BadModel(f"opset: expected 1 to {_MOST_OPSET}, got {version}")
        if not 0 <= version < 1 << 31:
            raise BadModel(f"opset of {domain!r}: expected 0 to {(1 << 31) - 1}, got {version}")


def _check_tensor(tensor: Tensor) -> None:
    """Raises BadModel unless a tensor holds, or may hold, as many bytes as its sides say."""
    shown = f"tensor {tensor.name!r}"
    if not 1 <= tensor.data_type <= _MOST_DATA_TYPE:
        # An attribute's tensor may be there and say nothing.
        if tensor.dims or tensor.raw_bytes or tensor.typed or tensor.name:
            raise BadModel(f"{shown} has no data type that there is ({tensor.data_type})")
        return
    if any(side < 0 for side in tensor.dims):
        raise BadModel(f"{shown} has a negative side: {_shown(tensor.dims)}")
    bits = _BITS.get(tensor.data_type, 8)
    wanted = _bytes_of(tensor)
    if wanted > limits.MOST_TENSOR_BYTES:
        raise BadModel(
            f"{shown} says {_shown(tensor.dims)}, more than the {limits.MOST_TENSOR_BYTES} bytes that one may have"
        )
    if tensor.is_external or tensor.data_type not in _BITS:
        return
    if tensor.raw_bytes is not None and bits and tensor.raw_bytes != wanted:
        raise BadModel(
            f"{shown} says {_shown(tensor.dims)}, which are {wanted} bytes, and holds {tensor.raw_bytes}"
        )
    if tensor.raw_bytes is None:
        _check_typed(tensor, shown)


def _check_typed(tensor: Tensor, shown: str) -> None:
    count = math.prod(tensor.dims)
    held, entries = map(sum, zip(*tensor.typed.values())) if tensor.typed else (0, 0)
    if count and not entries:
        raise BadModel(f"{shown} says {_shown(tensor.dims)} and holds nothing")
    per_value = 2 if tensor.data_type in (14, 15) else 1  # real and imaginary part
    for number, size in _FIXED_LISTS.items():
        if number in tensor.typed and tensor.typed[number][0] != count * per_value * size:
            raise BadModel(
                f"{shown} says {_shown(tensor.dims)} and holds {tensor.typed[number][0] // size} values"
            )
    if tensor.data_type == 8 and entries != count:
        raise BadModel(f"{shown} says {_shown(tensor.dims)} and holds {entries} texts")
    if _BITS[tensor.data_type] >= 8 and tensor.data_type != 8 and held < count:  # each takes a byte or more
        raise BadModel(f"{shown} says {_shown(tensor.dims)} and holds at most {held} values")


def _check_sparse(sparse: SparseTensor) -> None:
    shown = f"sparse tensor {sparse.values.name!r}"
    if any(side < 0 for side in sparse.dims):
        raise BadModel(f"{shown} has a negative side: {_shown(sparse.dims)}")
    if math.prod(sparse.dims) * max(1, _BITS.get(sparse.values.data_type, 8) // 8) > limits.MOST_TENSOR_BYTES:
        raise BadModel(
            f"{shown} says {_shown(sparse.dims)}, more than the {limits.MOST_TENSOR_BYTES} bytes that one may have"
        )


def _bytes_of(tensor: Tensor) -> int:
    return -(-math.prod(tensor.dims) * _BITS.get(tensor.data_type, 8) // 8)


def _shown(dims: Sequence[int]) -> str:
    text = " x ".join(map(str, dims[:8])) + " x ..." * (len(dims) > 8)
    return text or "one value"


def _external_files(path: Path, tensors: Iterable[Tensor]) -> tuple[str, ...]:
    """The files that hold weights, each looked at: a regular file in the model's folder, large enough."""
    found: dict[str, int] = {}
    for tensor in tensors:
        if not tensor.is_external:
            continue
        location = tensor.external.get("location", "")
        if location not in found:
            found[location] = _external_bytes(path, location)
        offset, length = (_number_of(tensor, key) for key in ("offset", "length"))
        wanted = _bytes_of(tensor)
        if length and tensor.data_type in _BITS and length != wanted:
            raise BadModel(
                f"tensor {tensor.name!r} takes {wanted} bytes, and {location!r} has {length} of it"
            )
        if offset + (length or wanted) > found[location]:
            raise BadModel(
                f"tensor {tensor.name!r} ends at byte {offset + (length or wanted)} of {location!r}, which has "
                f"{found[location]}"
            )
    return tuple(sorted(found))


def _external_bytes(path: Path, location: str) -> int:
    """Bytes of a file with weights. Raises BadModel unless it is a regular file in the model's folder."""
    parts = PurePosixPath(location).parts
    if not parts or location.startswith("/") or ".." in parts or set(location) & set("\\:\0"):
        raise BadModel(f"has weights in {location!r}, which is not in the model's folder")
    place = Path(os.path.realpath(path.parent / location))
    # A model may itself be a link, with its weights beside what it points to, as in the Hugging Face Hub's cache.
    folders = os.path.realpath(path.parent), os.path.dirname(os.path.realpath(path))
    if not any(place.is_relative_to(folder) for folder in folders):
        raise BadModel(f"has weights in {location!r}, a link that leaves the model's folder")
    try:
        status = place.stat()
    except OSError:
        raise BadModel(f"has weights in {location!r}, which is not there; copy it too") from None
    if not stat.S_ISREG(status.st_mode):
        raise BadModel(f"has weights in {location!r}, which is no regular file")
    return status.st_size


def _number_of(tensor: Tensor, key: str) -> int:
    text = tensor.external.get(key, "0")
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise BadModel(f"tensor {tensor.name!r}: {key}: expected a whole number, got {text[:40]!r}")
    return int(text)


class _Names:
    """Who makes what: nothing is read that nobody makes, made twice, or needed to make itself."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._own = {(function.domain, function.name) for function in model.functions}
        self._opset = 1

    def check(self) -> None:
        model = self._model
        for value in model.graph.inputs:
            if not value.has_type:
                raise BadModel(f"input {value.name!r} has no type")
        self._opset = model.opsets.get("", 1)
        self._none_missing(self._check_graph(model.graph))
        for function in model.functions:
            self._opset = function.opsets.get("", self._opset)
            self._none_missing(self._check_graph(function.body))

    def _none_missing(self, missing: dict[str, str]) -> None:
        for name, reader in missing.items():
            raise BadModel(f"{reader} needs {name!r}, which nothing in the model makes")

    def _check_graph(self, graph: Graph) -> dict[str, str]:
        """{name: who reads it} of what a graph takes from around it."""
        for value in (*graph.inputs, *graph.outputs, *graph.values):
            _check_value(value)
        given = {*graph.constants, *(value.name for value in graph.inputs)}
        makers: dict[str, int] = {}
        for i, node in enumerate(graph.nodes):
            self._check_node(node)
            for name in filter(None, node.outputs):
                if name in makers or name in given:
                    raise BadModel(f"{name!r} is made twice, the second time by {node}")
                makers[name] = i
        missing: dict[str, str] = {}
        needs: list[list[int]] = []
        for node in graph.nodes:
            read = {name: str(node) for name in node.inputs if name}
            for inner in node.graphs:
                read |= self._check_graph(inner)
            needs.append([makers[name] for name in read if name in makers])
            missing |= {
                name: reader for name, reader in read.items() if name not in makers and name not in given
            }
        _check_order(graph, needs)
        for value in graph.outputs:
            if value.name not in makers and value.name not in given:
                missing[value.name] = "an output"
        return missing

    def _check_node(self, node: Node) -> None:
        _check_text(node)
        if node.domain or (node.domain, node.op_type) in self._own:
            return
        counts = counts_of(node.op_type, self._opset)
        if counts is None:
            return
        least, most, least_out, most_out = counts
        if not least <= len(node.inputs) <= most:
            raise BadModel(f"{node} has {len(node.inputs)} inputs, expected {_range(least, most)}")
        if not least_out <= len(node.outputs) <= most_out:
            raise BadModel(f"{node} has {len(node.outputs)} outputs, expected {_range(least_out, most_out)}")
        needed = node.inputs[: 1 if node.op_type in OFTEN_EMPTY else least]
        if node.op_type != "Loop" and "" in needed:
            raise BadModel(f"{node} lacks input {needed.index('')}")


def _check_text(node: Node) -> None:
    if not node.op_type:
        raise BadModel(f"a node has no operator: {(node.name or next(iter(node.outputs), ''))!r}")
    for text in (node.op_type, node.domain):
        if not text.isprintable():  # undecodable bytes are not, either
            raise BadModel(f"an operator's name is no text: {text!r}")


def _check_value(value: Value) -> None:
    known = [side for side in value.shape or () if side is not None and side > 0]
    if math.prod(known) > limits.MOST_TENSOR_BYTES:
        raise BadModel(
            f"{value.name!r} says {_shown(known)}, more than the {limits.MOST_TENSOR_BYTES} bytes that one may have"
        )


def _range(least: int, most: int) -> str:
    if least == most:
        return str(least)
    return f"{least} or more" if most >= ANY else f"{least} to {most}"


def _check_order(graph: Graph, needs: Sequence[Sequence[int]]) -> None:
    """Raises BadModel where nodes wait for each other in a circle. needs: of each node, the nodes before it."""
    waiting = [len(before) for before in needs]
    readers: list[list[int]] = [[] for _ in needs]
    for i, before in enumerate(needs):
        for maker in before:
            readers[maker].append(i)
    ready = [i for i, count in enumerate(waiting) if not count]
    done = 0
    while ready:
        done += 1
        for reader in readers[ready.pop()]:
            waiting[reader] -= 1
            if not waiting[reader]:
                ready.append(reader)
    if done < len(needs):
        first = next(i for i, count in enumerate(waiting) if count)
        raise BadModel(f"{graph.nodes[first]} needs its own output, directly or through others")


def _check_calls(model: Model) -> None:
    """Raises BadModel where a function calls itself, or the functions grow beyond bounds once they are laid out."""
    functions = {(f.domain, f.name, f.overload): f for f in model.functions}
    counted: dict[tuple[str, str, str], int] = {}

    def count(graph: Graph, way: tuple[Function, ...]) -> int:
        total = 0
        for node in _all_nodes(graph):
            key = (node.domain, node.op_type, node.overload)
            called = functions.get(key)
            if called is None:
                total += 1
                continue
            if called in way or len(way) > limits.MOST_ONNX_DEPTH:
                raise BadModel(f"function {called.name!r} calls itself, or others too deeply")
            if key not in counted:
                counted[key] = count(called.body, (*way, called))
            total += counted[key]
        return total

    # Of each function too, called or not.
    nodes = [count(graph, ()) for graph in (model.graph, *(function.body for function in model.functions))]
    if max(nodes) > limits.MOST_ONNX_NODES:
        raise BadModel(f"has {max(nodes)} nodes, more than the {limits.MOST_ONNX_NODES} that are read")


def _all_nodes(graph: Graph) -> Iterator[Node]:
    for node in graph.nodes:
        yield node
        for inner in node.graphs:
            yield from _all_nodes(inner)
