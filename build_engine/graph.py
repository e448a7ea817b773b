"""An ONNX graph that can be asked who makes a tensor, who reads it and of what type it is.

On ModelProto rather than onnxscript's graphs (onnx-ir), which have such an index: they would save about sixty lines
here, the index and three passes, but neither the conversion to another opset nor the inference of types. All around
this takes ModelProtos: ONNX's own tools, ONNX Runtime's quantizer, calibration tables with the tensors' names. And a
Jetson, which installs the extra `build` beside JetPack's packages, would get onnx-ir, ml_dtypes and SymPy for them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, version_converter

# QuantizeLinear takes float16 scales from here on, and TensorRT 10.3 reads it.
OPSET = 19

# Constants beyond this are weights; below, shapes and bounds, which ONNX's tools look into.
_LARGE_BYTES = 4096


class Graph:
    """A copy of an ONNX model, normalised, with an index.

    Constants are initializers, their aliases (Identity) are gone, nodes have distinct names, and the types of
    all tensors are known.

    model: the copy, to be edited.   Call `reindex` after editing nodes.
    """

    def __init__(self, model: onnx.ModelProto, opset: int = OPSET) -> None:
        skeleton, weights = _without_weights(model)
        skeleton = _at_opset(skeleton, opset)
        self.types = _tensor_types(skeleton)
        self.model = _with_weights(skeleton, weights)
        _constants_to_initializers(self.model.graph)
        _fold_aliases(self.model.graph)
        _name_nodes(self.model.graph)
        self.reindex()

    def reindex(self) -> None:
        """Brings the index up to date with the nodes and initializers."""
        graph = self.model.graph
        self.initializers = {tensor.name: tensor for tensor in graph.initializer}
        self.producer = {name: node for node in graph.node for name in node.output if name}
        self.consumers: defaultdict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in graph.node:
            for name in node.input:
                if name:
                    self.consumers[name].append(node)

    @property
    def nodes(self) -> Sequence[onnx.NodeProto]:
        """The nodes, in the order in which they are computed."""
        return self.model.graph.node

    def constant(self, name: str) -> np.ndarray:
        """The value of an initializer, an array."""
        return numpy_helper.to_array(self.initializers[name])

    def is_constant(self, name: str) -> bool:
        """Whether a tensor is an initializer."""
        return name in self.initializers

    def is_float(self, name: str) -> bool:
        """Whether a tensor was float32 when the model was read."""
        return self.types.get(name) == TensorProto.FLOAT

    def activations(self) -> list[str]:
        """Names of the float32 tensors that depend on the image, the input first."""
        inputs = [entry.name for entry in self.model.graph.input]
        outputs = [name for node in self.nodes for name in node.output]
        return [name for name in (*inputs, *outputs) if name and self.is_float(name)]

    def replace_nodes(self, nodes: Iterable[onnx.NodeProto]) -> None:
        """Takes `nodes` instead of the present ones."""
        nodes = list(nodes)  # they may be the present ones
        del self.model.graph.node[:]
        self.model.graph.node.extend(nodes)
        self.reindex()

    def add_constant(self, name: str, array: Any) -> str:
        """Adds an initializer and returns its name."""
        tensor = numpy_helper.from_array(np.asarray(array), name)
        self.model.graph.initializer.append(tensor)
        self.initializers[name] = tensor
        return name

    def drop_unread_constants(self) -> None:
        """Removes the initializers that no node reads."""
        read = {name for node in self.nodes for name in node.input}
        read |= {entry.name for entry in self.model.graph.output}
        kept = [tensor for tensor in self.model.graph.initializer if tensor.name in read]
        del self.model.graph.initializer[:]
        self.model.graph.initializer.extend(kept)
        self.reindex()

    def finished(self) -> onnx.ModelProto:
        """The edited model, checked. Its inner types are left for whoever reads it to infer."""
        self.drop_unread_constants()
        del self.model.graph.value_info[:]
        onnx.checker.check_model(self.model)
        return self.model


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """The value of a node's attribute."""
    for entry in node.attribute:
        if entry.name == name:
            return helper.get_attribute_value(entry)
    return default


def _without_weights(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[onnx.TensorProto]]:
    """(a copy of `model` in which large constants are inputs, those constants).

    ONNX's own tools copy a model several times; what they need to know of weights is their type and shape.
    """
    weights = [tensor for tensor in model.graph.initializer if tensor.ByteSize() > _LARGE_BYTES]
    large = {tensor.name for tensor in weights}
    skeleton = onnx.ModelProto()
    for field in ("ir_version", "opset_import", "functions"):
        _copy_field(model, skeleton, field)
    for field in ("name", "node", "output", "value_info"):
        _copy_field(model.graph, skeleton.graph, field)
    constants = {tensor.name for tensor in model.graph.initializer}
    # Old exporters list the weights among the inputs.
    skeleton.graph.input.extend(entry for entry in model.graph.input if entry.name not in constants)
    skeleton.graph.initializer.extend(
        tensor for tensor in model.graph.initializer if tensor.name not in large
    )
    skeleton.graph.input.extend(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims) for tensor in weights
    )
    return skeleton, weights


def _copy_field(source: Any, target: Any, name: str) -> None:
    value = getattr(source, name)
    if isinstance(value, (str, int)):
        setattr(target, name, value)
    else:
        getattr(target, name).extend(value)


def _with_weights(skeleton: onnx.ModelProto, weights: Sequence[onnx.TensorProto]) -> onnx.ModelProto:
    """What `_without_weights` took apart, together again."""
    names = {tensor.name for tensor in weights}
    kept = [entry for entry in skeleton.graph.input if entry.name not in names]
    del skeleton.graph.input[:]
    skeleton.graph.input.extend(kept)
    skeleton.graph.initializer.extend(weights)
    return skeleton


def _at_opset(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """`model`, converted where its default operators are older than `opset`."""
    present = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if present >= opset:
        return model
    try:
        return version_converter.convert_version(model, opset)
    except Exception as error:  # the converter's errors are of many kinds
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"cannot be converted from opset {present} to {opset} ({reason}); export it again"
        ) from None


def _constants_to_initializers(graph: onnx.GraphProto) -> None:
    kept = []
    for node in graph.node:
        value = attribute(node, "value") if node.op_type == "Constant" else None
        if value is None:
            kept.append(node)
            continue
        tensor = onnx.TensorProto()
        tensor.CopyFrom(value)
        tensor.name = node.output[0]
        graph.initializer.append(tensor)
    if len(kept) < len(graph.node):
        del graph.node[:]
        graph.node.extend(kept)


def _fold_aliases(graph: onnx.GraphProto) -> None:
    """Exporters that store equal weights once give the others' names through Identity."""
    constants = {tensor.name for tensor in graph.initializer}
    outputs = {entry.name for entry in graph.output}
    alias, kept = {}, []
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = alias.get(name, name)
        if node.op_type == "Identity" and node.input[0] in constants and node.output[0] not in outputs:
            alias[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)


def _name_nodes(graph: onnx.GraphProto) -> None:
    seen = set()
    for node in graph.node:
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}_{node.output[0]}"
        seen.add(node.name)


def _tensor_types(model: onnx.ModelProto) -> dict[str, int]:
    try:
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    except onnx.shape_inference.InferenceError as error:
        raise ValueError(f"its shapes contradict each other ({str(error).splitlines()[-1]})") from None
    types = {tensor.name: tensor.data_type for tensor in inferred.initializer}
    for entry in (*inferred.value_info, *inferred.input, *inferred.output):
        types[entry.name] = entry.type.tensor_type.elem_type
    return types
