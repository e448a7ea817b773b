"""ONNX files and specs that crashed engines, hung them, took gigabytes or got tracebacks, through the command line."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_ssd.models import DEMO_MODEL
from tests.hostile.broken_onnx import node_of, save, set_constant, small_ssd
from tests.hostile.command_line import assert_refused, edge_ssd

RUN = ("run", "--source", "demo://?frames=1&size=64x64", "--output", "null", "--model", "m.onnx")


@pytest.fixture
def folder(tmp_path):
    """Where the command runs; the list of known models lies beside it."""
    made = tmp_path / "here"
    made.mkdir()
    return made


def ended(folder, *arguments, **environment):
    """How a command ended, in a folder where it must leave nothing."""
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    result = edge_ssd(*arguments, cwd=folder, EDGE_SSD_CACHE=str(folder.parent / "cache"), **environment)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    return result


def reshape_to_nothing(model):
    set_constant(model, "loc_shape", np.array([0, 0, 0]))


def conv_without_weights(model):
    model.opset_import[0].version = 99
    del node_of(model, "a").input[0]


def endless_opset(model):
    model.opset_import[0].version = 1 << 40


def tile_without_repeats(model):
    node_of(model, "b").op_type = "Tile"


def missing_constant(model):
    next(t for t in model.graph.initializer if t.name == "loc_shape").name = "other"


def bad_type(model):
    model.graph.initializer[0].data_type = -1


def untyped_input(model):
    model.graph.input.add(name="extra")


def no_operator(model):
    node_of(model, "loc_map").op_type = ""
    del node_of(model, "loc_map").output[:]


def gigabytes(model):
    """A shape that is computed: nothing in the file is large."""
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 1, 2000, 2000]), "times"))
    model.graph.node.insert(2, helper.make_node("Tile", ["b", "times"], ["many"]))
    node_of(model, "loc_map").input[0] = "many"
    model.graph.output[0].type.tensor_type.ClearField("shape")


def endless_loop(model):
    """2^62 times, of which none is cut short."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Sin", ["x"], ["y"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
        ],
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(1 << 62), "times"))
    model.graph.node.insert(1, helper.make_node("Loop", ["times", "", "a"], ["a_late"], body=body))
    node_of(model, "b").input[0] = "a_late"


@pytest.mark.parametrize(
    ("engine", "change", "reason"),
    [
        ("openvino", reshape_to_nothing, "its shapes contradict each other"),
        ("onnxruntime", reshape_to_nothing, "cannot be reshaped to the requested shape"),
        (
            "openvino",
            conv_without_weights,
            "cannot load this model (Conv (node 'a') has 1 inputs, expected 2 to 3)",
        ),
        ("onnxruntime", conv_without_weights, "cannot load this model (Conv (node 'a') has 1 inputs"),
        ("openvino", endless_opset, "(opset: expected 1 to 255, got 1099511627776)"),
        ("openvino", untyped_input, "(input 'extra' has no type)"),
        ("onnxruntime", gigabytes, "ONNX Runtime needs more than 0.6 GB for this model"),
        ("openvino", gigabytes, "OpenVINO needs more than 0.6 GB for this model"),
    ],
)
def test_run(folder, engine, change, reason):
    if engine == "openvino":
        pytest.importorskip("openvino")
    model = small_ssd()
    change(model)
    save(folder, model)
    assert_refused(ended(folder, *RUN, "--engine", engine), "m.onnx: ", reason)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_network_that_never_ends(folder, engine):
    if engine == "openvino":
        pytest.importorskip("openvino")
    model = small_ssd()
    endless_loop(model)
    save(folder, model)
    result = ended(folder, *RUN, "--engine", engine, EDGE_SSD_LOAD_SECONDS="1.5")
    assert_refused(
        result, "m.onnx: ", "has not opened this model after 1.5 s; refused", "EDGE_SSD_LOAD_SECONDS=9"
    )


@pytest.mark.parametrize("command", [("inspect", "m.onnx"), ("build", "m.onnx", "--runtime", "cpu")])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (tile_without_repeats, "Tile (node 'b') has 1 inputs, expected 2"),
        (missing_constant, "Reshape (node 'loc') needs 'loc_shape', which nothing in the model makes"),
        (bad_type, "tensor 'w' has no data type that there is (-1)"),
        (no_operator, "a node has no operator"),
    ],
)
def test_inspect_and_build(folder, command, change, reason):
    model = small_ssd()
    change(model)
    save(folder, model)
    assert_refused(ended(folder, *command), f"m.onnx: not a whole ONNX model ({reason}")


