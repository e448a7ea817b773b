"""Small ONNX models with planted outputs, whose detections can be worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# Of the oldest ONNX Runtime that is supported; newer ones read it too.
_OPSET, _IR_VERSION = 17, 8


def save_planted_model(
    folder, loc, conf, spec, batch="batch", shapes=None, brightness=0.0, dtype=np.float32, with_spec=True
):
    """An ONNX model that answers every image with the same heads, and its spec beside it.

    loc (P, 4), conf (P, C): the answer.   spec: SsdSpec; names the model, its input and its outputs.
    batch: size of the first axis; a text makes it dynamic.
    shapes: of the two outputs behind the batch axis, such as ((P * 4,), (P, 1, C)); (P, 4), (P, C) if None.
    brightness: conf also grows by this times the mean of the network's input, image by image.
    dtype: of input and outputs.   with_spec: whether the spec is written too.

    Returns the path of the .onnx file.
    """
    heads = ((spec.outputs.loc, np.asarray(loc, dtype)), (spec.outputs.conf, np.asarray(conf, dtype)))
    shapes = shapes or tuple(array.shape for _, array in heads)
    builder = _Graph(spec, batch, dtype)
    builder.add_mean(brightness)
    for (name, array), shape, gain in zip(heads, shapes, ("no_gain", "gain")):
        builder.add_head(name, array, shape, gain)
    path = Path(folder) / f"{spec.name}.onnx"
    onnx.save(builder.model(), path)
    if with_spec:
        spec.save(path.with_suffix(".json"))
    return path


class _Graph:
    def __init__(self, spec, batch, dtype):
        self._input = spec.input.name
        self._batch, self._dtype = batch, np.dtype(dtype)
        self._type = helper.np_dtype_to_tensor_dtype(self._dtype)
        self._nodes, self._constants, self._outputs = [], [], []
        self._inputs = [helper.make_tensor_value_info(self._input, self._type, [batch, 3, *spec.input.size])]

    def _constant(self, name, array):
        self._constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def _node(self, op, inputs, output, **attributes):
        self._nodes.append(helper.make_node(op, inputs, [output], **attributes))

    def add_mean(self, brightness):
        """The mean of each image as (B, 1, 1): times `brightness` as "gain", times 0 as "no_gain"."""
        self._node("ReduceMean", [self._input], "mean", axes=[2, 3], keepdims=0)  # (B, 3)
        self._node("ReduceMean", ["mean"], "grey", axes=[1], keepdims=1)  # (B, 1)
        self._node("Unsqueeze", ["grey", self._constant("last_axis", np.array([2]))], "grey_3d")
        for name, factor in (("gain", brightness), ("no_gain", 0.0)):
            self._node("Mul", ["grey_3d", self._constant(f"{name}_factor", self._dtype.type(factor))], name)

    def add_head(self, name, array, shape, gain):
        self._node("Add", [self._constant(f"{name}_planted", array[None]), gain], f"{name}_3d")
        # A zero in Reshape keeps that axis: the batch.
        self._node("Reshape", [f"{name}_3d", self._constant(f"{name}_shape", np.array([0, *shape]))], name)
        self._outputs.append(helper.make_tensor_value_info(name, self._type, [self._batch, *shape]))

    def model(self):
        graph = helper.make_graph(self._nodes, "planted", self._inputs, self._outputs, self._constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)])
        model.ir_version = _IR_VERSION
        onnx.checker.check_model(model)
        return model


def add_extra_output(path, name="debug"):
    """Gives a saved model one more output that no spec names, in front of the others."""
    model = onnx.load(path)
    model.graph.node.append(helper.make_node("Identity", ["mean"], [name]))
    model.graph.output.insert(0, helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    onnx.save(model, path)


def add_scalar_output(path, name="scale"):
    """Gives a saved model one more output of a single number."""
    model = onnx.load(path)
    model.graph.node.append(helper.make_node("Identity", ["no_gain_factor"], [name]))
    model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, []))
    onnx.save(model, path)


def list_weights_as_inputs(path):
    """Makes a saved model look like those of old exporters, which list the weights among the inputs."""
    model = onnx.load(path)
    for constant in model.graph.initializer:
        model.graph.input.append(
            helper.make_tensor_value_info(constant.name, constant.data_type, list(constant.dims))
        )
    onnx.save(model, path)
