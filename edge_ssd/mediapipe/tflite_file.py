"""A TFLite file as plain values: tensors, constants and operators, of the few kinds that its detectors have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import tflite

_DTYPES = {
    tflite.TensorType.FLOAT32: np.float32,
    tflite.TensorType.FLOAT16: np.float16,
    tflite.TensorType.INT32: np.int32,
}
_OPERATORS = {code: name for name, code in vars(tflite.BuiltinOperator).items() if isinstance(code, int)}
_VECTORS = {
    tflite.SparseIndexVector.Int32Vector: tflite.Int32Vector,
    tflite.SparseIndexVector.Uint16Vector: tflite.Uint16Vector,
    tflite.SparseIndexVector.Uint8Vector: tflite.Uint8Vector,
}


class Operator(NamedTuple):
    """kind: name of the operator.   inputs, outputs: indices of tensors.   options: the table of its options."""

    kind: str
    inputs: list[int]
    outputs: list[int]
    options: Any


@dataclass(frozen=True)
class TfliteGraph:
    """The one graph of a file.

    shapes: of all tensors.   constants: {tensor: values}, sparse ones made dense.   operators: in order.
    """

    shapes: list[tuple[int, ...]]
    constants: dict[int, np.ndarray]
    operators: list[Operator]
    inputs: list[int]
    outputs: list[int]


def read_tflite(content: bytes) -> TfliteGraph:
    """The graph in the bytes of a .tflite file, which comes from where it can be trusted.

    Raises ValueError for more than one graph, and a type or an operator that is not known here.
    """
    model: Any = tflite.Model.GetRootAs(content, 0)
    if model.SubgraphsLength() != 1:
        raise ValueError(f"expected one graph, got {model.SubgraphsLength()}")
    graph = model.Subgraphs(0)
    tensors = [graph.Tensors(i) for i in range(graph.TensorsLength())]
    constants = {}
    for i, tensor in enumerate(tensors):
        buffer = model.Buffers(tensor.Buffer())
        if buffer.DataLength():
            constants[i] = _values(tensor, buffer)
    return TfliteGraph(
        [tuple(int(side) for side in _ints(tensor.ShapeAsNumpy())) for tensor in tensors],
        constants,
        [_operator(model, graph.Operators(i)) for i in range(graph.OperatorsLength())],
        _ints(graph.InputsAsNumpy()),
        _ints(graph.OutputsAsNumpy()),
    )


def _ints(values: Any) -> list[int]:
    return [int(v) for v in np.atleast_1d(values)] if isinstance(values, np.ndarray) else []


def _operator(model: Any, operator: Any) -> Operator:
    code = model.OperatorCodes(operator.OpcodeIndex())
    kind = _OPERATORS[
        max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    ]  # the second one is a byte, of old files
    table, options = operator.BuiltinOptions(), None
    names = {code: name for name, code in vars(tflite.BuiltinOptions).items() if isinstance(code, int)}
    if table is not None:
        options = getattr(tflite, names[operator.BuiltinOptionsType()])()
        options.Init(table.Bytes, table.Pos)
    return Operator(kind, _ints(operator.InputsAsNumpy()), _ints(operator.OutputsAsNumpy()), options)


def _values(tensor: Any, buffer: Any) -> np.ndarray:
    if tensor.Type() not in _DTYPES:
        raise ValueError(
            f"tensor {tensor.Name().decode()}: expected float or int32, got type {tensor.Type()}"
        )
    values = np.frombuffer(buffer.DataAsNumpy().tobytes(), _DTYPES[tensor.Type()])
    shape = _ints(tensor.ShapeAsNumpy())
    sparsity = tensor.Sparsity()
    return (
        values.reshape(shape)
        if sparsity is None
        else densified(values, shape, _levels(sparsity), *_blocks(sparsity))
    )


def _blocks(sparsity: Any) -> tuple[list[int], list[int]]:
    return _ints(sparsity.TraversalOrderAsNumpy()), _ints(sparsity.BlockMapAsNumpy())


def _levels(sparsity: Any) -> list[int | tuple[np.ndarray, np.ndarray]]:
    """Of each level of the traversal: its size where it is dense, else (segments, indices)."""
    levels = []
    for i in range(sparsity.DimMetadataLength()):
        metadata = sparsity.DimMetadata(i)
        if metadata.Format() == tflite.DimensionType.DENSE:
            levels.append(metadata.DenseSize())
        else:
            segments = _vector(metadata.ArraySegmentsType(), metadata.ArraySegments())
            levels.append((segments, _vector(metadata.ArrayIndicesType(), metadata.ArrayIndices())))
    return levels


def _vector(kind: int, table: Any) -> np.ndarray:
    vector = _VECTORS[kind]()
    vector.Init(table.Bytes, table.Pos)
    return np.atleast_1d(vector.ValuesAsNumpy()).astype(np.int64)


def densified(
    values: np.ndarray,
    shape: list[int],
    levels: list[int | tuple[np.ndarray, np.ndarray]],
    traversal: list[int],
    block_map: list[int],
) -> np.ndarray:
    """The dense array of a sparse tensor of TFLite (schema.fbs, SparsityParameters).

    Args:
        values: those that are stored, in the order of the traversal.
        shape: of the dense array.
        levels: of each level, its size where it is dense, or (segments, indices) as of a CSR matrix.
        traversal: the dimension of each level; those beyond the shape's are of blocks.
        block_map: the dimension that each dimension of blocks divides.
    """
    before = np.zeros(1, np.int64)  # each entry's place in the level before
    indices: list[np.ndarray] = []
    for level in levels:
        if isinstance(level, int):
            counts, mine = np.full(len(before), level), np.tile(np.arange(level), len(before))
            places = np.repeat(before * level, counts) + mine
        else:
            segments, stored = level
            counts = segments[before + 1] - segments[before]
            starts = np.cumsum(counts) - counts
            places = np.arange(counts.sum()) + np.repeat(segments[before] - starts, counts)
            mine = stored[places]
        indices = [np.repeat(earlier, counts) for earlier in indices] + [mine]
        before = places
    where = [np.zeros(len(before), np.int64) for _ in shape]
    sizes = dict(zip(traversal, levels))
    for dimension, index in sorted(zip(traversal, indices), key=lambda pair: pair[0]):
        if dimension < len(shape):
            where[dimension] += index
        else:
            divided, size = block_map[dimension - len(shape)], sizes[dimension]
            if not isinstance(size, int):
                raise ValueError("expected blocks that are dense")
            where[divided] = where[divided] * size + index
    dense = np.zeros(shape, values.dtype)
    dense[tuple(where)] = values
    return dense
