"""Models that no draft may be made of, each refused in one line that says why."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.hostile.command_line import assert_refused, edge_ssd


def _save(folder, nodes, outputs, constants, domain=""):
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 32, 32])]
    shown = [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs]
    arrays = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "planted", inputs, shown, arrays)
    domains = [helper.make_opsetid("", 17)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    model = helper.make_model(graph, opset_imports=domains)
    model.ir_version = 8
    path = folder / "m.onnx"
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("found", [0, 5])
def test_nms_inside_is_named(tmp_path, found):
    boxes = np.tile(np.float32([0, 0, 1, 1]), (1, 5, 1)) + np.arange(5, dtype=np.float32)[None, :, None]
    constants = {
        "boxes": boxes,
        "scores": np.full((1, 1, 5), 0.9 if found else 0.1, np.float32),
        "most": np.int64([100]),
        "iou": np.float32([0.5]),
        "score": np.float32([0.5]),
        "columns": np.int64(2),
    }
    nodes = [
        helper.make_node(
            "NonMaxSuppression", ["boxes", "scores", "most", "iou", "score"], ["kept"], name="the nms"
        ),
        helper.make_node("Gather", ["kept", "columns"], ["index"], axis=1),
        helper.make_node("Gather", ["boxes", "index"], ["bboxes"], axis=1),
    ]
    path = _save(tmp_path, nodes, [("bboxes", TensorProto.FLOAT)], constants)
    ended = edge_ssd("spec", path.name, cwd=tmp_path)
    assert_refused(
        ended, "node 'the nms' (NonMaxSuppression) makes finished detections", "without its post-processing"
    )


def test_plugins_of_tensorrt_are_named(tmp_path):
    node = helper.make_node("EfficientNMS_TRT", ["image"], ["kept"], name="last", domain="TRT")
    path = _save(tmp_path, [node], [("kept", TensorProto.FLOAT)], {}, domain="TRT")
    assert_refused(
        edge_ssd("spec", path.name, cwd=tmp_path), "node 'last' (EfficientNMS_TRT) makes finished detections"
    )


LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"


def test_a_model_that_is_not_there_yet_says_how_to_get_it(tmp_path):
    (tmp_path / "m.onnx").write_bytes(LFS_POINTER)
    ended = edge_ssd("spec", "m.onnx", cwd=tmp_path)
    assert_refused(ended, "it is a Git LFS pointer", "Fetch the file itself: git lfs pull")
    assert "complete" not in ended.err


def test_a_model_that_is_newer_than_the_runtime_says_so(tmp_path):
    path = _save(
        tmp_path, [helper.make_node("Identity", ["image"], ["loc"])], [("loc", TensorProto.FLOAT)], {}
    )
    model = onnx.load(path)
    model.ir_version = 90
    onnx.save(model, path)
    ended = edge_ssd("spec", path.name, cwd=tmp_path)
    assert_refused(
        ended, "it has IR version 90, and this release reads up to", "Upgrade onnxruntime, or save the model"
    )
    assert "::" not in ended.err
    model.ir_version = 8
    model.opset_import[0].version = 200
    onnx.save(model, path)
    ended = edge_ssd("spec", path.name, cwd=tmp_path)
    assert_refused(ended, "it has opset 200, and this release reads up to", "export the model with opset")
    assert "::" not in ended.err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("labels.txt", b"\x1b[31m" * 2_000_000, "bytes, more than the"),
        ("config.py", b"a = [0]\n" + b"a = [a, a]\n" * 50 + b"model = a\n", "at most 100000 values"),
        ("pipeline.config", b"model {" * 100_000, "in each other"),
    ],
)
def test_files_beside_a_model_are_bounded(tmp_path, name, content, message):
    constants = {"zeros": np.zeros((1, 4, 4), np.float32), "more": np.zeros((1, 4, 2), np.float32)}
    nodes = [helper.make_node("Identity", [c], [f"{c}_out"]) for c in constants]
    path = _save(tmp_path, nodes, [(f"{c}_out", TensorProto.FLOAT) for c in constants], constants)
    (tmp_path / name).write_bytes(content)
    option = "--classes" if name == "labels.txt" else "--from"
    assert_refused(edge_ssd("spec", path.name, option, name, cwd=tmp_path), name, message)
