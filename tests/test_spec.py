"""The spec: JSON both ways, and every error names its key."""

from __future__ import annotations

import json
import os
import resource
from dataclasses import replace

import numpy as np
import pytest

from edge_ssd.spec import OutputSpec, PriorLevel, PriorSpec, SsdSpec
from tests.specs import example_spec

DESIGN_EXAMPLE = """
{"format": "edge_ssd/1",
 "name": "ssd300_vgg16",
 "input":  {"name": "image", "height": 300, "width": 300, "color": "rgb", "mean": [123.0, 117.0, 104.0], "std": [1.0, 1.0, 1.0],
            "resize": "stretch", "pad_value": 0},
 "outputs": {"loc": "loc", "conf": "conf"},
 "class_names": ["aeroplane", "bicycle"],
 "background_index": 0,
 "score_activation": "softmax",
 "loc_order": "cxcywh",
 "variance": [0.1, 0.2],
 "priors": {"levels": [{"feature_size": [38, 38], "step": [8, 8], "sizes": [[30, 30], [42.4264, 42.4264]], "offset": 0.5}],
            "clip": false},
 "postprocess": {"score_threshold": 0.01, "iou_threshold": 0.45, "top_k": 400, "max_detections": 200, "clip_boxes": "after_nms"}}
"""  # noqa: E501

FOREIGN = [
    dict(background_index=None),
    dict(background_index=2),
    dict(score_activation="sigmoid"),
    dict(loc_order="cycxhw"),
    dict(resize="letterbox", pad_value=(114, 114, 114)),
    dict(color="bgr", mean=(0.5, 0, 0), std=(57.375, 1, 2)),
    dict(priors=PriorSpec(file="example.priors.npy", clip=True)),
    dict(class_names=("cat", "cat"), clip_boxes="before_nms"),
    dict(box_coding="linear", coding_scale=(128, 96), keypoints=("left eye", "right eye")),
    dict(box_coding="linear", variance=(1, 1)),
    dict(box_coding="corners", priors=PriorSpec()),
    dict(loc_layout="column_prior", conf_layout="column_prior", layout="nhwc", batch_axis=False),
    dict(dtype="uint8", mean=(0, 0, 0), std=(1, 1, 1), resize="letterbox_top_left"),
    dict(outputs=OutputSpec(("loc a", "loc b"), ("conf a", "conf b"))),
    dict(score_threshold={"cat": 0.25, "*": 0.5}),
]


@pytest.mark.parametrize("changes", FOREIGN)
def test_json_round_trip_gives_an_equal_spec(changes):
    spec = example_spec(**changes)
    assert SsdSpec.from_json(spec.to_json()) == spec


def test_the_documented_example_is_read():
    spec = SsdSpec.from_json(DESIGN_EXAMPLE)
    assert spec.input.mean == (123, 117, 104)
    assert spec.priors.levels[0].sizes[1] == (42.4264, 42.4264)
    assert spec.num_columns == 3


def test_optional_keys_have_their_documented_defaults():
    data = json.loads(DESIGN_EXAMPLE)
    del data["input"]["resize"], data["input"]["pad_value"], data["postprocess"]["clip_boxes"]
    del data["priors"]["clip"], data["priors"]["levels"][0]["offset"]
    assert SsdSpec.from_json(json.dumps(data)) == SsdSpec.from_json(DESIGN_EXAMPLE)


def test_keys_at_their_defaults_are_not_written():
    data = json.loads(example_spec().to_json())
    new = {"box_coding", "coding_scale", "keypoints", "loc_layout", "conf_layout"}
    assert not new & set(data)
    assert not {"layout", "dtype", "batch_axis"} & set(data["input"])


def test_whole_boxes_need_neither_priors_nor_a_variance():
    data = json.loads(DESIGN_EXAMPLE)
    del data["priors"], data["variance"]
    data["box_coding"] = "corners"
    spec = SsdSpec.from_json(json.dumps(data))
    assert not spec.priors
    assert not {"priors", "variance"} & set(json.loads(spec.to_json()))


def test_a_class_that_is_not_named_has_the_threshold_of_the_rest():
    assert example_spec(score_threshold={"dog": 0.25, "*": 0.5}).score_thresholds == (0.5, 0.25)
    assert example_spec(score_threshold=0.3).score_thresholds == 0.3


def test_the_scale_of_linear_offsets_is_the_inputs_size_by_default():
    assert example_spec(height=128, width=96, box_coding="linear").linear_scale == (128, 96)
    assert example_spec(box_coding="linear", coding_scale=(64, 32)).linear_scale == (64, 32)


def test_key_points_make_loc_wider():
    assert example_spec(keypoints=("nose", "mouth", "ear")).loc_columns == 10


def test_one_pad_value_stands_for_three():
    assert example_spec(pad_value=114).input.pad_value == (114, 114, 114)


