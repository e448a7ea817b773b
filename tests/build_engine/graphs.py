"""Small convolutional SSDs as ONNX graphs: residual, depthwise, with L2 normalisation; seeded weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.specs import grid_spec

SIDE, CELLS = 100, 25


class Net:
    """Builds a graph layer by layer; every method gives the name of its output.

    opset: 17 is what most exporters write.   shape: of the input; "h" and "w" leave the image size open.
    """

    def __init__(self, seed=0, opset=17, shape=("batch", 3, SIDE, SIDE)):
        self.rng, self.opset, self.shape = np.random.default_rng(seed), opset, shape
        self.nodes, self.constants = [], []

    def constant(self, name, array):
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, op, inputs, output, **attributes):
        self.nodes.append(helper.make_node(op, inputs, [output], name=f"n_{output}", **attributes))
        return output

    def conv(self, x, channels, out, name, kernel=3, stride=1, groups=1, gain=1.0):
        shape = (out, channels // groups, kernel, kernel)
        weights = self.rng.normal(0, gain / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)
        inputs = [
            x,
            self.constant(f"{name}_w", weights),
            self.constant(f"{name}_b", np.zeros(out, np.float32)),
        ]
        pads = [kernel // 2] * 4
        return self.node(
            "Conv", inputs, name, kernel_shape=[kernel] * 2, pads=pads, strides=[stride] * 2, group=groups
        )

    def relu(self, x):
        return self.node("Relu", [x], f"{x}_relu")

    def l2_norm(self, x):
        """Squares, their sum, the root, the division: as exporters without ReduceL2 write it."""
        squares = self.node("Mul", [x, x], f"{x}_squares")
        total = self.node(
            "ReduceSum", [squares, self.constant("channel_axis", np.array([1]))], f"{x}_sum", keepdims=1
        )
        safe = self.node("Add", [total, self.constant("tiny", np.float32(1e-10))], f"{x}_safe")
        return self.node("Div", [x, self.node("Sqrt", [safe], f"{x}_root")], f"{x}_unit")

    def heads(self, x, channels):
        for name, columns in (("loc", 4), ("conf", 3)):
            head = self.conv(x, channels, columns, f"{name}_head")
            moved = self.node("Transpose", [head], f"{name}_moved", perm=[0, 2, 3, 1])
            shape = self.constant(f"{name}_shape", np.array([0, CELLS * CELLS, columns]))
            self.node("Reshape", [moved, shape], name)

    def model(self):
        inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, self.shape)]
        outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("loc", "conf")]
        graph = helper.make_graph(self.nodes, "small", inputs, outputs, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)])
        model.ir_version = 8
        return model


def residual(seed=0, **options):
    """Two residual blocks, the second with a projection on its skip."""
    net = Net(seed, **options)
    x = net.relu(net.conv("image", 3, 8, "stem", stride=2))
    y = net.conv(net.relu(net.conv(x, 8, 8, "a1")), 8, 8, "a2")
    x = net.relu(net.node("Add", [y, x], "a_sum"))
    y = net.conv(net.relu(net.conv(x, 8, 16, "b1", stride=2)), 16, 16, "b2")
    skip = net.conv(x, 8, 16, "b_skip", kernel=1, stride=2)
    x = net.relu(net.node("Add", [skip, y], "b_sum"))
    net.heads(x, 16)
    return net.model()


def depthwise(seed=0):
    """A depthwise block with squeeze and excite."""
    net = Net(seed)
    x = net.relu(net.conv("image", 3, 8, "stem", stride=2))
    x = net.relu(net.conv(x, 8, 8, "dw", stride=2, groups=8))
    pooled = net.node("GlobalAveragePool", [x], "pooled")
    gate = net.conv(net.relu(net.conv(pooled, 8, 4, "se1", kernel=1)), 4, 8, "se2", kernel=1)
    x = net.node("Mul", [x, net.node("HardSigmoid", [gate], "gate")], "scaled")
    x = net.relu(net.conv(x, 8, 16, "pw", kernel=1))
    net.heads(x, 16)
    return net.model()


def l2norm(seed=0, gain=1.0, channels=512):
    """A map of `channels` normalised before the heads, as SSD300's conv4_3.   gain: of what makes it."""
    net = Net(seed)
    x = net.relu(net.conv("image", 3, 8, "stem", stride=2))
    x = net.relu(net.conv(x, 8, channels, "wide", stride=2, gain=gain))
    x = net.node(
        "Mul", [net.l2_norm(x), net.constant("scale", np.full((1, channels, 1, 1), 20, np.float32))], "scaled"
    )
    net.heads(x, channels)
    return net.model()


def small_spec(**changes):
    """The spec of these graphs: 25 x 25 cells of one prior, two classes and background."""
    return grid_spec(CELLS, CELLS, name="small", mean=(127.5,) * 3, std=(127.5,) * 3, **changes)


def save(folder, model, spec=None, name="small"):
    """Writes NAME.onnx and its spec; the path of the former."""
    path = Path(folder, f"{name}.onnx")
    onnx.save(model, path)
    (spec or small_spec()).save(path.with_suffix(".json"))
    return path


def operators(model, kind):
    """The nodes of one operator."""
    return [node for node in model.graph.node if node.op_type == kind]


def producers(model):
    """{tensor: the node that makes it}."""
    return {name: node for node in model.graph.node for name in node.output}
