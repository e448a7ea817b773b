"""The two placements of INT8: where Q/DQ stands, and what it costs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from edge_ssd.build_engine.fp16 import convert_to_fp16
from edge_ssd.build_engine.graph import Graph
from edge_ssd.build_engine.int8 import activation_scale, quantise, quantise_for_cpu, quantise_weights
from edge_ssd.build_engine.session import open_bytes
from edge_ssd.machine import cpu
from edge_ssd.machine.cpu import sums_int8_exactly
from tests.build_engine.graphs import Net, depthwise, l2norm, operators, producers, residual


def ranges_of(model, batches):
    """{tensor: (low, high)} over some batches, in the plainest way."""
    graph = Graph(model)
    names = [name for name in graph.activations() if name not in ("image", "loc", "conf")]
    for name in names:
        graph.model.graph.output.append(onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    session = open_bytes(graph.model.SerializeToString(), 1, optimise=False)
    names += ["loc", "conf"]
    arrays = dict(zip(names, session.run(names, {"image": batches})))
    return {name: (float(a.min()), float(a.max())) for name, a in {**arrays, "image": batches}.items()}


def run(model, batch):
    return open_bytes(model.SerializeToString(), 1).run(["loc", "conf"], {"image": batch})


@pytest.fixture
def batch(rng):
    return rng.uniform(-1, 1, (4, 3, 100, 100)).astype(np.float32)


def placed(make, batch, **options):
    model = make()
    return quantise(model, ranges_of(model, batch), **options)


def test_every_input_of_a_convolution_and_nothing_else_comes_out_of_q_dq(batch):
    model = placed(l2norm, batch)
    made_by = producers(model)
    for conv in operators(model, "Conv"):
        assert [made_by[name].op_type for name in conv.input[:2]] == ["DequantizeLinear"] * 2
        assert made_by[made_by[conv.input[0]].input[0]].op_type == "QuantizeLinear"
        assert conv.input[2] not in made_by  # the bias is a plain float constant
    assert len(operators(model, "QuantizeLinear")) == len(operators(model, "Conv"))
    readers = {name: node.op_type for node in model.graph.node for name in node.input}
    assert {readers[node.output[0]] for node in operators(model, "DequantizeLinear")} == {"Conv"}


def test_nothing_stands_between_a_convolution_and_its_activation(batch):
    model = placed(depthwise, batch)
    made_by = producers(model)
    assert all(made_by[node.input[0]].op_type == "Conv" for node in operators(model, "Relu"))


@pytest.mark.parametrize(("name", "skip"), [("a_sum", "stem_relu"), ("b_sum", "b_skip")])
def test_of_a_residual_sum_the_skip_alone_is_quantised(batch, name, skip):
    """Also where the skip is a convolution of its own, whichever input of the sum it is."""
    model = placed(residual, batch)
    made_by = producers(model)
    (total,) = [node for node in operators(model, "Add") if node.output[0] == name]
    kinds = [made_by[source].op_type for source in total.input]
    assert sorted(kinds) == ["Conv", "DequantizeLinear"]
    dequantised = made_by[total.input[kinds.index("DequantizeLinear")]]
    assert made_by[dequantised.input[0]].input[0] == skip


def test_a_sum_of_no_convolution_is_left_alone(batch):
    net = Net()
    x = net.relu(net.conv("image", 3, 8, "stem", stride=4))
    net.heads(net.node("Add", [net.node("Sigmoid", [x], "gate"), x], "total"), 8)
    model = quantise(net.model(), ranges_of(net.model(), batch))
    made_by = producers(model)
    (total,) = operators(model, "Add")
    assert "DequantizeLinear" not in {made_by[name].op_type for name in total.input}


def test_weights_are_int8_per_output_channel_with_zero_points_of_zero(batch):
    model = placed(residual, batch)
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    made_by = producers(model)
    for conv in operators(model, "Conv"):
        weights, scales, zeros = (constants[name] for name in made_by[conv.input[1]].input)
        assert (weights.dtype, scales.shape, zeros.any()) == (np.int8, (len(weights),), False)
        assert np.abs(weights.astype(int)).max() == 127
    assert not any(zeros.any() for name, zeros in constants.items() if name.endswith("_zero"))


def test_layers_that_are_kept_have_no_q_dq(batch):
    model = placed(residual, batch, keep=("n_stem", "n_a2"))
    made_by = producers(model)
    quantised = {
        conv.name: made_by[conv.input[1]].op_type if conv.input[1] in made_by else ""
        for conv in operators(model, "Conv")
    }
    assert {name for name, kind in quantised.items() if not kind} == {"n_stem", "n_a2"}
    # The sum behind a2 has no quantised convolution to be fused with: its skip has no reason to be quantised.
    (total,) = [node for node in operators(model, "Add") if node.output[0] == "a_sum"]
    assert "DequantizeLinear" not in {made_by[name].op_type for name in total.input}


@pytest.mark.parametrize("make", [residual, depthwise, l2norm])
@pytest.mark.parametrize(
    "place",
    [
        lambda *a: convert_to_fp16(quantise(*a))[0],
        lambda *a: quantise_for_cpu(*a, narrow_weights=not sums_int8_exactly()),
    ],
    ids=["tensorrt", "cpu"],
)
def test_heads_stay_near_the_float_model(make, place, batch):
    model = make()
    found = run(place(model, ranges_of(model, batch)), batch)
    for wanted, head in zip(run(model, batch), found):
        assert np.linalg.norm(head - wanted) < 0.08 * np.linalg.norm(wanted)  # a handful of 8-bit layers


def test_a_range_too_narrow_is_seen(batch):
    """What the test above would find if calibration were wrong."""
    model = residual()
    ranges = {name: (low / 8, high / 8) for name, (low, high) in ranges_of(model, batch).items()}
    wanted, found = run(model, batch)[1], run(quantise(model, ranges), batch)[1]
    assert np.linalg.norm(found - wanted) > 0.3 * np.linalg.norm(wanted)


def test_the_rest_of_an_int8_model_is_float16_its_scales_included(batch):
    model, islands = convert_to_fp16(placed(residual, batch))
    assert islands == {}
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    scales = {types[name] for name in types if name.endswith(("_scale", "_scale_fp16"))}
    assert scales == {TensorProto.FLOAT16}
    assert {types[node.input[2]] for node in operators(model, "Conv")} == {TensorProto.FLOAT16}


def test_the_cpu_placement_has_quantised_bias(batch):
    model = residual()
    constants = {
        t.name: t.data_type for t in quantise_for_cpu(model, ranges_of(model, batch)).graph.initializer
    }
    assert TensorProto.INT32 in constants.values()


def test_equal_weights_under_an_alias_are_quantised_too(batch):
    """Exporters that store equal weights once name the others by Identity."""
    model = residual()
    (a1,) = [node for node in model.graph.node if node.name == "n_a1"]
    alias = onnx.helper.make_node("Identity", [a1.input[1]], ["again"], name="n_alias")
    next(node for node in model.graph.node if node.name == "n_a2").input[1] = "again"
    model.graph.node.insert(0, alias)
    quantised = quantise(model, ranges_of(model, batch))
    made_by = producers(quantised)
    assert all(made_by[conv.input[1]].op_type == "DequantizeLinear" for conv in operators(quantised, "Conv"))


@given(st.floats(1e-12, 1e6), st.floats(0, 1))
def test_a_scale_covers_the_range_and_is_exact_in_float16(high, share):
    scale = activation_scale(-high * share, high)
    assert scale == np.float32(np.float16(scale))
    assert 127 * float(scale) >= np.float32(high) * (1 - 1e-6)


def test_a_scale_of_nothing_is_one():
    assert activation_scale(0.0, 0.0) == 1


@pytest.mark.parametrize("size", [1e-6, 1e-3, 1.0, 1e3])
def test_weights_come_back_within_half_a_step(rng, size):
    weights = rng.normal(0, size, (5, 3, 3, 3)).astype(np.float32)
    weights[2] = 0
    levels, scales = quantise_weights(weights)
    assert scales.dtype == np.float32
    assert scales[2] == 1
    steps = scales.reshape(-1, 1, 1, 1)
    assert (np.abs(levels * steps - weights) <= steps * 0.5001).all()


@pytest.mark.parametrize(
    ("machine", "flags", "exact"),
    [
        ("x86_64", "fma avx2", False),
        ("x86_64", "avx2 avx_vnni", True),
        ("x86_64", "avx512_vnni", True),
        ("aarch64", "", True),
    ],
)
def test_which_cpus_sum_8_bit_products_exactly(monkeypatch, tmp_path, machine, flags, exact):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    monkeypatch.setattr(cpu, "_CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(cpu.platform, "machine", lambda: machine)
    assert sums_int8_exactly() == exact


def test_narrow_weights_have_seven_bits(batch):
    model = quantise_for_cpu(residual(), ranges_of(residual(), batch), narrow_weights=True)
    weights = [
        onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.name.endswith("_w_quantized")
    ]
    assert weights
    assert max(int(np.abs(w.astype(int)).max()) for w in weights) == 64
