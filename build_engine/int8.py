"""The two placements of INT8: for TensorRT and OpenVINO, and for ONNX Runtime on a CPU."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from onnx import ModelProto, NodeProto, helper

from .graph import Graph

_LARGEST = 127  # symmetric: -128 has no counterpart
_SMALLEST_SCALE = 2.0**-24  # float16's least number
QUANTISED_OPS = ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger", "DynamicQuantizeLinear")


def quantise(
    model: ModelProto, ranges: Mapping[str, tuple[float, float]], keep: Iterable[str] = ()
) -> ModelProto:
    """`model` with Q/DQ on the inputs of its convolutions, as TensorRT fuses them; the rest is untouched.

    model: ModelProto, float32.   ranges: {tensor: (low, high)}.   keep: names of convolutions to leave alone.

    Symmetric int8: activations per tensor, weights per output channel, bias in float. Where a convolution's
    output is added to a skip connection, the skip gets Q/DQ too, so that the sum is fused. Nothing stands
    between a convolution and its activation. Scales are exact in float16, so that `convert_to_fp16` may
    follow. Returns the new ModelProto.
    """
    graph = Graph(model)
    keep = set(keep)
    convs = [node for node in quantisable(graph) if node.name not in keep]
    nodes = _Placement(graph, ranges, convs).nodes()
    graph.replace_nodes(nodes)
    return graph.finished()


def quantisable(graph: Graph) -> list[NodeProto]:
    """The convolutions with constant weights, in order."""
    return [node for node in graph.nodes if node.op_type == "Conv" and graph.is_constant(node.input[1])]


class _Placement:
    def __init__(
        self, graph: Graph, ranges: Mapping[str, tuple[float, float]], convs: Sequence[NodeProto]
    ) -> None:
        self.graph, self.ranges = graph, ranges
        self.convs = {node.name for node in convs}
        self.made: list[NodeProto] = []

    def nodes(self) -> list[NodeProto]:
        """All nodes of the graph with Q/DQ between."""
        position = {node.name: i for i, node in enumerate(self.graph.nodes)}
        for node in list(self.graph.nodes):
            if node.name in self.convs:
                node.input[0] = self._around(node.input[0], node.name)
                node.input[1] = self._weights(node.input[1], node.name)
            elif node.op_type == "Add":
                skip = self._skip(node, position)
                if skip is not None:
                    node.input[skip] = self._around(node.input[skip], node.name)
            self.made.append(node)
        return self.made

    def _around(self, name: str, reader: str) -> str:
        """Q and DQ for one reader of an activation; the name of what comes out."""
        stem = f"{reader}_{name}"
        low, high = self.ranges[name]
        scale = self.graph.add_constant(f"{stem}_scale", activation_scale(low, high))
        zero = self.graph.add_constant(f"{stem}_zero", np.int8(0))
        for op, source, output in (
            ("QuantizeLinear", name, f"{stem}_int8"),
            ("DequantizeLinear", f"{stem}_int8", f"{stem}_dq"),
        ):
            self.made.append(helper.make_node(op, [source, scale, zero], [output], name=f"{op}_{stem}"))
        self._is_float(f"{stem}_scale", f"{stem}_dq")
        return f"{stem}_dq"

    def _weights(self, name: str, reader: str) -> str:
        """Int8 weights and their DQ; the name of what comes out."""
        stem = f"{reader}_weight"
        quantised, scales = quantise_weights(self.graph.constant(name))
        inputs = [
            self.graph.add_constant(f"{stem}_int8", quantised),
            self.graph.add_constant(f"{stem}_scale", scales),
            self.graph.add_constant(f"{stem}_zero", np.zeros(len(scales), np.int8)),
        ]
        self.made.append(
            helper.make_node(
                "DequantizeLinear", inputs, [f"{stem}_dq"], name=f"DequantizeLinear_{stem}", axis=0
            )
        )
        self._is_float(f"{stem}_scale", f"{stem}_dq")
        return f"{stem}_dq"

    def _is_float(self, *names: str) -> None:
        self.graph.types.update(dict.fromkeys(names, 1))

    def _skip(self, node: NodeProto, position: Mapping[str, int]) -> int | None:
        """Which input of an Add is the skip connection beside a quantised convolution; None for neither.

        Where both come from convolutions, the projection is the skip: its input is computed earlier.
        """
        inputs = list(node.input)
        if any(self.graph.is_constant(name) or name not in self.ranges for name in inputs):
            return None
        makers = [self.graph.producer.get(name) for name in inputs]
        is_conv = [
            maker is not None and maker.name in self.convs and len(self.graph.consumers[name]) == 1
            for maker, name in zip(makers, inputs)
        ]
        if not any(is_conv):
            return None
        if not all(is_conv):
            return is_conv.index(False)
        # The producers' own inputs have been renamed by now; their Q/DQ stands right behind what made them.
        return int(np.argmin([self._depth(maker, position) for maker in makers if maker is not None]))

    def _depth(self, conv: NodeProto, position: Mapping[str, int]) -> int:
        """Position of the node that makes a convolution's input, before Q/DQ."""
        name = conv.input[0]
        for quantiser in self.made:
            if quantiser.output[0] == name.removesuffix("_dq") + "_int8":
                name = quantiser.input[0]
        maker = self.graph.producer.get(name)
        return -1 if maker is None else position[maker.name]


