"""Annotations from elsewhere: wrong types and numbers, deep nesting, encodings that are none, entities."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("cv2")
pytest.importorskip("tqdm")

from tests.hostile.command_line import MOST_BYTES, MOST_SECONDS, assert_refused, edge_ssd
from tests.media import encoded, picture

_IMAGE = {"id": 1, "file_name": "a.png", "height": 48, "width": 64}
_BOX = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 20], "area": 600, "iscrowd": 0}
_CATEGORY = {"id": 1, "name": "cat"}


def coco_text(images=(_IMAGE,), annotations=(_BOX,), categories=(_CATEGORY,)):
    return json.dumps({"images": [*images], "annotations": [*annotations], "categories": [*categories]})


@pytest.fixture
def coco(tmp_path):
    """A function that writes the text of an annotation file into a folder with its image."""
    (tmp_path / "annotations").mkdir()
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.png").write_bytes(encoded(picture(), ".png"))

    def write(text):
        (tmp_path / "annotations/instances_x.json").write_text(text)
        return tmp_path

    return write


@pytest.fixture
def voc(tmp_path):
    """The same for an XML file."""
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "JPEGImages/a.png").write_bytes(encoded(picture(), ".png"))

    def write(text):
        (tmp_path / "Annotations/a.xml").write_text(text)
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000, "instances_x.json: not valid JSON: nested too deeply"),
        (
            coco_text(categories=[{"id": 1, "name": [2]}]),
            "instances_x.json: categories: 1: name: expected a text",
        ),
        (
            coco_text(annotations=[{**_BOX, "image_id": [1]}]),
            "instances_x.json: annotations: image_id: expected",
        ),
        (coco_text().replace("600", "1" + "0" * 400), "instances_x.json: 2 problems in 1 images"),
        (coco_text().replace("600", "1" * 5000), "instances_x.json: not valid JSON: a number of 5000 digits"),
    ],
)
def test_coco_of_wrong_types_is_refused(coco, text, said):
    folder = coco(text)
    assert_refused(edge_ssd("data", "check", folder, cwd=folder), said)


@pytest.mark.parametrize("command", [["data", "stats"], ["eval", "--data"], ["priors", "--data"]])
def test_every_command_names_the_entry(coco, command):
    if command[0] != "data":
        pytest.importorskip("pycocotools" if command[0] == "eval" else "torch")
    folder = coco(coco_text(annotations=[{**_BOX, "bbox": [1, 2, float("nan"), 20]}]))
    ended = edge_ssd(*command, folder, cwd=folder)
    if command[0] == "eval":
        assert ended.code == 1  # its classes are none of the demo model's
        assert "Traceback" not in ended.err
    else:
        assert_refused(
            ended, "instances_x.json: image 1: an entry is missing or wrong: bbox[2]: expected a finite"
        )


def test_ten_thousand_boxes_in_an_image_stay_within_the_budget(coco):
    boxes = [{**_BOX, "id": i, "bbox": [i % 60, i % 40, 0.001, 0.001]} for i in range(10_000)]
    folder = coco(coco_text(annotations=boxes))
    ended = edge_ssd("data", "stats", folder, cwd=folder)
    assert ended.code == 0
    assert ended.seconds < MOST_SECONDS
    assert ended.peak_bytes < MOST_BYTES


_LAUGHS = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('<?xml version="1.0" encoding="foo"?><annotation/>', "a.xml: unknown encoding"),
        ('<?xml version="1.0" encoding="hex"?><annotation/>', "a.xml: "),
        (f'<!DOCTYPE a [<!ENTITY l0 "ha">{_LAUGHS}]><annotation>&l9;</annotation>', "a.xml: a document type"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>', "a.xml: a document type"),
    ],
)
def test_xml_that_is_no_annotation_is_named(voc, text, said):
    folder = voc(text)
    ended = edge_ssd("data", "check", folder, cwd=folder)
    assert_refused(ended, "problems in 1 images")
    assert said in ended.out


def test_list_does_not_lead_out_of_the_folder(voc):
    folder = voc("<annotation/>")
    (folder / "secret.jpg").write_bytes(encoded(picture(), ".jpg"))
    (folder / "ImageSets/Main/train.txt").write_text("../secret\n")
    ended = edge_ssd("data", "check", folder, "--split", "train", cwd=folder)
    assert_refused(ended, "problems in 1 images")
    assert "expected names of images in JPEGImages, got '../secret'" in ended.out