@pytest.mark.parametrize(
    "command",
    [
        ("spec", "m.onnx", "--out", "other.json"),
        ("verify", "m.onnx"),
        ("bench", "--model", "m.onnx", "--out", "bench"),
        ("eval", "--model", "m.onnx", "--data", "demo://?frames=1"),
    ],
)
def test_every_other_command_that_opens_a_model(folder, command):
    model = small_ssd()
    conv_without_weights(model)
    save(folder, model)
    assert_refused(ended(folder, *command), "m.onnx: ", "Conv (node 'a') has 1 inputs, expected 2 to 3")


def with_weights_in(name):
    """`small_ssd` with its first weights in another file."""
    model = small_ssd()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=name)
    return model


def test_weights_that_are_a_secret(folder):
    (folder.parent / "secret").write_bytes(bytes(864))
    (folder / "w.bin").symlink_to("../secret")
    model = with_weights_in("w.bin")
    save(folder, model)
    assert_refused(
        ended(folder, *RUN), "m.onnx: ", "has weights in 'w.bin', a link that leaves the model's folder"
    )


def test_weights_that_are_a_pipe(folder):
    os.mkfifo(folder / "w.bin")
    model = with_weights_in("w.bin")
    save(folder, model)
    assert_refused(ended(folder, *RUN), "m.onnx: ", "has weights in 'w.bin', which is no regular file")


class TestSpecs:
    """Of the shipped model, whose engine is not to blame."""

    @pytest.fixture
    def spec(self, folder):
        shutil.copyfile(DEMO_MODEL, folder / "m.onnx")
        return json.loads(DEMO_MODEL.with_suffix(".json").read_text())

    @pytest.mark.parametrize(
        ("keys", "value", "reason"),
        [
            (
                ("priors", "levels", 0, "feature_size"),
                [40000, 1000],
                "priors.levels: expected at most 1000000 priors",
            ),
            (
                ("priors", "levels", 0, "feature_size"),
                [10**400, 1],
                "priors.levels: expected at most 1000000 priors",
            ),
            (
                ("priors", "levels", 0, "sizes"),
                [[1, 1]] * 200_000,
                "priors.levels: expected at most 1000000 priors",
            ),
            (
                ("input", "height"),
                10**9,
                "input.height: expected at most 16777216 pixels, got 1000000000 x 320",
            ),
            (("input", "height"), 16384, "the spec says (B, 3, 16384, 320)"),
            (
                ("postprocess", "max_detections"),
                10**10,
                "postprocess.max_detections: expected at most 1000000",
            ),
            (("class_names",), ["a"] * 100_001, "class_names: expected at most 100000 classes, got 100001"),
            (("input", "mean"), [10**400, 0, 0], "input.mean[0]: expected a finite number, got 1000"),
            (("name",), "x" * (16 << 20), "m.json: has 16"),
            (("name",), "\ud800", "name: expected a text"),
            (("priors", "levels", 0, "step"), [1e308, 1e308], "priors: hold numbers beyond what float32 has"),
        ],
    )
    def test_that_cost_memory(self, folder, spec, keys, value, reason):
        target = spec
        for key in keys[:-1]:
            target = target[key]
        target[keys[-1]] = value
        (folder / "m.json").write_text(json.dumps(spec))
        assert_refused(ended(folder, *RUN), "m.", reason)

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ('{"format": ' + "[" * 200_000, "nested too deeply"),
            ('{"format": ' + "[" * 900 + "]" * 900 + "}", "format: expected"),
            ('{"format": ' + "9" * 5_000_000 + "}", "a number of 5000000 digits"),
            ('{"format": "edge_ssd/1", "' + "k" * 1_000_000 + '": 1}', "kkk...: unknown key"),
        ],
    )
    def test_that_are_no_json_that_python_can_hold(self, folder, spec, text, reason):
        (folder / "m.json").write_text(text)
        result = ended(folder, *RUN)
        assert_refused(result, "m.json: ", reason)
        assert len(result.err) < 1000