def activation_scale(low: float, high: float) -> np.ndarray | np.float32:
    """The float32 scale of symmetric int8 over low..high, exact in float16; 1 for a tensor of zeros."""
    largest = max(abs(low), abs(high))
    return _exact_in_half(np.float32(largest / _LARGEST)) if largest > 0 else np.float32(1)


def quantise_weights(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(O, ...) float32 -> (O, ...) int8, and (O,) float32 scales of its output channels, exact in float16."""
    largest = np.abs(weights.reshape(len(weights), -1)).max(axis=1)
    scales = np.where(largest > 0, _exact_in_half(largest / _LARGEST), np.float32(1)).astype(np.float32)
    levels = np.rint(weights / scales.reshape(-1, *(1,) * (weights.ndim - 1)))
    return np.clip(levels, -_LARGEST, _LARGEST).astype(np.int8), scales


def _exact_in_half(scales: np.ndarray | np.float32) -> np.ndarray:
    """The next number that float16 holds, at or above: below, the largest values would be cut off."""
    wanted = np.maximum(np.asarray(scales, np.float32), np.float32(_SMALLEST_SCALE))
    half = wanted.astype(np.float16)
    half = np.where(half.astype(np.float32) < wanted, np.nextafter(half, np.float16(np.inf)), half)
    return half.astype(np.float32)


def quantise_for_cpu(
    model: ModelProto,
    ranges: Mapping[str, tuple[float, float]],
    keep: Iterable[str] = (),
    narrow_weights: bool = False,
) -> ModelProto:
    """`model` as ONNX Runtime's own CPU kernels want it: Q/DQ everywhere, unsigned activations, int32 bias.

    TensorRT refuses it. Arguments and result as of `quantise`; the keys of `ranges` must hold every float tensor.
    narrow_weights: weights in 7 bits, for a CPU that does not sum 8-bit products exactly.
    """
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.registry import QDQRegistry

    graph = Graph(model)
    arrays: dict[str, TensorData | tuple] = {
        name: TensorData(lowest=np.float32(a), highest=np.float32(b)) for name, (a, b) in ranges.items()
    }
    quantizer = QDQQuantizer(
        graph.finished(),
        per_channel=True,
        reduce_range=narrow_weights,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, arrays),
        nodes_to_quantize=[],
        nodes_to_exclude=list(keep),
        # ONNX Runtime folds batch norms into the convolutions before them unless Q/DQ stands between.
        op_types_to_quantize=[op for op in QDQRegistry if op != "BatchNormalization"],
        extra_options={},
    )
    quantizer.quantize_model()
    return quantizer.model.model
