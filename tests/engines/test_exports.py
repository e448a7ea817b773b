"""Exports as they come: other layouts of the input, no batch axis, and one output for each level."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_ssd import Detector
from edge_ssd.spec import OutputSpec, PriorSpec
from tests.specs import example_spec, grid_spec

onnx = pytest.importorskip("onnx")
BOX = np.array([[0.25, 0.25, 0.75, 0.75]], np.float32)
IMAGE = np.full((20, 20, 3), (51, 102, 204), np.uint8)  # blue, green, red: scores 0.2, 0.4, 0.8


@pytest.fixture(params=["onnxruntime", "openvino"])
def engine(request):
    pytest.importorskip(request.param)
    return request.param


def colors_spec(**changes):
    """Of what `save_mean_colors` writes; `changes` as of `example_spec`."""
    return example_spec(
        height=10,
        width=16,
        mean=(0, 0, 0),
        box_coding="corners",
        priors=PriorSpec(),
        class_names=("red", "green", "blue"),
        background_index=None,
        score_activation="none",
        **changes,
    )


def save_mean_colors(folder, spec, free_size=False):
    """A model with one box, whose three scores are the mean of each channel / 255."""
    height, width = ("height", "width") if free_size else spec.input.size
    shape = [height, width, 3] if spec.input.layout == "nhwc" else [3, height, width]
    lead = ["batch"] if spec.input.batch_axis else []
    channel = shape.index(3) + len(lead)
    axes = [i for i in range(len(lead), 3 + len(lead)) if i != channel]
    kind = TensorProto.UINT8 if spec.input.dtype == "uint8" else TensorProto.FLOAT
    constants = {
        "level": np.float32(255),
        "axis": np.array([len(lead)]),
        "none": np.zeros((3, 4), np.float32),
        "box": BOX,
    }
    nodes = [
        helper.make_node("Cast", [spec.input.name], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float"], ["mean"], axes=axes, keepdims=0),
        helper.make_node("Div", ["mean", "level"], ["scaled"]),
        helper.make_node("Unsqueeze", ["scaled", "axis"], ["conf"]),
        helper.make_node("MatMul", ["conf", "none"], ["zeros"]),
        helper.make_node("Add", ["zeros", "box"], ["loc"]),
    ]
    graph = helper.make_graph(
        nodes,
        "colors",
        [helper.make_tensor_value_info(spec.input.name, kind, [*lead, *shape])],
        [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, [*lead, 1, c])
            for n, c in (("loc", 4), ("conf", 3))
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    path = folder / f"{spec.name}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    spec.save(path.with_suffix(".json"))
    return path


@pytest.mark.parametrize(
    "changes",
    [
        dict(layout="nhwc"),
        dict(layout="nhwc", dtype="uint8"),
        dict(dtype="uint8"),
        dict(batch_axis=False),
        dict(batch_axis=False, layout="nhwc", dtype="uint8"),
        dict(free_size=True),
    ],
)
def test_an_input_of_another_layout(tmp_path, engine, changes):
    free_size = changes.pop("free_size", False)
    spec = colors_spec(**changes)
    detector = Detector.load(save_mean_colors(tmp_path, spec, free_size), 0.01, engine=engine)
    for _ in range(2):
        found = detector.detect(IMAGE)
        assert found.labels.tolist() == [0, 1, 2]
        assert found.scores == pytest.approx([0.8, 0.4, 0.2], abs=1e-4)
        assert found.boxes[0].tolist() == [5, 5, 15, 15]


@pytest.mark.parametrize("layout", ["prior_column", "column_prior"])
def test_outputs_of_levels_are_joined_in_order(layout, rng):
    from edge_ssd.backends.heads import arrange_heads
    from edge_ssd.engines.onnx_model import heads_of

    outputs = OutputSpec(("a", "b"), "conf")
    spec = grid_spec(1, 2, outputs=outputs, loc_layout=layout)
    loc = [rng.random((2, 2, 3, 8), np.float32), rng.random((2, 1, 1, 12), np.float32)]
    values = [v.transpose(0, 3, 1, 2) if layout == "column_prior" else v for v in loc]
    heads = heads_of([*values, np.zeros((2, 15, 3), np.float32)], spec, 2)
    expected = np.concatenate([v.reshape(2, -1, 4) for v in loc], axis=1)
    assert np.array_equal(arrange_heads(*heads, spec, 15)[0], expected)


@pytest.mark.parametrize("changes", [dict(layout="nhwc", dtype="uint8"), dict(batch_axis=False)])
def test_a_model_from_elsewhere_runs_in_a_process_of_its_own_first(tmp_path, engine, changes, monkeypatch):
    from edge_ssd.engines import opening

    answers, answer = [], opening._answer
    monkeypatch.setattr(opening, "_answer", lambda *given: answers.append(answer(*given)) or answers[-1])
    spec = colors_spec(**changes)
    path = save_mean_colors(tmp_path, spec)
    monkeypatch.setenv("EDGE_SSD_CACHE", str(tmp_path / "cache"))  # nothing is known
    assert len(Detector.load(path, 0.01, engine=engine).detect(IMAGE)) == 3
    assert answers == [True]


def test_a_level_that_is_transposed_is_refused():
    from edge_ssd.engines.onnx_model import heads_of

    spec = grid_spec(1, 2, outputs=OutputSpec(("a", "b"), "conf"))
    values = [np.zeros((1, 4, 8)), np.zeros((1, 8, 4)), np.zeros((1, 16, 3))]
    with pytest.raises(ValueError, match=r"output 'a' is .*see loc_layout"):
        heads_of(values, spec, 1)
