"""What the CPU engines refuse in a model file before any of them sees it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edge_ssd import Detector, cli
from edge_ssd.bench.candidates import candidates_of
from edge_ssd.engines import onnxruntime_engine
from edge_ssd.model_files.onnx_file import refuse_memory_addresses
from tests.planted import save_cat_model

ADDRESS = "*/_ORT_MEM_ADDR_/*"


def in_memory(tensor):
    """Says of a TensorProto that its values lie at an address of the process."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    del tensor.external_data[:]
    for key, value in (("location", ADDRESS), ("offset", str(0x7F0000001000)), ("length", "64")):
        tensor.external_data.add(key=key, value=value)


def initializer(graph):
    in_memory(next(one for one in graph.initializer if one.data_type == TensorProto.FLOAT))


def constant_node(graph):
    tensor = helper.make_tensor(
        "unused", TensorProto.FLOAT, [16], np.zeros(16, np.float32).tobytes(), raw=True
    )
    in_memory(tensor)
    graph.node.append(helper.make_node("Constant", [], ["unused"], value=tensor))


def branch(graph):
    inner = helper.make_graph([], "then", [], [])
    constant_node(inner)
    graph.node.append(helper.make_node("If", ["condition"], ["x"], then_branch=inner, else_branch=inner))


@pytest.fixture(params=[initializer, constant_node, branch])
def model(request, tmp_path):
    path = save_cat_model(tmp_path)
    proto = onnx.load(path)
    request.param(proto.graph)
    path.write_bytes(proto.SerializeToString())
    return path


SAID = r"cat\.onnx: has weights at an address in memory \(_ORT_MEM_ADDR_\) .*; refused"


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_weights_at_an_address_in_memory_are_refused_before_an_engine_sees_them(model, engine, monkeypatch):
    if engine == "openvino":
        module = pytest.importorskip("edge_ssd.engines.openvino_engine", exc_type=ImportError)
        monkeypatch.setattr(module, "FrontEndManager", lambda: pytest.fail("OpenVINO reads it"))
    monkeypatch.setattr(onnxruntime_engine, "new_session", lambda *_: pytest.fail("ONNX Runtime reads it"))
    with pytest.raises(ValueError, match=SAID):
        Detector.load(model, engine=engine, precision="fp32")


@pytest.mark.parametrize(
    "command",
    [
        ["spec", "{}", "--classes", "cat,dog", "--force"],
        ["verify", "{}"],
        ["build", "{}", "--precision", "fp16", "--runtime", "cpu"],
    ],
)
def test_every_command_refuses_them(model, command, capfd):
    assert cli.main([part.format(model) for part in command]) == 1
    error = capfd.readouterr().err
    assert "has weights at an address in memory" in error
    assert error.count("\n") == 1


def test_peers_do_not_see_them_either(model):
    with pytest.raises(ValueError, match=SAID):
        candidates_of(model)


def test_any_other_file_is_let_through(tmp_path):
    refuse_memory_addresses(save_cat_model(tmp_path))
    (tmp_path / "empty.onnx").touch()
    refuse_memory_addresses(tmp_path / "empty.onnx")
