"""Coverage of objects by default boxes, fitted boxes, and `edge-ssd priors`."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("cv2")

from edge_ssd import cli
from edge_ssd.boxes import centre_to_corners
from edge_ssd.datasets import open_dataset
from edge_ssd.datasets.analysis.coverage import (
    Objects,
    coverage_text,
    fit_levels,
    fit_sizes,
    measure_coverage,
    read_objects,
    shape_iou,
)
from edge_ssd.spec import InputSpec

DATA = "demo://?seed=5&frames=40&scene=1&size=160x120"


def objects(*boxes, labels=None):
    return Objects(("a", "b"), np.array(boxes, np.float32), np.array(labels or [0] * len(boxes), np.int32))


def test_coverage_of_boxes_worked_out_by_hand():
    priors = np.array([[0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.25, 0.5]], np.float32)
    found = measure_coverage(objects((0.25, 0.25, 0.75, 0.75), (0, 0, 0.125, 0.125)), priors)
    assert found.best_iou.tolist() == [1, 0]
    assert found.best_prior.tolist() == [0, 0]
    assert found.matches.tolist() == [1, 0]  # an IoU of exactly 0.5 is none


def test_coverage_does_not_depend_on_how_many_are_compared_at_once(rng, monkeypatch):
    priors = np.concatenate([rng.random((50, 2)), rng.uniform(0.05, 0.5, (50, 2))], axis=1).astype(np.float32)
    boxes = objects(*centre_to_corners(priors[:33] * np.float32(1.05)))
    whole = measure_coverage(boxes, priors)
    monkeypatch.setattr("edge_ssd.datasets.analysis.coverage._CHUNK_PAIRS", 100)
    parts = measure_coverage(boxes, priors)
    np.testing.assert_array_equal(whole.best_iou, parts.best_iou)
    np.testing.assert_array_equal(whole.matches, parts.matches)


def test_table_counts_by_class_and_by_size():
    found = objects((0.25, 0.25, 0.75, 0.75), (0, 0, 0.05, 0.05), labels=[0, 1])
    lines = coverage_text(
        found, measure_coverage(found, np.array([[0.5, 0.5, 0.5, 0.5]], np.float32))
    ).splitlines()
    assert lines[1].split() == ["a", "1", "100.0%", "1.000", "1.00"]
    assert lines[2].split() == ["b", "1", "0.0%", "0.000", "0.00"]
    assert lines[3].split() == ["all", "2", "50.0%", "0.500", "0.50"]
    assert [line.split()[3] for line in lines[6:]] == ["0", "1", "0", "0", "0", "1"]


def test_objects_are_in_the_frame_of_the_input():
    dataset = open_dataset(DATA)
    letterbox = InputSpec("image", 96, 96, "rgb", (0, 0, 0), (1, 1, 1), "letterbox")
    found, first = read_objects(dataset, letterbox), dataset.truth(0)
    x1, y1, x2, y2 = first.boxes[~first.difficult][0] * (96 / 160)  # 12 rows of padding above
    np.testing.assert_allclose(found.boxes[0], np.array([x1, y1 + 12, x2, y2 + 12]) / 96, rtol=1e-6)


def test_fitted_sizes_are_the_groups_of_the_boxes(rng):
    groups = np.array([[10, 10], [20, 60], [80, 30]])
    sides = np.concatenate([group * rng.uniform(0.95, 1.05, (50, 2)) for group in groups])
    np.testing.assert_allclose(fit_sizes(sides, 3), groups, rtol=0.03)
    np.testing.assert_array_equal(fit_sizes(sides, 3), fit_sizes(sides, 3))


def test_more_fitted_sizes_overlap_better(rng):
    sides = rng.lognormal(3, 0.5, (300, 2))
    overlaps = [shape_iou(sides, fit_sizes(sides, count)).max(axis=1).mean() for count in (1, 2, 4, 8)]
    assert overlaps == sorted(overlaps)
    assert overlaps[-1] > 0.75


def test_each_level_takes_the_objects_that_its_cells_can_match():
    # 64 input pixels: objects of 20 pixels are 2.5 steps of 8; those of 50 are 3.1 of 16.
    small, large = [(0, 0, 20 / 64, 20 / 64)] * 8, [(0, 0, 50 / 64, 50 / 64)] * 8
    sizes = fit_levels(objects(*small, *large), (64, 64), [(8, 8), (16, 16), (32, 32)], [1, 1, 2])
    np.testing.assert_allclose(sizes[0], [[20, 20]])
    np.testing.assert_allclose(sizes[1], [[50, 50]])
    # No objects: 2.25 steps would be 72, more than the input.
    np.testing.assert_allclose(sizes[2], [[64, 64], [64, 64 / 2**0.5]])


@pytest.mark.parametrize("input_size", [(320, 320), (192, 320)])
def test_fitted_boxes_are_no_larger_than_the_input_and_all_differ(input_size):
    steps = [tuple(size / cells for size in input_size) for cells in (20, 10, 5, 3, 2, 1)]
    found = fit_levels(objects((0, 0, 0.1, 0.1)), input_size, steps, [6] * 6)
    for sizes in found:
        assert (sizes <= input_size[::-1]).all()
        assert len(np.unique(sizes.round(3), axis=0)) == 6
    np.testing.assert_allclose(found[0][0], 2.25 / 20 * np.sqrt(np.prod(input_size)))  # as ever where it fits


def test_command_fits_aligns_and_writes_what_training_uses(tmp_path, capsys):
    pytest.importorskip("torch")
    pytest.importorskip("matplotlib")
    out, plot = tmp_path / "boxes.json", tmp_path / "boxes.png"
    layout = ["--arch", "ssd320_resnet16", "--input-size", "96"]
    fit = ["--fit", "--boxes", "6", "--align", "--out", str(out), "--plot", str(plot)]
    assert cli.main(["priors", "--data", DATA, *layout, *fit]) == 0
    printed = capsys.readouterr().out
    assert "boxes, fitted and aligned" in printed
    before, after = (float(line.split()[2][:-1]) for line in printed.splitlines() if line.startswith("all "))
    assert after > before
    assert plot.read_bytes().startswith(b"\x89PNG")
    levels = json.loads(out.read_text())["priors"]["levels"]
    assert [len(level["sizes"]) for level in levels] == [6] * 5
    assert levels[0]["offset"] == 0.5 / 8
    assert cli.main(["priors", "--data", DATA, "--model", str(out)]) == 0
    again = capsys.readouterr().out
    assert [line for line in again.splitlines() if line.startswith("all ")] == [
        line for line in printed.splitlines() if line.startswith("all ")
    ][1:]
    run = ["--epochs", "1", "--batch", "4", "--epoch-images", "4", "--workers", "0", "--threads", "1"]
    train = ["train", "--data", DATA, "--arch", "ssd320_resnet16", "--priors", str(out)]
    assert cli.main([*train, *run, "--out", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    assert cli.main(["priors", "--data", DATA, "--model", str(tmp_path / "run" / "last.pt")]) == 0
    assert capsys.readouterr().out.splitlines()[3:] == again.splitlines()[3:]
    assert cli.main([*train, *run, "--input-size", "128", "--out", str(tmp_path / "other")]) == 1
    assert "input: its default boxes are for (96, 96), this network has (128, 128)" in capsys.readouterr().err


def test_command_on_the_shipped_model(capsys):
    assert cli.main(["priors", "--data", DATA, "--model", "demo"]) == 0
    overall = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("all "))
    assert float(overall.split()[2][:-1]) > 95
    assert cli.main(["priors", "--data", DATA, "--model", "demo", "--align"]) == 1
    assert "give --arch instead" in capsys.readouterr().err
