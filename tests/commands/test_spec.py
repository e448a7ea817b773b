"""`edge-ssd spec`: a draft from what the model tells, and one line about what it cannot tell."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_ssd import Detector, SsdSpec
from edge_ssd.cli import main
from edge_ssd.priors import ssdlite_levels
from edge_ssd.spec import OutputSpec, PriorSpec
from tests.onnx_graphs import add_extra_output, add_scalar_output, save_planted_model
from tests.specs import grid_spec

# Of a 100 x 100 input, one square of 20 pixels in each of 5 x 5 cells.
LEVELS = ("--levels", "20:20")


def _model(folder, conf, spec=None, **options):
    conf = np.asarray(conf, np.float32)
    return save_planted_model(
        folder, np.zeros((len(conf), 4)), conf, spec or grid_spec(5, 5), with_spec=False, **options
    )


def _background_wins(columns, index, count=25):
    conf = np.zeros((count, columns), np.float32)
    conf[:, index] = 5
    return conf


def _draft(path, *options):
    assert main(["spec", str(path), *LEVELS, *options]) == 0
    return SsdSpec.load(path.with_suffix(".json"))


def _refused(capsys, path, *options):
    capsys.readouterr()
    assert main(["spec", str(path), *options]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert printed.count("\n") == 1
    return printed


@pytest.mark.parametrize("column", [0, 2])
def test_the_column_that_wins_on_noise_is_background(tmp_path, column):
    path = _model(tmp_path, _background_wins(3, column))
    spec = _draft(path, "--classes", "cat,dog")
    assert spec.background_index == column
    assert spec.score_activation == "softmax"
    assert len(Detector.load(path).detect(np.zeros((10, 10, 3), np.uint8))) == 0


def test_probabilities_are_recognised(tmp_path):
    path = _model(tmp_path, np.full((25, 3), 1 / 3, np.float32))
    assert _draft(path, "--classes", "cat,dog").score_activation == "none"


def test_as_many_names_as_columns_mean_no_background(tmp_path):
    path = _model(
        tmp_path, _background_wins(3, 0), grid_spec(5, 5, background_index=None, class_names=tuple("abc"))
    )
    assert _draft(path, "--classes", "a,b,c").background_index is None
    path.with_suffix(".json").unlink()
    assert _draft(path, "--background", "-1").class_names == ("class 1", "class 2", "class 3")


def test_what_the_model_cannot_know_comes_from_the_options(tmp_path):
    path = _model(tmp_path, _background_wins(3, 0))
    options = (
        "--color bgr --mean 104 117 123 --std 1 --resize letterbox --loc-order cycxhw --iou-threshold 0.3"
    )
    spec = _draft(path, *options.split())
    assert spec.input.mean == (104, 117, 123)
    assert spec.input.std == (1, 1, 1)
    assert (spec.input.color, spec.input.resize, spec.loc_order) == ("bgr", "letterbox", "cycxhw")
    assert spec.postprocess.iou_threshold == 0.3


def test_cells_are_spread_evenly_unless_a_step_apart_is_asked_for(tmp_path):
    # A step of 40 makes three cells of a side of 100.
    path = _model(tmp_path, _background_wins(3, 0, count=18))
    assert main(["spec", str(path), "--levels", "40:30,20x50"]) == 0
    (level,) = SsdSpec.load(path.with_suffix(".json")).priors.levels
    assert level.feature_size == (3, 3)
    assert np.allclose(level.step, 100 / 3)
    assert level.sizes == ((30, 30), (20, 50))
    assert main(["spec", str(path), "--levels", "40:30,20x50", "--cell-spacing", "step", "--force"]) == 0
    assert SsdSpec.load(path.with_suffix(".json")).priors.levels[0].step == (40, 40)


def test_the_number_of_priors_gives_a_known_layout_away(tmp_path):
    spec = grid_spec(5, 5, height=320, width=320)
    path = _model(tmp_path, _background_wins(3, 0, count=3234), spec)
    assert main(["spec", str(path)]) == 0
    assert SsdSpec.load(path.with_suffix(".json")).priors == PriorSpec(levels=ssdlite_levels())


def test_priors_from_a_file(tmp_path):
    path = _model(tmp_path, _background_wins(3, 0))
    np.save(tmp_path / "p.npy", np.full((25, 4), 0.5, np.float32))
    assert main(["spec", str(path), "--priors-file", "p.npy"]) == 0
    assert SsdSpec.load(path.with_suffix(".json")).priors.file == "p.npy"


def test_four_columns_need_the_names_of_the_outputs(tmp_path, capsys):
    path = _model(tmp_path, _background_wins(4, 0), grid_spec(5, 5, class_names=tuple("abc")))
    assert "Give --loc and --conf; the model has loc (1, 25, 4), conf (1, 25, 4)" in _refused(
        capsys, path, *LEVELS
    )
    assert _draft(path, "--loc", "loc", "--conf", "conf").outputs == OutputSpec("loc", "conf")


def test_further_outputs_need_the_name_of_conf(tmp_path, capsys):
    path = _model(tmp_path, _background_wins(3, 0))
    add_extra_output(path, "extra")
    assert _draft(path).outputs == OutputSpec("loc", "conf")  # (1, 3) cannot be 25 rows
    assert "no output 'nothing'" in _refused(capsys, path, *LEVELS, "--conf", "nothing", "--force")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "25 priors, which is no layout known here"),
        (("--levels", "10:20"), "--levels: 100 priors, the model has 25"),
        (("--levels", "20"), "expected STEP:SIZE"),
        (("--levels", "20:0"), "sizes"),
        (("--levels", "0:4"), "expected STEP:SIZE"),
        ((*LEVELS, "--classes", "a,b,c,d"), "4 names and a background make 5 columns, the model has 3"),
        (("--priors-file", "missing.npy"), "missing.npy: no such file"),
    ],
)
def test_what_is_missing_or_wrong_is_one_line(tmp_path, capsys, options, message):
    assert message in _refused(capsys, _model(tmp_path, _background_wins(3, 0)), *options)


def test_a_column_in_the_middle_that_wins_is_said(tmp_path, capsys):
    path = _model(tmp_path, _background_wins(3, 1))
    assert _draft(path, "--classes", " x , y ").class_names == ("x", "y")
    assert "column 0, as usual, although column 1 wins" in capsys.readouterr().err


def test_outputs_that_cannot_be_heads_are_left_out(tmp_path):
    path = _model(tmp_path, _background_wins(3, 0))
    add_scalar_output(path)
    assert _draft(path).outputs == OutputSpec("loc", "conf")


def test_an_existing_spec_is_not_overwritten(tmp_path, capsys):
    path = _model(tmp_path, _background_wins(3, 0))
    _draft(path)
    assert "--force overwrites it" in _refused(capsys, path, *LEVELS)
    assert _draft(path, "--force", "--classes", "x,y").class_names == ("x", "y")


def test_a_missing_or_broken_model_is_one_line(tmp_path, capsys):
    assert "no such model file" in _refused(capsys, tmp_path / "m.onnx")
    (tmp_path / "m.onnx").write_bytes(b"nothing")
    assert "cannot load this model" in _refused(capsys, tmp_path / "m.onnx")


def _graph(
    folder, loc, conf, names=("loc", "conf"), size=(100, 100), more=None, image=None, kind=TensorProto.FLOAT
):
    """A model that answers every image with these arrays, of whatever shape.

    size: of the input, texts for open sides.   more: further outputs, {name: array}.   image, kind: the input's whole
    shape and type, where they are others.
    """
    outputs = dict(zip(names, (np.asarray(array, np.float32) for array in (loc, conf))))
    outputs.update({name: np.asarray(array, np.float32) for name, array in (more or {}).items()})
    image = image or [1, 3, *size]
    nodes = [helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT)]
    nodes.append(
        helper.make_node("ReduceMean", ["pixels"], ["mean"], axes=list(range(len(image))), keepdims=0)
    )
    nodes.append(helper.make_node("Mul", ["mean", "zero"], ["nothing"]))
    nodes += [helper.make_node("Add", [f"{name}_planted", "nothing"], [name]) for name in outputs]
    constants = [numpy_helper.from_array(array, f"{name}_planted") for name, array in outputs.items()]
    constants.append(numpy_helper.from_array(np.float32(0), "zero"))
    shown = [helper.make_tensor_value_info(n, TensorProto.FLOAT, a.shape) for n, a in outputs.items()]
    inputs = [helper.make_tensor_value_info("image", kind, image)]
    graph = helper.make_graph(nodes, "planted", inputs, shown, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    path = folder / "m.onnx"
    onnx.save(model, path)
    return path


def test_the_name_of_background_is_its_column_and_no_class(tmp_path, capsys):
    path = _model(tmp_path, _background_wins(3, 0))
    for names, index in (("BACKGROUND,a,b", 0), ("a,__background__,b", 1), ("a,b,background", 2)):
        spec = _draft(path, "--classes", names, "--force")
        assert (spec.class_names, spec.background_index) == (("a", "b"), index)
        assert (
            f"column {index}, which is {names.split(',')[index]!r} among the names" in capsys.readouterr().err
        )
    spec = _draft(path, "--classes", "background,a,b,c", "--force")
    assert (spec.class_names, spec.background_index) == (("a", "b", "c"), None)
    assert "the model has no column for it" in capsys.readouterr().err


def test_classes_from_a_file(tmp_path):
    path = _model(tmp_path, _background_wins(3, 0))
    (tmp_path / "labels.txt").write_text("BACKGROUND\ncat, or dog\nman\n")
    spec = _draft(path, "--classes", str(tmp_path / "labels.txt"))
    assert (spec.class_names, spec.background_index) == (("cat, or dog", "man"), 0)


def test_a_known_layout_by_name(tmp_path, capsys):
    spec = grid_spec(5, 5, height=320, width=320)
    path = _model(tmp_path, _background_wins(3, 0, count=3234), spec)
    assert main(["spec", str(path), "--levels", "mmdet"]) == 0
    assert "torchvision" not in capsys.readouterr().err
    levels = SsdSpec.load(path.with_suffix(".json")).priors.levels
    assert [level.sizes[0] for level in levels[:2]] == [(48, 48), (100, 100)]
    assert main(["spec", str(path), "--force"]) == 0
    assert "MMDetection's SSDLite (48/100/150/202/253/304) has as many" in capsys.readouterr().err
    assert "2034 at 320x320" in _refused(capsys, path, "--levels", "tf", "--force")


def test_every_assumption_is_said_with_its_option(tmp_path, capsys):
    path = _model(tmp_path, _background_wins(3, 0))
    _draft(path)
    said = capsys.readouterr().err
    for option in ("--classes", "--color", "--mean", "--resize", "--loc-order", "--variance", "--activation"):
        assert option in said
    given = "--color rgb --mean 0 --std 1 --resize stretch --loc-order cxcywh --variance 0.1 0.2"
    _draft(path, "--force", *given.split())
    said = capsys.readouterr().err
    for option in ("--color", "--mean", "--resize", "--loc-order", "--variance"):
        assert option not in said


def test_heads_without_a_batch_axis_are_named(tmp_path, capsys):
    conf = _background_wins(3, 0)
    assert "'loc': (25, 4) has no batch axis" in _refused(
        capsys, _graph(tmp_path, np.zeros((25, 4)), conf), *LEVELS
    )
    path = _graph(tmp_path, np.zeros((1, 25, 4)), conf)
    assert "'conf': (25, 3) has no batch axis" in _refused(capsys, path, *LEVELS)


def test_a_free_height_and_width_need_the_size(tmp_path, capsys):
    path = _graph(tmp_path, np.zeros((1, 25, 4)), _background_wins(3, 0)[None], size=("h", "w"))
    assert "leaves height and width open; say them with --size HxW" in _refused(capsys, path, *LEVELS)
    assert _draft(path, "--size", "100x90").input.size == (100, 90)
    path = _graph(tmp_path, np.zeros((1, 25, 4)), _background_wins(3, 0)[None])
    assert "--size: 90x100, " in _refused(capsys, path, *LEVELS, "--size", "90x100", "--force")


def _corners(seed=1, count=25):
    boxes = np.random.default_rng(seed).uniform(0, 0.5, (count, 4)).astype(np.float32)
    boxes[:, 2:] += 0.5
    return boxes


def test_a_size_beyond_any_input_is_refused(tmp_path, capsys):
    path = _graph(tmp_path, np.zeros((1, 25, 4)), _background_wins(3, 0)[None], size=("h", "w"))
    assert "--size: expected at most 16777216 pixels" in _refused(
        capsys, path, *LEVELS, "--size", "99999x99999"
    )


def test_finished_boxes_are_not_decoded_a_second_time(tmp_path, capsys):
    boxes, conf = _corners(), np.tile(np.float32([0.8, 0.1, 0.1]), (25, 1))
    conf[3] = (0.05, 0.9, 0.05)
    path = _graph(tmp_path, boxes[None], conf[None])
    spec = _draft(path, "--classes", "cat,dog", "--background", "0")
    assert (spec.box_coding, spec.priors) == ("corners", PriorSpec())
    said = capsys.readouterr().err
    assert "'loc' holds finished boxes, x1 < x2 and y1 < y2 for each of 25" in said
    assert "where the model gives y first" in said
    assert "the given ones are left out" in said
    assert "--variance" not in said
    detections = Detector.load(path).detect(np.zeros((100, 200, 3), np.uint8))
    np.testing.assert_allclose(detections.boxes, [boxes[3] * (200, 100, 200, 100)], atol=1e-3)
    assert detections.labels.tolist() == [0]
    assert _draft(path, "--force", "--box-coding", "center_size").priors.levels
    boxes[7, 2] = boxes[7, 0]  # one that is none, and they are offsets
    assert _draft(_graph(tmp_path, boxes[None], conf[None]), "--force").priors.levels


def test_finished_boxes_in_pixels_are_refused(tmp_path, capsys):
    path = _graph(tmp_path, _corners()[None] * 100, np.full((1, 25, 3), 1 / 3))
    assert "in pixels. Divide them by the input's width and height" in _refused(capsys, path)


def _detected(path):
    detections = Detector.load(path).detect(np.zeros((100, 100, 3), np.uint8))
    return sorted(
        (*box.round(3).tolist(), label) for box, label in zip(detections.boxes, detections.labels.tolist())
    )


def _random_heads(count, columns=3):
    generator = np.random.default_rng(5)
    conf = generator.normal(0, 0.1, (count, columns)).astype(np.float32)
    conf[:, 0] = 5
    conf[[2, 7], [1, 2]] = 12
    return generator.normal(0, 0.5, (count, 4)).astype(np.float32), conf


def _drafted(path):
    _draft(path)
    return _detected(path)


def test_transposed_heads_give_the_same_detections(tmp_path):
    loc, conf = _random_heads(25)
    path = _graph(tmp_path, loc[None], conf[None])
    expected = _drafted(path)
    assert len(expected) == 2
    path = _graph(tmp_path, loc.T[None], conf.T[None])
    spec = _draft(path, "--force")
    assert (spec.loc_layout, spec.conf_layout) == ("column_prior", "column_prior")
    assert _detected(path) == expected
    path = _graph(tmp_path, loc.T[None], conf[None])
    spec = _draft(path, "--force")
    assert (spec.loc_layout, spec.conf_layout) == ("column_prior", "prior_column")
    assert _detected(path) == expected


def test_one_output_for_each_level_gives_the_same_detections(tmp_path):
    """Levels of 5 x 5 and 2 x 2 cells with two boxes, whose outputs the file lists from the last level on."""
    levels = ("--levels", "20:20,30", "50:50,70")
    loc, conf = _random_heads(58)
    path = _graph(tmp_path, loc[None], conf[None])
    assert main(["spec", str(path), *levels]) == 0
    expected = _detected(path)
    assert len(expected) == 2
    small, large = slice(0, 50), slice(50, 58)
    parts = {"boxes_5": loc[small][None], "scores_5": conf[small][None]}
    path = _graph(tmp_path, loc[large][None], conf[large][None], ("boxes_2", "scores_2"), more=parts)
    assert main(["spec", str(path), *levels, "--force"]) == 0
    outputs = SsdSpec.load(path.with_suffix(".json")).outputs
    assert outputs == OutputSpec(("boxes_5", "boxes_2"), ("scores_5", "scores_2"))
    assert _detected(path) == expected


def test_feature_maps_as_outputs_give_the_same_detections(tmp_path):
    levels = ("--levels", "20:20,30", "50:50,70")
    loc, conf = _random_heads(58)
    path = _graph(tmp_path, loc[None], conf[None])
    assert main(["spec", str(path), *levels]) == 0
    expected = _detected(path)

    def as_map(array, cells):
        return array.reshape(cells, cells, -1).transpose(2, 0, 1)[
            None
        ]  # (1, boxes * columns, rows, columns of cells)

    parts = {"loc_5": as_map(loc[:50], 5), "cls_5": as_map(conf[:50], 5)}
    path = _graph(tmp_path, as_map(loc[50:], 2), as_map(conf[50:], 2), ("loc_2", "cls_2"), more=parts)
    assert main(["spec", str(path), *levels, "--force"]) == 0
    spec = SsdSpec.load(path.with_suffix(".json"))
    assert spec.outputs == OutputSpec(("loc_5", "loc_2"), ("cls_5", "cls_2"))
    assert (spec.loc_layout, spec.conf_layout) == ("column_prior", "column_prior")
    assert _detected(path) == expected


@pytest.mark.parametrize(
    ("image", "kind", "layout", "dtype", "batch_axis"),
    [
        ([1, 100, 100, 3], TensorProto.FLOAT, "nhwc", "float", True),
        ([1, 100, 100, 3], TensorProto.UINT8, "nhwc", "uint8", True),
        ([1, 3, 100, 100], TensorProto.UINT8, "nchw", "uint8", True),
        ([3, 100, 100], TensorProto.FLOAT, "nchw", "float", False),
        ([100, 100, 3], TensorProto.UINT8, "nhwc", "uint8", False),
    ],
)
def test_inputs_as_they_come(tmp_path, image, kind, layout, dtype, batch_axis):
    loc, conf = _random_heads(25)
    path = _graph(tmp_path, loc[None], conf[None])
    expected = _drafted(path)
    heads = (loc[None], conf[None]) if batch_axis else (loc, conf)
    path = _graph(tmp_path, *heads, image=image, kind=kind)
    spec = _draft(path, "--force")
    assert (spec.input.layout, spec.input.dtype, spec.input.batch_axis) == (layout, dtype, batch_axis)
    if dtype == "uint8":
        assert (spec.input.mean, spec.input.std) == ((0, 0, 0), (1, 1, 1))
    assert _detected(path) == expected


def test_a_frameworks_file_and_options_before_it(tmp_path, capsys):
    path = _model(tmp_path, _background_wins(3, 0, count=16), grid_spec(4, 4, height=64, width=64))
    (tmp_path / "pipeline.config").write_text(
        "model { ssd { image_resizer { fixed_shape_resizer { height: 64 width: 64 } }"
        " anchor_generator { ssd_anchor_generator { num_layers: 1 min_scale: 0.5 aspect_ratios: 1"
        " interpolated_scale_aspect_ratio: 0 reduce_boxes_in_lowest_layer: false } } } }"
    )
    source = ("--from", str(tmp_path / "pipeline.config"), "--classes", "cat,dog")
    assert main(["spec", str(path), *source, "--activation", "sigmoid", "--iou-threshold", "0.3"]) == 0
    spec = SsdSpec.load(path.with_suffix(".json"))
    (level,) = spec.priors.levels
    assert (level.feature_size, level.sizes) == ((4, 4), ((32, 32),))
    assert (spec.loc_order, spec.score_activation, spec.postprocess.iou_threshold) == (
        "cycxhw",
        "sigmoid",
        0.3,
    )
    assert "--loc-order" not in capsys.readouterr().err
    text = (tmp_path / "pipeline.config").read_text().replace("num_layers: 1", "num_layers: 2")
    (tmp_path / "pipeline.config").write_text(text)
    assert "--from: 20 priors, the model has 16" in _refused(capsys, path, *source, "--force")
    assert "no such file for --from" in _refused(capsys, path, "--from", "nowhere.config", "--force")


def _add_nms(path):
    """Ends a model of heads loc (1, P, 4) and conf (1, C, P) in a suppression and what it keeps."""
    model = onnx.load(path)
    constants = {"most": np.int64([9]), "iou": np.float32([0.5]), "least": np.float32([0.5])}
    for name, array in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    model.graph.node.append(
        helper.make_node("NonMaxSuppression", ["loc", "conf", *constants], ["kept"], name="the nms")
    )
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("kept", TensorProto.INT64, None))
    onnx.save(model, path)


def test_nms_inside_is_cut_off_into_another_model(tmp_path, capsys):
    boxes, conf = _corners(), np.tile(np.float32([0.1, 0.1]), (25, 1))
    conf[3] = (0.2, 0.9)
    path = _graph(tmp_path, boxes[None], conf.T[None])
    _add_nms(path)
    assert "or cut it off: --out OTHER.json" in _refused(capsys, path)
    options = ("--out", str(tmp_path / "cut.json"), "--classes", "cat,dog", "--background", "-1")
    assert main(["spec", str(path), *options]) == 0
    assert "the model without the nms" in capsys.readouterr().err
    spec = SsdSpec.load(tmp_path / "cut.json")
    assert (spec.box_coding, spec.conf_layout) == ("corners", "column_prior")
    detections = Detector.load(tmp_path / "cut.onnx").detect(np.zeros((100, 200, 3), np.uint8))
    np.testing.assert_allclose(detections.boxes, [boxes[3] * (200, 100, 200, 100)], atol=1e-3)
    assert detections.labels.tolist() == [1]
    (tmp_path / "cut.json").unlink()
    assert "cut.onnx: there is a model already" in _refused(capsys, path, *options)
    (tmp_path / "cut.onnx").unlink()
    assert "--classes: 3 names" in _refused(capsys, path, *options, "--classes", "a,b,c")
    assert not (tmp_path / "cut.onnx").exists()