def test_class_names_with_brackets_and_spaces_survive_the_one_line_layout():
    spec = example_spec(class_names=("a  [ b ]", "{c,  d}\n[e]"))
    assert SsdSpec.from_json(spec.to_json()) == spec


def _set(data, path, value):
    *parents, last = path
    for key in parents:
        data = data[key]
    if value is None and last != "background_index":
        del data[last]
    else:
        data[last] = value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("colour",), 1, "colour: unknown key"),
        (("input", "meen"), [1, 2, 3], "input.meen: unknown key"),
        (("priors", "levels", 0, "size"), 1, r"priors.levels\[0\].size: unknown key"),
        (("variance",), None, "variance: missing"),
        (("input", "height"), None, "input.height: missing"),
        (("priors", "levels", 0, "step"), None, r"priors.levels\[0\].step: missing"),
        (("format",), "edge_ssd/2", "format: expected"),
        (("name",), 3, "name: expected a text"),
        (("input",), [], "input: expected an object"),
        (("input", "width"), 300.5, "input.width: expected a whole number"),
        (("input", "width"), True, "input.width: expected"),
        (("input", "height"), 0, "input.height: expected a whole number of at least 1"),
        (("input", "mean"), [1, 2], "input.mean: expected 3 values, got 2"),
        (("input", "mean", 1), "x", r"input.mean\[1\]: expected a finite number"),
        (("input", "std", 2), 0, r"input.std\[2\]: expected a number above 0"),
        (("input", "color"), "rbg", "input.color: expected one of rgb, bgr"),
        (("input", "resize"), "crop", "input.resize: expected one of stretch, letterbox"),
        (("outputs", "conf"), "loc", "outputs.conf: expected another output"),
        (("class_names",), [], "class_names: expected at least one"),
        (("class_names",), "cat", "class_names: expected a list"),
        (("background_index",), 3, "background_index: expected null or a column from 0 to 2"),
        (("background_index",), -1, "background_index: expected a whole number of at least 0"),
        (("score_activation",), "relu", "score_activation: expected one of"),
        (("loc_order",), "xyxy", "loc_order: expected one of"),
        (("variance", 0), -0.1, r"variance\[0\]: expected a number above 0"),
        (("priors", "levels"), [], "priors.levels: expected either"),
        (("priors", "levels"), 3, "priors.levels: expected a list"),
        (("priors", "file"), "a.npy", "priors.levels: expected either levels .* got both"),
        (("priors", "clip"), 1, "priors.clip: expected true or false"),
        (
            ("priors", "levels", 0, "sizes", 1),
            [3, 0],
            r"priors.levels\[0\].sizes\[1\]\[1\]: expected a number above 0",
        ),
        (
            ("priors", "levels", 0, "feature_size"),
            [38],
            r"priors.levels\[0\].feature_size: expected 2 values",
        ),
        (
            ("postprocess", "score_threshold"),
            1.5,
            "postprocess.score_threshold: expected a number from 0 to 1",
        ),
        (("postprocess", "score_threshold"), {"cow": 0.5}, "postprocess.score_threshold.cow: no such class"),
        (("postprocess", "score_threshold"), {"bicycle": 0.5}, "postprocess.score_threshold: .*aeroplane"),
        (
            ("postprocess", "score_threshold"),
            {"*": 2},
            r"postprocess.score_threshold.\*: expected a number from",
        ),
        (("postprocess", "score_threshold"), {}, "postprocess.score_threshold: expected a number, or"),
        (("box_coding",), "yolo", "box_coding: expected one of center_size, linear, corners"),
        (("box_coding",), "corners", "priors: expected none with box_coding corners"),
        (("box_coding",), 3, "box_coding: expected a text"),
        (("coding_scale",), [128, 128], "coding_scale: expected with box_coding linear alone"),
        (("coding_scale",), 3, "coding_scale: expected a list"),
        (("coding_scale",), [3, 0], r"coding_scale\[1\]: expected a number above 0"),
        (("keypoints",), "nose", "keypoints: expected a list"),
        (("keypoints",), ["nose", ""], r"keypoints\[1\]: expected a text"),
        (("keypoints",), ["nose"] * 1000, "keypoints: expected at most 512 points, got 1000"),
        (("loc_layout",), "nchw", "loc_layout: expected one of prior_column, column_prior"),
        (("conf_layout",), [], "conf_layout: expected a text"),
        (("input", "layout"), "NHWC", "input.layout: expected one of nchw, nhwc"),
        (("input", "dtype"), "int8", "input.dtype: expected one of float, uint8"),
        (("input", "dtype"), "uint8", "input.dtype: expected mean 0 and std 1 with uint8"),
        (("input", "batch_axis"), 0, "input.batch_axis: expected true or false"),
        (("outputs", "loc"), [], "outputs.loc: expected at least one output"),
        (("outputs", "loc"), ["a", "a"], r"outputs.loc\[1\]: expected each output once"),
        (("outputs", "loc"), ["a", "conf"], "outputs.conf: expected another output"),
        (("postprocess", "top_k"), 0, "postprocess.top_k: expected a whole number of at least 1"),
        (("postprocess", "clip_boxes"), "never", "postprocess.clip_boxes: expected one of"),
    ],
)
def test_every_error_names_its_key(tmp_path, path, value, message):
    data = json.loads(DESIGN_EXAMPLE)
    _set(data, path, value)
    file = tmp_path / "m.json"
    file.write_text(json.dumps(data))
    with pytest.raises(ValueError, match=f"m.json: {message}"):
        SsdSpec.load(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "expected a JSON object"),
        (DESIGN_EXAMPLE.replace('"loc_order"', '"name": "b", "loc_order"'), "name: given twice"),
        (DESIGN_EXAMPLE.replace("0.45", "NaN"), "iou_threshold: expected a finite number"),
        (DESIGN_EXAMPLE.replace("0.45", "1e999"), "iou_threshold: expected a finite number"),
    ],
)
def test_text_that_is_no_spec_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        SsdSpec.from_json(text)


