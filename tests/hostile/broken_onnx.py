"""A small SSD as ONNX, and ways to break it: of the kinds that crashed engines, hung them or got tracebacks."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_ssd.priors import make_priors
from edge_ssd.spec import SsdSpec
from tests.specs import grid_spec

SIDE, CELLS, COLUMNS = 32, 4, 3
PRIORS = CELLS * CELLS


def small_spec() -> SsdSpec:
    """Of `small_ssd`: one prior in each of 4 x 4 cells, two classes and background."""
    spec = grid_spec(CELLS, CELLS, name="m", height=SIDE, width=SIDE)
    assert len(make_priors(spec)) == PRIORS
    return spec


def small_ssd(seed: int = 0) -> onnx.ModelProto:
    """A convolution of stride 8, ReLU, and a convolution for each head: (B, P, 4) and (B, P, 3)."""
    rng = np.random.default_rng(seed)

    def weights(name: str, *shape: int) -> TensorProto:
        return numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["image", "w"], ["a"], pads=[1] * 4, strides=[8, 8]),
        helper.make_node("Relu", ["a"], ["b"]),
    ]
    constants = [weights("w", 8, 3, 3, 3)]
    for name, columns in (("loc", 4), ("conf", COLUMNS)):
        constants += [
            weights(f"{name}_w", columns, 8, 3, 3),
            numpy_helper.from_array(np.array([0, -1, columns]), f"{name}_shape"),
        ]
        nodes += [
            helper.make_node("Conv", ["b", f"{name}_w"], [f"{name}_map"], pads=[1] * 4),
            helper.make_node("Transpose", [f"{name}_map"], [f"{name}_moved"], perm=[0, 2, 3, 1]),
            helper.make_node("Reshape", [f"{name}_moved", f"{name}_shape"], [name]),
        ]
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["B", 3, SIDE, SIDE])]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", PRIORS, columns])
        for name, columns in (("loc", 4), ("conf", COLUMNS))
    ]
    graph = helper.make_graph(nodes, "small", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


def save(folder: Path, model: onnx.ModelProto | bytes, name: str = "m") -> Path:
    """Writes NAME.onnx, whatever it holds, and the spec of `small_ssd` beside it."""
    path = folder / f"{name}.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    small_spec().save(path.with_suffix(".json"))
    return path


def node_of(model: onnx.ModelProto, output: str) -> onnx.NodeProto:
    """The node that makes a tensor."""
    return next(node for node in model.graph.node if output in node.output)


def set_constant(model: onnx.ModelProto, name: str, array: object) -> None:
    """Gives an initializer another value."""
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(array), name))


# Numbers that sides, counts, versions and attributes are given.
_NUMBERS = (-(1 << 63), -(1 << 31), -2, -1, 0, 1, 2, 3, 5, 99, 1 << 16, 1 << 31, 1 << 40, (1 << 63) - 1)
_OPERATORS = (
    "Relu",
    "Conv",
    "ConvTranspose",
    "Tile",
    "Resize",
    "Gather",
    "Concat",
    "Split",
    "Pad",
    "Expand",
    "MaxPool",
    "TopK",
    "Loop",
    "If",
    "Slice",
    "Softmax",
    "Gemm",
    "LSTM",
    "NonMaxSuppression",
    "CumSum",
    "Einsum",
    "",
    "Conv\x1b[2J",
    "DequantizeLinear",
    "ReduceSum",
    "GridSample",
    "NonZero",
    "OneHot",
    "Range",
)
_NAMES = ("", "a", "b", "loc", "conf", "w", "nobody", "image", "loc_shape", "\x1b[31m")


def _change_shape(model: onnx.ModelProto, rng: random.Random) -> None:
    sides = [rng.choice((0, -1, 1, 4, PRIORS, *_NUMBERS)) for _ in range(rng.choice((0, 1, 2, 3, 3, 3, 4)))]
    set_constant(model, rng.choice(("loc_shape", "conf_shape")), np.array(sides, np.int64))


def _change_operator(model: onnx.ModelProto, rng: random.Random) -> None:
    rng.choice(model.graph.node).op_type = rng.choice(_OPERATORS)


def _change_names(model: onnx.ModelProto, rng: random.Random) -> None:
    node = rng.choice(model.graph.node)
    names = rng.choice((node.input, node.output))
    action = rng.randrange(4)
    if action == 0 and names:
        del names[rng.randrange(len(names))]
    elif action == 1:
        names.append(rng.choice(_NAMES))
    elif action == 2 and names:
        names[rng.randrange(len(names))] = rng.choice(_NAMES)
    else:
        names.insert(0, rng.choice(_NAMES))


def _change_attribute(model: onnx.ModelProto, rng: random.Random) -> None:
    node = rng.choice([node for node in model.graph.node if node.attribute])
    entry = rng.choice(node.attribute)
    action = rng.randrange(5)
    if action == 0:
        del entry.ints[:]
    elif action == 1:
        entry.ints.append(rng.choice(_NUMBERS))
    elif action == 2 and entry.ints:
        entry.ints[rng.randrange(len(entry.ints))] = rng.choice(_NUMBERS)
    elif action == 3:
        entry.type = rng.randrange(1, 12)
    else:
        name = rng.choice(("group", "axis", "dilations", "kernel_shape", "auto_pad", "epsilon", "keepdims"))
        node.attribute.append(
            helper.make_attribute(name, rng.choice((rng.choice(_NUMBERS), "VALID", [0, 0], 0.5)))
        )


def _change_constant(model: onnx.ModelProto, rng: random.Random) -> None:
    tensor = rng.choice(model.graph.initializer)
    action = rng.randrange(6)
    if action == 0 and tensor.dims:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(_NUMBERS)
    elif action == 1:
        tensor.dims.append(rng.choice(_NUMBERS))
    elif action == 2:
        tensor.data_type = rng.choice((-1, 0, 2, 6, 7, 8, 9, 10, 11, 14, 16, 21, 99))
    elif action == 3:
        tensor.raw_data = tensor.raw_data[: rng.randrange(len(tensor.raw_data) + 1)]
    elif action == 4:
        tensor.name = rng.choice(_NAMES)
    else:
        model.graph.initializer.remove(tensor)


def _change_externally(model: onnx.ModelProto, rng: random.Random) -> None:
    tensor = rng.choice(model.graph.initializer)
    location = rng.choice(
        ("", ".", "..", "m.onnx", "m.json", "/etc/passwd", "../x", "/dev/zero", "a\\b", "nobody")
    )
    onnx.external_data_helper.set_external_data(
        tensor, location, rng.choice((0, *_NUMBERS)), rng.choice((864, *_NUMBERS))
    )
    if rng.random() < 0.7:
        tensor.ClearField("raw_data")


def _change_versions(model: onnx.ModelProto, rng: random.Random) -> None:
    action = rng.randrange(4)
    if action == 0:
        model.opset_import[0].version = rng.choice((*_NUMBERS, 1, 5, 7, 9, 11, 13, 18, 21, 24))
    elif action == 1:
        model.ir_version = rng.choice((*_NUMBERS, 4, 7, 10))
    elif action == 2:
        model.opset_import.append(
            helper.make_opsetid(rng.choice(("evil", "", "com.microsoft")), rng.choice(_NUMBERS))
        )
    else:
        del model.opset_import[:]


def _change_order(model: onnx.ModelProto, rng: random.Random) -> None:
    nodes = list(model.graph.node)
    action = rng.randrange(3)
    if action == 0:
        rng.shuffle(nodes)
    elif action == 1:
        nodes.append(rng.choice(nodes))
    else:
        nodes.pop(rng.randrange(len(nodes)))
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def _change_values(model: onnx.ModelProto, rng: random.Random) -> None:
    value = rng.choice([*model.graph.input, *model.graph.output])
    action = rng.randrange(5)
    if action == 0:
        value.ClearField("type")
    elif action == 1:
        value.name = rng.choice(_NAMES)
    elif action == 2:
        value.type.tensor_type.elem_type = rng.choice((0, 2, 7, 10, 11, 16, 99))
    elif action == 3:
        rng.choice(value.type.tensor_type.shape.dim).dim_value = rng.choice(_NUMBERS)
    else:
        model.graph.input.append(onnx.ValueInfoProto(name="extra"))


def _add_graph(model: onnx.ModelProto, rng: random.Random) -> None:
    """A branch or a loop around a copy of the whole graph, or of nothing."""
    inner = helper.make_graph([], "inner", [], [])
    if rng.random() < 0.5:
        inner.CopyFrom(model.graph)
    if rng.random() < 0.5:
        node = helper.make_node("If", ["a"], ["branched"], then_branch=inner, else_branch=inner)
    else:
        node = helper.make_node("Loop", ["", "", "a"], ["looped"], body=inner)
    model.graph.node.append(node)


def _add_function(model: onnx.ModelProto, rng: random.Random) -> None:
    """A function that calls itself, or one that the ReLU becomes."""
    inside = "Again" if rng.random() < 0.5 else "Relu"
    call = helper.make_node(inside, ["x"], ["y"], domain="own" if inside == "Again" else "")
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    model.functions.append(helper.make_function("own", "Again", ["x"], ["y"], [call], opsets))
    if rng.random() < 0.8:
        model.opset_import.append(opsets[1])
    node_of(model, "b").op_type, node_of(model, "b").domain = "Again", "own"


_CHANGES: tuple[Callable[[onnx.ModelProto, random.Random], None], ...] = (
    _change_shape,
    _change_shape,
    _change_operator,
    _change_names,
    _change_names,
    _change_attribute,
    _change_attribute,
    _change_constant,
    _change_constant,
    _change_externally,
    _change_versions,
    _change_order,
    _change_values,
    _add_graph,
    _add_function,
)


def mutated(seed: int) -> bytes:
    """`small_ssd` broken in one to three ways, or with some of its bytes changed; the same for a seed."""
    rng = random.Random(seed)
    model = small_ssd()
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        try:
            rng.choice(_CHANGES)(model, rng)
        except (
            ValueError,
            IndexError,
            TypeError,
            StopIteration,
        ):  # protobuf refuses it, or it is broken already
            continue
    content = bytearray(model.SerializeToString())
    if rng.random() < 0.2:
        for _ in range(rng.choice((1, 3, 30))):
            content[rng.randrange(len(content))] = rng.randrange(256)
    if rng.random() < 0.05:
        del content[rng.randrange(len(content)) :]
    return bytes(content)
