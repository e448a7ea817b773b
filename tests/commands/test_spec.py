"""`edge-ssd spec`: a draft from what the model tells, and one line about what it cannot tell."""

from __future__ import annotations

import numpy as np
import pytest

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
