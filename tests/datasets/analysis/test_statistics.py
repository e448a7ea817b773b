"""Statistics of a data set, against a data set small enough to count."""

from __future__ import annotations

import argparse

import numpy as np
import pytest

pytest.importorskip("cv2")

from edge_ssd.commands import data
from edge_ssd.datasets import open_dataset
from edge_ssd.datasets.analysis.statistics import measure, statistics_text
from edge_ssd.datasets.dataset import Annotation, Dataset


class ThreeImages(Dataset):
    """Two images of one scene, one with an overlap, and an empty one."""

    _BOXES = (
        [(0, 0, 50, 50), (0, 0, 50, 25), (60, 60, 70, 80)],
        [(0, 0, 10, 10)],
        [],
    )

    def __init__(self):
        super().__init__("three", ("cat", "dog"))

    def __len__(self):
        return 3

    def image_name(self, index):
        return str(index)

    def image(self, index):
        return np.full((100, 200, 3), 40 * index, np.uint8)

    def annotation(self, index):
        boxes = np.array(self._BOXES[index], np.float64).reshape(-1, 4)
        difficult = np.arange(len(boxes)) == 2
        return Annotation(boxes, ("dog",) * len(boxes), difficult, (100, 200))

    def scene(self, index):
        return index // 2

    def check(self):
        pass


def test_statistics_of_three_images():
    found = measure(ThreeImages())
    assert found.image_sizes == {(100, 200): 3}
    assert found.boxes_per_image.tolist() == [3, 1, 0]
    assert found.labels.tolist() == [1, 1, 1, 1]
    assert found.difficult.tolist() == [False, False, True, False]
    np.testing.assert_allclose(found.sides, [0.5, 0.25, 0.1, 0.1], rtol=1e-6)
    assert found.has_overlap.tolist() == [True, False, False]
    assert found.overlapping_scenes == (1, 2)
    assert found.brightness.tolist() == [0, 40, 80]


def test_the_table_tells_shares_and_leaves_out_what_a_class_lacks():
    lines = statistics_text(measure(ThreeImages())).splitlines()
    assert lines[0] == "3 images: 200x100 (3), in 2 scenes"
    assert lines[1] == "4 boxes: 1.33 an image, from 0 to 3; 25.0% difficult"
    assert lines[2] == "objects overlap (IoU > 0.1) in 33.3% of the images, 50.0% of the scenes"
    assert lines[-2].split() == ["cat", "0", "0.0%", "0", "-"]
    assert lines[-1].split() == ["dog", "4", "100.0%", "1", "17.5%"]


def test_every_box_is_in_one_size_group():
    found = measure(open_dataset("demo://?frames=20&size=160x120&scene=1"))
    lines = statistics_text(found).splitlines()
    counts = [int(line.split()[3]) for line in lines if " to " in line and line.startswith("   ")]
    assert len(counts) == 6
    assert sum(counts) == len(found.labels)


def test_the_command_prints_the_table_and_draws_the_picture(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    parser = argparse.ArgumentParser()
    data.add_parser(parser.add_subparsers())
    picture = tmp_path / "stats.png"
    arguments = parser.parse_args(
        ["data", "stats", "demo://?frames=8&size=160x120&scene=4", "--plot", str(picture)]
    )
    assert arguments.main(arguments) == 0
    assert "8 images: 160x120 (8), in 2 scenes" in capsys.readouterr().out
    assert picture.read_bytes()[:4] == b"\x89PNG"
