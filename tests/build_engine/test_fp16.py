"""FP16: which layers stay float32, and that what float16 cannot hold is not lost."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from edge_ssd.build_engine.fp16 import OVERFLOW_LIMIT, convert_to_fp16, norm_islands, overflow_islands
from edge_ssd.build_engine.graph import Graph
from edge_ssd.build_engine.session import open_bytes
from tests.build_engine.graphs import Net, depthwise, l2norm, operators, producers, residual


def run(model, batch):
    return open_bytes(model.SerializeToString(), threads=1).run(["loc", "conf"], {"image": batch})


def batch_of(rng, count=1):
    return rng.uniform(-1, 1, (count, 3, 100, 100)).astype(np.float32)


@pytest.mark.parametrize("make", [residual, depthwise, l2norm])
def test_heads_stay_within_the_rounding_of_float16(make, rng):
    model, batch = make(), batch_of(rng, 2)
    half, _ = convert_to_fp16(model)
    for wanted, found in zip(run(model, batch), run(half, batch)):
        assert found.dtype == np.float32
        # A dozen layers of 11-bit numbers.
        assert np.abs(found - wanted).max() < 1e-2 * np.abs(wanted).max()


def test_weights_are_float16_and_the_input_and_outputs_float32():
    half, islands = convert_to_fp16(residual())
    assert islands == {}
    types = {tensor.data_type for tensor in half.graph.initializer if "_w" in tensor.name}
    assert types == {TensorProto.FLOAT16}
    for entry in (*half.graph.input, *half.graph.output):
        assert entry.type.tensor_type.elem_type == TensorProto.FLOAT
    assert [entry.name for entry in half.graph.output] == ["loc", "conf"]


def test_the_model_given_is_left_alone():
    model = residual()
    before = model.SerializeToString()
    convert_to_fp16(model)
    assert model.SerializeToString() == before


def test_l2_normalisation_is_an_island_from_the_squares_to_the_division():
    half, islands = convert_to_fp16(l2norm(channels=16))
    names = {"squares", "sum", "safe", "root", "unit"}
    assert set(islands) == {f"n_wide_relu_{name}" for name in names}
    made_by = producers(half)
    (division,) = operators(half, "Div")
    assert [made_by[name].op_type for name in division.input] == ["Cast", "Sqrt"]


def test_reduce_l2_is_an_island_too():
    net = Net()
    x = net.relu(net.conv("image", 3, 8, "stem", stride=4))
    length = net.node("ReduceL2", [x], "length", axes=[1], keepdims=1)
    safe = net.node("Clip", [length, net.constant("least", np.float32(1e-12))], "at_least")
    net.heads(net.node("Div", [x, safe], "unit"), 8)
    assert set(norm_islands(Graph(net.model()))) == {"n_length", "n_at_least", "n_unit"}


def test_a_sum_of_anything_else_is_no_island():
    assert norm_islands(Graph(depthwise())) == {}


@pytest.mark.parametrize("rms", [1, 100])
def test_l2_normalisation_of_large_features_and_of_an_all_zero_pixel(rms, rng):
    """Past an RMS of 11 the squares of 512 channels exceed float16, and 1e-10 vanishes: 0 / 0."""
    model = l2norm()
    batch = batch_of(rng)
    batch[:, :, 40:70, 40:70] = 0
    features = Graph(model)
    wide = next(node for node in features.nodes if node.name == "n_wide")
    weights = features.constant(wide.input[1])
    features.model.graph.output.append(
        onnx.helper.make_tensor_value_info("wide_relu", TensorProto.FLOAT, None)
    )
    found = open_bytes(features.model.SerializeToString(), 1).run(["wide_relu"], {"image": batch})[0]
    scaled = numpy_helper.from_array(weights * (rms / np.sqrt((found**2).mean())), wide.input[1])
    next(t for t in model.graph.initializer if t.name == wide.input[1]).CopyFrom(scaled)
    assert (found == 0).all(axis=1).any()  # an all-zero pixel is among them

    half, _ = convert_to_fp16(model)
    for wanted, got in zip(run(model, batch), run(half, batch)):
        assert np.isfinite(got).all()
        assert np.abs(got - wanted).max() < 1e-2 * np.abs(wanted).max()


def test_without_the_island_the_same_network_breaks(rng, monkeypatch):
    """What the test above would find if there were no island; float16 all the way, by the reference evaluator."""
    monkeypatch.setattr("edge_ssd.build_engine.fp16.norm_islands", lambda graph: {})
    model = l2norm(gain=300.0, channels=64)
    half, islands = convert_to_fp16(model)
    assert islands == {}
    with np.errstate(all="ignore"):
        loc, _ = ReferenceEvaluator(half).run(["loc", "conf"], {"image": batch_of(rng)})
    wanted, _ = run(model, batch_of(rng))
    assert not np.isfinite(loc).all() or np.abs(loc - wanted).max() > 0.1 * np.abs(wanted).max()


def test_what_makes_or_reads_a_large_tensor_stays_float32():
    graph = Graph(residual())
    ranges = dict.fromkeys(graph.activations(), (-1.0, 1.0))
    ranges["a1"] = (-5.0, OVERFLOW_LIMIT + 1)
    islands = overflow_islands(graph, ranges)
    assert set(islands) == {"n_a1", "n_a1_relu"}
    assert "a1 reaches 3e+04" in islands["n_a1"]
    ranges["a1"] = (-OVERFLOW_LIMIT, 5.0)
    assert overflow_islands(graph, ranges) == {}


def test_a_network_that_overflows_is_right_once_it_was_watched(rng):
    net = Net()
    x = net.node(
        "Mul", [net.conv("image", 3, 8, "stem", stride=4), net.constant("up", np.float32(1e6))], "large"
    )
    net.heads(net.node("Mul", [x, net.constant("down", np.float32(1e-6))], "small"), 8)
    model, batch = net.model(), batch_of(rng)
    half, islands = convert_to_fp16(model, {"large": (-2e6, 2e6)})
    assert set(islands) == {"n_large", "n_small"}
    for wanted, found in zip(run(model, batch), run(half, batch)):
        assert np.abs(found - wanted).max() < 1e-2 * np.abs(wanted).max()


def test_an_output_that_another_node_reads_keeps_its_name():
    net = Net()
    net.heads(net.relu(net.conv("image", 3, 8, "stem", stride=4)), 8)
    net.node("Relu", ["loc"], "positive")
    model = net.model()
    model.graph.output.append(onnx.helper.make_tensor_value_info("positive", TensorProto.FLOAT, None))
    half, _ = convert_to_fp16(model)
    batch = np.zeros((1, 3, 100, 100), np.float32)
    loc, positive = open_bytes(half.SerializeToString(), 1).run(["loc", "positive"], {"image": batch})
    assert np.array_equal(positive, np.maximum(loc, 0))
