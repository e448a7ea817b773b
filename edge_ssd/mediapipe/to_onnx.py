"""A TFLite detector as an ONNX model with raw heads: the operators that occur in MediaPipe's detectors, and no others.

TFLite's images are (B, H, W, C), ONNX's (B, C, H, W): every tensor of four axes is turned round once, at its source.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import tflite
from onnx import TensorProto, helper, numpy_helper

from .tflite_file import Operator, TfliteGraph

_OPSET, _IR_VERSION = 17, 8
_FROM_NHWC, _TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)
_ACTIVATIONS = {
    tflite.ActivationFunctionType.NONE: "",
    tflite.ActivationFunctionType.RELU: "Relu",
    tflite.ActivationFunctionType.RELU6: "Clip",
}


def to_onnx(graph: TfliteGraph, name: str) -> onnx.ModelProto:
    """The model with input "image" (B, 3, H, W) and outputs "loc" (B, P, 4 + 2 K) and "conf" (B, P, C).

    Of the two outputs, the one with fewer columns is conf. Raises ValueError naming an operator that is not known here.
    """
    return _Converter(graph).model(name)


class _Converter:
    def __init__(self, graph: TfliteGraph) -> None:
        self._graph = graph
        self._constants = dict(graph.constants)
        self._nodes: list[onnx.NodeProto] = []
        self._stored: dict[str, np.ndarray] = {}
        loc, conf = sorted(graph.outputs, key=lambda i: -graph.shapes[i][-1])
        self._names = {graph.inputs[0]: "image", loc: "loc", conf: "conf"}

    def model(self, name: str) -> onnx.ModelProto:
        for operator in self._graph.operators:
            convert = getattr(self, f"_{operator.kind.lower()}", None)
            if convert is None:
                raise ValueError(f"{name}: operator {operator.kind} is not known here")
            convert(operator, *operator.inputs)
        (source,) = self._graph.inputs
        _, height, width, channels = self._graph.shapes[source]
        outputs = [
            helper.make_tensor_value_info(label, TensorProto.FLOAT, ["batch", *self._graph.shapes[i][1:]])
            for label in ("loc", "conf")
            for i in self._graph.outputs
            if self._names[i] == label
        ]
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", channels, height, width])
        stored = [numpy_helper.from_array(values, key) for key, values in self._stored.items()]
        made = helper.make_graph(self._nodes, name, [image], outputs, stored)
        opsets = [helper.make_opsetid("", _OPSET)]
        return helper.make_model(made, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="edge_ssd")

    # Constants

    def _dequantize(self, operator: Operator, source: int) -> None:
        self._constants[operator.outputs[0]] = self._constants[source].astype(np.float32)

    def _densify(self, operator: Operator, source: int) -> None:
        self._constants[operator.outputs[0]] = self._constants[source]  # made dense when it was read

    # Images

    def _conv_2d(self, operator: Operator, source: int, weights: int, bias: int) -> None:
        self._convolve(operator, source, self._constants[weights].transpose(0, 3, 1, 2), bias, 1)

    def _depthwise_conv_2d(self, operator: Operator, source: int, weights: int, bias: int) -> None:
        groups = self._graph.shapes[source][3]
        self._convolve(operator, source, self._constants[weights].transpose(3, 0, 1, 2), bias, groups)

    def _convolve(self, operator: Operator, source: int, weights: np.ndarray, bias: int, groups: int) -> None:
        dilations = [operator.options.DilationHFactor(), operator.options.DilationWFactor()]
        kernel = weights.shape[2:]
        inputs = [self._any(source), self._store(weights), self._store(self._constants[bias])]
        window = self._window(operator, source, kernel, dilations)
        self._node("Conv", inputs, operator, **window, dilations=dilations, group=groups)

    def _max_pool_2d(self, operator: Operator, source: int) -> None:
        kernel = (operator.options.FilterHeight(), operator.options.FilterWidth())
        window = self._window(operator, source, kernel, (1, 1))
        self._node("MaxPool", [self._any(source)], operator, **window)

    def _window(
        self, operator: Operator, source: int, kernel: Sequence[int], dilations: Sequence[int]
    ) -> dict[str, Any]:
        """kernel_shape, strides and pads: TensorFlow's SAME puts the odd row at the end."""
        strides = [operator.options.StrideH(), operator.options.StrideW()]
        begins, ends = [0, 0], [0, 0]
        if operator.options.Padding() == tflite.Padding.SAME:
            for i, side in enumerate(self._graph.shapes[source][1:3]):
                covered = (-(-side // strides[i]) - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1
                missing = max(0, covered - side)
                begins[i], ends[i] = missing // 2, missing - missing // 2
        return {"kernel_shape": list(kernel), "strides": strides, "pads": [*begins, *ends]}

    def _resize_bilinear(self, operator: Operator, source: int, size: int) -> None:
        mode = "asymmetric"
        if operator.options.HalfPixelCenters():
            mode = "half_pixel"
        elif operator.options.AlignCorners():
            mode = "align_corners"
        sides = zip(self._constants[size].tolist(), self._graph.shapes[source][1:3])
        scales = np.array([1, 1, *(new / old for new, old in sides)], np.float32)
        inputs = [self._any(source), "", self._store(scales)]
        self._node("Resize", inputs, operator, mode="linear", coordinate_transformation_mode=mode)

    def _depth_to_space(self, operator: Operator, source: int) -> None:
        blocks = operator.options.BlockSize()
        self._node("DepthToSpace", [self._any(source)], operator, blocksize=blocks, mode="DCR")

    def _pad(self, operator: Operator, source: int, paddings: int) -> None:
        pads = self._constants[paddings].astype(np.int64)[list(_FROM_NHWC)]
        self._node("Pad", [self._any(source), self._store(pads.T.reshape(-1))], operator)

    # Any

    def _relu(self, operator: Operator, source: int) -> None:
        self._node("Relu", [self._any(source)], operator)

    def _prelu(self, operator: Operator, source: int, slope: int) -> None:
        slopes = self._constants[slope].reshape(-1, 1, 1)
        self._node("PRelu", [self._any(source), self._store(slopes)], operator)

    def _add(self, operator: Operator, *sources: int) -> None:
        self._node("Add", [self._any(source) for source in sources], operator)

    def _concatenation(self, operator: Operator, *sources: int) -> None:
        axis = operator.options.Axis()
        if len(self._graph.shapes[sources[0]]) == 4:
            axis = _FROM_NHWC.index(axis % 4)
        self._node("Concat", [self._any(source) for source in sources], operator, axis=axis)

    def _reshape(self, operator: Operator, source: int, *_: int) -> None:
        """To (B, P, columns): TFLite's order of values, images turned back."""
        shape, name = self._graph.shapes[operator.outputs[0]], self._any(source)
        if len(shape) != 3:
            raise ValueError(f"expected RESHAPE to three axes, got {shape}")
        if len(self._graph.shapes[source]) == 4:
            turned = f"{name}_turned_{operator.outputs[0]}"
            self._nodes.append(helper.make_node("Transpose", [name], [turned], perm=_TO_NHWC))
            name = turned
        self._node("Reshape", [name, self._store(np.array([0, *shape[1:]], np.int64))], operator)

    # Nodes

    def _node(self, kind: str, inputs: list[str], operator: Operator, **attributes: Any) -> None:
        """A node, and another one behind it for the activation that TFLite has inside of the operator."""
        output, result = operator.outputs[0], self._name(operator.outputs[0])
        fused = getattr(operator.options, "FusedActivationFunction", None)
        code = fused() if fused else tflite.ActivationFunctionType.NONE
        if code not in _ACTIVATIONS:
            raise ValueError(f"{operator.kind}: activation {code} is not known here")
        activation = _ACTIVATIONS[code]
        before = f"{result}_{output}_linear" if activation else result
        self._nodes.append(helper.make_node(kind, inputs, [before], **attributes))
        if activation:
            limits = [self._store(np.float32(v)) for v in ((0, 6) if activation == "Clip" else ())]
            self._nodes.append(helper.make_node(activation, [before, *limits], [result]))

    def _name(self, tensor: int) -> str:
        return self._names.setdefault(tensor, f"t{tensor}")

    def _any(self, tensor: int) -> str:
        """The name of a tensor; a constant is stored, turned round where it is an image."""
        if tensor not in self._constants:
            return self._name(tensor)
        values = self._constants[tensor]
        return self._store(values.transpose(_FROM_NHWC) if values.ndim == 4 else values)

    def _store(self, values: np.ndarray | np.generic) -> str:
        name = f"c{len(self._stored)}"
        self._stored[name] = np.array(values)
        return name
