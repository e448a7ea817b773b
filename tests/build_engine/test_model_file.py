"""Models that no engine can be built of: each is refused with what to do, before any work."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edge_ssd.build_engine.graph import Graph
from edge_ssd.build_engine.int8 import quantise
from edge_ssd.build_engine.model_file import load_model
from tests.build_engine.graphs import Net, residual, save, small_spec


def odd(operator, domain=""):
    """A network with one node of an operator behind its heads."""
    net = Net()
    net.heads(net.relu(net.conv("image", 3, 8, "stem", stride=4)), 8)
    net.nodes.append(helper.make_node(operator, ["conf"], ["odd"], name="n_odd", domain=domain))
    model = net.model()
    if domain:
        model.opset_import.append(helper.make_opsetid(domain, 1))
    return model


def test_a_good_model_is_taken(tmp_path):
    model = load_model(save(tmp_path, residual()))
    assert (model.spec, model.batch) == (small_spec(), 0)
    assert load_model(save(tmp_path, residual(shape=(2, 3, 100, 100)))).batch == 2


@pytest.mark.parametrize("opset", [13, 17, 18, 20])
def test_old_and_new_opsets_are_taken(tmp_path, opset):
    assert load_model(save(tmp_path, residual(opset=opset))).batch == 0


def test_weights_listed_as_inputs_are_no_inputs(tmp_path):
    model = residual()
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    assert [entry.name for entry in Graph(load_model(save(tmp_path, model)).proto).model.graph.input] == [
        "image"
    ]


@pytest.mark.parametrize("domain", ["", "com.example"])
def test_an_unknown_operator_is_named_with_its_node(tmp_path, domain):
    with pytest.raises(ValueError, match=r"unknown operator Frobnicate \(node 'n_odd'\)"):
        load_model(save(tmp_path, odd("Frobnicate", domain)))


@pytest.mark.parametrize(
    ("operator", "domain"), [("NonMaxSuppression", ""), ("EfficientNMS_TRT", "trt"), ("BatchedNMS", "x")]
)
def test_nms_inside_says_how_to_export_raw_heads(tmp_path, operator, domain):
    with pytest.raises(ValueError, match=rf"holds NMS: {operator} \(node 'n_odd'\).*Export the raw heads"):
        load_model(save(tmp_path, odd(operator, domain)))


def test_a_quantised_model_is_refused(tmp_path):
    model = residual()
    quantised = quantise(model, dict.fromkeys(Graph(model).activations(), (-4.0, 4.0)))
    with pytest.raises(ValueError, match="is quantised already: QuantizeLinear"):
        load_model(save(tmp_path, quantised))


def test_a_float16_model_is_refused(tmp_path):
    model = residual()
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(1, np.float16), "half"))
    with pytest.raises(ValueError, match=r"holds float16 weights already \('half'\)"):
        load_model(save(tmp_path, model))


def test_open_image_sizes_are_refused_with_the_sizes_to_fix(tmp_path):
    with pytest.raises(ValueError, match=r"leaves its height and width open.*--input_shape 1,3,100,100"):
        load_model(save(tmp_path, residual(shape=("b", 3, "h", "w"))))


def test_a_branch_is_refused(tmp_path):
    model = residual()
    body = helper.make_graph(
        [helper.make_node("Identity", ["conf"], ["inner"])],
        "body",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)],
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "always"))
    model.graph.node.append(
        helper.make_node("If", ["always"], ["odd"], name="n_if", then_branch=body, else_branch=body)
    )
    with pytest.raises(ValueError, match=r"holds a branch or a loop: If \(node 'n_if'\)"):
        load_model(save(tmp_path, model))


def test_another_number_of_classes_than_the_specs(tmp_path):
    spec = small_spec(class_names=("cat", "dog", "owl"))
    with pytest.raises(ValueError, match="3 class_names"):
        load_model(save(tmp_path, residual(), spec))


def test_a_model_without_a_spec(tmp_path):
    path = save(tmp_path, residual())
    path.with_suffix(".json").unlink()
    with pytest.raises(FileNotFoundError, match="edge-ssd spec"):
        load_model(path)


@pytest.mark.parametrize(("name", "data"), [("x.onnx", b"no model"), ("x.onnx", b""), ("x.txt", b"")])
def test_what_is_no_model(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=name):
        load_model(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="no such model file"):
        load_model(tmp_path / "none.onnx")
