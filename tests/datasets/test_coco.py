"""COCO folders: their boxes, what is wrong with them, what is kept of the file, and parts of them."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cv2")

import cv2

from edge_ssd.datasets import open_dataset


def _write_coco(folder, **changes):
    content = {
        "images": [
            {"id": 7, "file_name": "b.png", "height": 80, "width": 100},
            {"id": 3, "file_name": "a.png", "height": 80, "width": 100},
        ],
        "categories": [{"id": 18, "name": "dog"}, {"id": 17, "name": "cat"}],
        "annotations": [
            {"image_id": 7, "category_id": 18, "bbox": [10.5, 20, 30, 40.25], "iscrowd": 0},
            {"image_id": 7, "category_id": 17, "bbox": [0, 0, 100, 80], "iscrowd": 1},
        ],
    }
    content.update(changes)
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    (folder / "annotations/instances_val.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "val").mkdir(exist_ok=True)
    for name in ("a", "b"):
        cv2.imwrite(str(folder / f"val/{name}.png"), np.zeros((80, 100, 3), np.uint8))


def test_coco_boxes_are_taken_as_they_are(tmp_path):
    _write_coco(tmp_path)
    dataset = open_dataset(tmp_path, "val")
    dataset.check()
    assert dataset.class_names == ("cat", "dog")  # by id
    assert [Path(dataset.image_name(i)).name for i in range(2)] == ["a.png", "b.png"]
    truth = dataset.truth(1)
    np.testing.assert_array_equal(truth.boxes, [[10.5, 20, 40.5, 60.25], [0, 0, 100, 80]])
    assert truth.labels.tolist() == [1, 0]
    assert truth.difficult.tolist() == [False, True]
    assert len(dataset.truth(0).boxes) == 0
    assert dataset.image(0).shape == (80, 100, 3)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["7"], "annotations of 1 images that it does not list, such as image_id '7'; the images have 7"),
        ([8, 9], "annotations of 2 images that it does not list, such as image_id 8"),
    ],
)
def test_annotations_of_unknown_images_are_a_problem(tmp_path, ids, message):
    box = {"category_id": 17, "bbox": [0, 0, 9, 9]}
    _write_coco(tmp_path, annotations=[{"image_id": key, **box} for key in (7, *ids)])
    with pytest.raises(ValueError, match=f"instances_val.json: {message}"):
        open_dataset(tmp_path, "val", ("cat", "dog")).check()


def test_images_of_one_id_are_problems(tmp_path):
    entry = {"id": 7, "height": 80, "width": 100}
    _write_coco(tmp_path, images=[{**entry, "file_name": f"{name}.png"} for name in "ab"])
    problems, _ = open_dataset(tmp_path, "val").findings()
    assert [index for index, _ in problems] == [0, 1]
    assert "image b.png: its id 7 is there more than once" in problems[1][1]


def test_a_coco_category_without_a_box_is_no_problem(tmp_path):
    names = {0: "things", 17: "cat", 18: "dog"}
    _write_coco(tmp_path, categories=[{"id": key, "name": name} for key, name in names.items()])
    dataset = open_dataset(tmp_path, "val")
    assert dataset.check()[0].startswith("no box of things: ")
    assert dataset.class_names == ("things", "cat", "dog")
    assert dataset.truth(1).labels.tolist() == [2, 1]


def test_polygons_and_addresses_do_not_stay_in_memory(tmp_path):
    box = {"image_id": 7, "category_id": 17, "bbox": [0, 0, 9, 9], "area": 50.5}
    sizes = []
    for polygon in ([], list(range(100_000))):
        images = [{"id": key, "file_name": f"{key}.png", "coco_url": "x" * len(polygon)} for key in (3, 7)]
        images = [{**image, "height": 80, "width": 100} for image in images]
        _write_coco(tmp_path, annotations=[{**box, "segmentation": [polygon]}], images=images)
        dataset = open_dataset(tmp_path, "val")
        sizes.append(len(pickle.dumps(dataset)))
        assert dataset.areas(1).tolist() == [50.5]
    assert sizes[0] == sizes[1]
    dataset.write_part([1], tmp_path / "annotations/instances_part.json")
    (kept,) = json.loads((tmp_path / "annotations/instances_part.json").read_text())["annotations"]
    assert kept == {**box, "segmentation": [polygon]}


def test_areas_are_the_boxes_where_the_file_has_none(tmp_path):
    _write_coco(tmp_path)
    assert open_dataset(tmp_path, "val").areas(1).tolist() == [30 * 40.25, 8000]


@pytest.mark.parametrize("place", ["val", "images/val", "images", "."])
def test_a_part_of_a_coco_set_is_read_back_under_any_name(tmp_path, place):
    _write_coco(tmp_path)
    if place != "val":
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        for path in (tmp_path / "val").glob("*"):
            path.rename(tmp_path / place / path.name)
        (tmp_path / "val").rmdir()
    for split in ("val-clean", "val"):  # the second in the place of the whole
        open_dataset(tmp_path, "val").write_part([1], tmp_path / f"annotations/instances_{split}.json")
        part = open_dataset(tmp_path, split)
        part.check()
        assert (len(part), len(part.truth(0).labels)) == (1, 2)
        assert part.image(0).shape == (80, 100, 3)


def test_a_coco_set_that_is_not_there_names_those_that_are(tmp_path):
    _write_coco(tmp_path)
    with pytest.raises(ValueError, match="split 'train'; there is: instances_val"):
        open_dataset(tmp_path, "train")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annotations": [{"image_id": 7, "category_id": 99, "bbox": [0, 0, 9, 9]}]}, "image 7: an entry is"),
        (
            {"annotations": [{"image_id": 7, "category_id": 17, "bbox": [0, 0, 0, 9]}]},
            "empty or turned around",
        ),
        (
            {"annotations": [{"image_id": 7, "category_id": 17, "bbox": [0.1, 0.2, 0.5, 0.4]}]},
            "less than a pixel: 0.1 0.2 0.6 0.6; are they shares of the image?",
        ),
        ({"annotations": [{"image_id": [7]}]}, "annotations: image_id: expected a number or a text"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}, "expected each id once"),
        (
            {"annotations": [{"image_id": 7, "category_id": 17}]},
            "image 7: an entry is missing or wrong: 'bbox'",
        ),
        (
            {"images": [{"id": 1, "file_name": "../../x.png", "height": 1, "width": 1}]},
            "expected a path below",
        ),
    ],
)
def test_check_names_what_is_wrong_in_a_coco_file(tmp_path, changes, message):
    _write_coco(tmp_path, **changes)
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the text is compared below
        open_dataset(tmp_path, "val").check()
    assert message in str(error.value)


_IMAGE = {"id": 7, "file_name": "b.png", "height": 80, "width": 100}
_BOX = {"image_id": 7, "category_id": 17, "bbox": [0, 0, 9, 9]}
_HUGE = 10**400


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"categories": [{"id": 17, "name": 64}]}, "categories: 17: name: expected a text, got 64"),
        ({"categories": [{"id": 17, "name": [[], 2]}]}, "name: expected a text, got [[], 2]"),
        ({"categories": [{"id": 17, "name": "\ud800"}]}, r'name: expected a text, got "\ud800"'),
        ({"categories": [{"id": 17, "name": ""}]}, "name: expected a text"),
        (
            {"categories": [{"id": True, "name": "cat"}]},
            "categories: id: expected a number or a text, got true",
        ),
        ({"images": [{**_IMAGE, "id": float("nan")}]}, "images: id: expected a number or a text, got nan"),
        ({"images": [{**_IMAGE, "id": None}]}, "images: id: expected a number or a text, got null"),
        ({"images": -_HUGE}, "images: expected a list"),
        (
            {"images": [{**_IMAGE, "width": float("inf")}]},
            "image 7: an entry is missing or wrong: width: expected a",
        ),
        (
            {"images": [{**_IMAGE, "width": _HUGE}]},
            "image 7: an entry is missing or wrong: size: expected sides",
        ),
        ({"images": [{**_IMAGE, "width": "100"}]}, 'width: expected a finite number, got "100"'),
        ({"images": [{**_IMAGE, "width": 0}]}, "width: expected a whole number of at least 1"),
        ({"images": [{**_IMAGE, "file_name": 64}]}, "image 7: file_name: expected a path, got 64"),
        ({"images": [{**_IMAGE, "file_name": "\ud800"}]}, "image 7: file_name: expected a path, got"),
        ({"images": [{**_IMAGE, "file_name": "a\0b"}]}, "image 7: file_name: expected a path, got"),
        (
            {"images": [{"id": 7, "height": 80, "width": 100}]},
            "image 7: file_name: expected a path, got none",
        ),
        ({"images": [{**_IMAGE, "file_name": "x" * 5000}]}, "File name too long"),
        (
            {"annotations": [{**_BOX, "bbox": [0, 0, 9, _HUGE]}]},
            "bbox[3]: expected a finite number, got 1000",
        ),
        (
            {"annotations": [{**_BOX, "bbox": [0, 0, 9, float("nan")]}]},
            "bbox[3]: expected a finite number, got nan",
        ),
        ({"annotations": [{**_BOX, "bbox": [0, 0, True, 9]}]}, "bbox[2]: expected a finite number, got true"),
        ({"annotations": [{**_BOX, "bbox": [0, [1], 9, 9]}]}, "bbox[1]: expected a finite number, got [1]"),
        ({"annotations": [{**_BOX, "bbox": [0, 0, 9]}]}, "bbox: expected 4 values, got 3"),
        ({"annotations": [{**_BOX, "bbox": [1e308, 1e308, 1, 1]}]}, "bbox: its numbers are too large"),
        ({"annotations": [{**_BOX, "bbox": None}]}, "bbox: expected a list, got null"),
        ({"annotations": [{**_BOX, "area": _HUGE}]}, "area: expected a finite number"),
        ({"annotations": [{**_BOX, "area": [1, 2]}]}, "area: expected a finite number, got [1, 2]"),
        ({"annotations": [{**_BOX, "iscrowd": "<script>"}]}, 'iscrowd: expected 0 or 1, got "<script>"'),
        (
            {"annotations": [{**_BOX, "category_id": [1]}]},
            "category_id: expected one of the categories' ids, got [1]",
        ),
        (
            {"annotations": [{**_BOX, "category_id": float("nan")}]},
            "category_id: expected one of the categories' ids",
        ),
        (
            {"annotations": [{**_BOX, "image_id": {}}]},
            "annotations: image_id: expected a number or a text, got {}",
        ),
        (
            {"annotations": [_BOX] * 10_001},
            "image 7: an entry is missing or wrong: expected at most 10000 objects",
        ),
    ],
)
def test_values_of_a_wrong_kind_are_named(tmp_path, changes, message):
    _write_coco(tmp_path, **changes)
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the text is compared below
        open_dataset(tmp_path, "val", ("cat", "dog")).check()
    assert message in str(error.value)
    assert "instances_val.json: " in str(error.value) or "File name" in message


@pytest.mark.parametrize("depth", [900, 100_000])
def test_a_part_of_deep_values_is_written_or_refused(tmp_path, depth):
    _write_coco(tmp_path)
    path = tmp_path / "annotations/instances_val.json"
    path.write_text(
        path.read_text().replace('"iscrowd": 1', f'"iscrowd": 1, "x": {"[" * depth + "]" * depth}')
    )
    try:
        open_dataset(tmp_path, "val").write_part([0], tmp_path / "annotations/instances_part.json")
    except ValueError as error:
        assert "nested too deeply" in str(error)  # noqa: PT017 - either is right, by what Python allows
    else:
        assert depth == 900


def test_a_file_of_captions_is_no_coco_data_set(tmp_path):
    _write_coco(tmp_path, categories=None)
    with pytest.raises(ValueError, match="categories: expected a list"):
        open_dataset(tmp_path, "val")