def test_a_binary_file_is_refused_by_name(tmp_path):
    (tmp_path / "m.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"m\.json: not a text file"):
        SsdSpec.load(tmp_path / "m.json")


def test_whole_numbers_may_be_written_as_floats():
    data = json.loads(DESIGN_EXAMPLE)
    data["input"]["height"] = 300.0
    assert SsdSpec.from_json(json.dumps(data)).input.height == 300


def test_a_spec_saved_elsewhere_takes_its_priors_file_along(tmp_path):
    priors = np.full((3, 4), 0.5, np.float32)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    np.save(tmp_path / "a" / "x.priors.npy", priors)
    example_spec(priors=PriorSpec(file="x.priors.npy")).save(tmp_path / "a" / "x.json")
    spec = SsdSpec.load(tmp_path / "a" / "x.json")
    spec.save(tmp_path / "b" / "x.json")
    assert np.array_equal(np.load(tmp_path / "b" / "x.priors.npy"), priors)
    assert SsdSpec.load(tmp_path / "b" / "x.json") == spec


def test_a_spec_cannot_be_changed_and_is_checked_when_made_in_code():
    spec = example_spec()
    with pytest.raises(AttributeError):
        spec.name = "other"
    with pytest.raises(ValueError, match="score_activation"):
        replace(spec, score_activation="tanh")
    with pytest.raises(ValueError, match="sizes"):
        PriorLevel((1, 1), (1, 1), ())


def test_many_names_with_brackets_are_written_at_once():
    names = tuple(f"class [{i}] {{x}}" for i in range(500))
    assert SsdSpec.from_json(example_spec(class_names=names).to_json()).class_names == names


def test_a_number_beyond_any_float_is_refused():
    with pytest.raises(ValueError, match="iou_threshold: expected a finite number"):
        SsdSpec.from_json(DESIGN_EXAMPLE.replace("0.45", "1" + "0" * 400))


@pytest.mark.parametrize("name", ["../x.npy", "/x.npy", "a/../../x.npy", "a\\x.npy", "C:x.npy", ".."])
def test_a_priors_file_outside_of_the_specs_folder_is_refused(name):
    with pytest.raises(ValueError, match="file: expected a file beside the spec, got"):
        PriorSpec(file=name)


def _with_priors_file(folder, name="x.npy"):
    folder.mkdir()
    np.save(folder / name, np.full((3, 4), 0.5, np.float32))
    spec = example_spec(priors=PriorSpec(file=name), folder=str(folder))
    spec.save(folder / "x.json")
    return SsdSpec.load(folder / "x.json")


def test_saving_writes_nothing_through_a_link_out_of_the_folder(tmp_path):
    spec = _with_priors_file(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "precious").write_text("old")
    (tmp_path / "b" / "x.npy").symlink_to("../precious")
    with pytest.raises(ValueError, match="is a link out of its folder"):
        spec.save(tmp_path / "b" / "x.json")
    assert (tmp_path / "precious").read_text() == "old"


def test_saving_does_not_copy_what_a_link_out_of_the_folder_names(tmp_path):
    spec = _with_priors_file(tmp_path / "a")
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "a" / "x.npy").unlink()
    (tmp_path / "a" / "x.npy").symlink_to("../secret")
    (tmp_path / "b").mkdir()
    with pytest.raises(ValueError, match="is a link out of its folder"):
        spec.save(tmp_path / "b" / "x.json")
    assert os.listdir(tmp_path / "b") == []


def test_a_spec_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "x.json"
    example_spec().save(path)
    before = path.read_bytes()
    names = tuple(f"class {i}" for i in range(5000))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            example_spec(class_names=names).save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["x.json"]
