"""YOLO and Roboflow folders as COCO and VOC: boxes, splits, names, and what is left out."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

pytest.importorskip("cv2")

from edge_ssd import cli
from edge_ssd.datasets import open_dataset
from edge_ssd.datasets.convert import convert, write
from tests.media import encoded, picture

_NAMES = "names: [cat, dog]\n"
# Of a 64 x 48 image: corners (16, 12) and (48, 24).
_ROW, _BOX = "1 0.5 0.375 0.5 0.25", [16, 12, 48, 24]


def _image(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(picture(seed=seed), ".png"))


def _text(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _yolo(folder, layout="ultralytics", rows=_ROW):
    """A YOLO folder of two images to train on and one to validate on."""
    places = {
        "ultralytics": ("images/{}", "labels/{}"),
        "roboflow": ("{}/images", "{}/labels"),
        "flat": ("images", "labels"),
        "beside": ("obj_{}_data", "obj_{}_data"),
    }
    images, labels = places[layout]
    for split, stem in (("train", "a"), ("train", "b"), ("val", "c")):
        _image(folder / images.format(split) / f"{stem}.png", seed=ord(stem))
        _text(folder / labels.format(split) / f"{stem}.txt", rows + "\n")


def _splits(report):
    return {part.split: (part.images, part.boxes) for part in report}


@pytest.mark.parametrize("to", ["coco", "voc"])
@pytest.mark.parametrize(
    ("layout", "more"),
    [
        (
            "ultralytics",
            {"data.yaml": "path: ../datasets/x\ntrain: images/train\nval: images/val\n" + _NAMES},
        ),
        ("ultralytics", {"classes.txt": "cat\ndog\n\n"}),
        ("roboflow", {"data.yaml": "train: ../train/images\nval: ../val/images\nnc: 2\n" + _NAMES}),
        (
            "flat",
            {
                "data.yaml": _NAMES,
                "train.txt": "./images/a.png\n/me/images/b.png\n",
                "val.txt": "images/c.png",
            },
        ),
        (
            "beside",
            {
                "obj.names": "cat\ndog\n",
                "train.txt": "data/obj_train_data/a.png\ndata/obj_train_data/b.png",
                "val.txt": "data\\obj_val_data\\c.png",
            },
        ),
    ],
)
def test_layouts_of_yolo(tmp_path, layout, more, to):
    _yolo(tmp_path / "yolo", layout)
    for name, text in more.items():
        _text(tmp_path / "yolo" / name, text)
    report, left_out = convert(tmp_path / "yolo", tmp_path / "out", to=to)
    assert (_splits(report), left_out) == ({"train": (2, 2), "val": (1, 1)}, [])
    for split, seeds in (("train", "ab"), ("val", "c")):
        dataset = open_dataset(tmp_path / "out", split)
        dataset.check()
        assert dataset.class_names == ("cat", "dog")
        for i, seed in enumerate(seeds):
            truth = dataset.truth(i)
            np.testing.assert_allclose(truth.boxes, [_BOX])
            assert truth.labels.tolist() == [1]
            np.testing.assert_array_equal(dataset.image(i), picture(seed=ord(seed)))


@pytest.mark.parametrize(
    ("row", "box"),
    [
        (_ROW, _BOX),
        ("1 0.25 0.25 0.75 0.25 0.5 0.5", _BOX),  # a polygon
        ("1 0.5 0.375 0.5 0.2500001", [16, 12, 48, 24]),
        ("1.0 0.9 0.5 0.2000004 1", [51.2, 0, 64, 48]),  # rounded, so a little beyond the image
    ],
)
def test_rows_become_boxes_in_pixels(tmp_path, row, box):
    _yolo(tmp_path / "yolo", rows=row)
    _text(tmp_path / "yolo/data.yaml", _NAMES)
    convert(tmp_path / "yolo", tmp_path / "out")
    np.testing.assert_allclose(open_dataset(tmp_path / "out", "val").truth(0).boxes, [box], atol=0.001)


def test_key_points_behind_the_box_are_left_out(tmp_path):
    _yolo(tmp_path / "yolo", rows=_ROW + " 0.1 0.2 2")
    _text(tmp_path / "yolo/data.yaml", _NAMES + "kpt_shape: [1, 3]\n")
    convert(tmp_path / "yolo", tmp_path / "out")
    np.testing.assert_allclose(open_dataset(tmp_path / "out", "val").truth(0).boxes, [_BOX])


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("2 0.5 0.5 0.1 0.1", "a.txt: line 2: class '2' is not among the 2 names"),
        ("-1 0.5 0.5 0.1 0.1", "class '-1' is not among"),
        ("1 20 30 40 50", "expected shares of the image from 0 to 1, got 20; are they pixels?"),
        ("1 nan 0.5 0.1 0.1", "expected numbers, got 'nan'"),
        ("1 0.5 0.5 0.1 0.1 0.9", "got 6 columns"),
        ("1 0.5 0.5", "got 3 columns"),
        ("1 0.5 0.5 0 0.1", "box of 'dog' is empty"),
        ("1 0.95 0.5 0.4 0.1", "lies outside the 64x48 image"),
    ],
)
def test_an_image_with_a_wrong_row_is_left_out_and_named(tmp_path, row, said):
    _yolo(tmp_path / "yolo")
    _text(tmp_path / "yolo/data.yaml", _NAMES)
    _text(tmp_path / "yolo/labels/train/a.txt", f"{_ROW}\n{row}\n")
    report, _ = convert(tmp_path / "yolo", tmp_path / "out")
    assert _splits(report) == {"train": (1, 1), "val": (1, 1)}
    (problem,) = report[0].problems
    assert said in problem


def test_what_is_left_out_of_a_yolo_folder_is_counted(tmp_path, capsys):
    _yolo(tmp_path / "yolo")
    _text(tmp_path / "yolo/classes.txt", "cat\ndog\n")
    _text(tmp_path / "yolo/labels/train/gone.txt", _ROW)
    _text(tmp_path / "yolo/images/train/d.heic", "")
    _text(tmp_path / "yolo/images/train/e.png", "no image")
    _image(tmp_path / "yolo/images/train/nothing.png")
    assert cli.main(["data", "convert", str(tmp_path / "yolo"), "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "train: 3 images, 1 of them without objects, 2 boxes\n" in out
    assert "val: 1 image, 1 box\n" in out
    assert f"left out: {tmp_path}/yolo/images/train/e.png: not an image" in out
    assert "left out: 1 label file without an image (such as " in out
    assert "left out: 1 image of a kind that is not read (.heic)\n" in out
    assert out.endswith(f"COCO; next: edge-ssd data check {tmp_path}/out --split train\n")


def test_a_turned_image_is_left_out(tmp_path):
    """What its shares are of depends on whether the tool turned it."""
    _yolo(tmp_path / "yolo")
    _text(tmp_path / "yolo/data.yaml", _NAMES)
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    data = encoded(picture(), ".jpg")
    data = data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]
    (tmp_path / "yolo/images/train/a.png").unlink()
    (tmp_path / "yolo/images/train/a.jpg").write_bytes(data)
    report, _ = convert(tmp_path / "yolo", tmp_path / "out")
    assert "a.jpg: has an orientation tag" in report[0].problems[0]


def _exported_coco(folder):
    """As Roboflow has it: a category that is the parent of the others and has no boxes."""
    categories = [{"id": 0, "name": "pets", "supercategory": "none"}]
    categories += [
        {"id": i, "name": name, "supercategory": "pets"} for i, name in enumerate(("cat", "dog"), 1)
    ]
    for split in ("train", "valid"):
        _image(folder / split / "a.png")
        content = {
            "images": [{"id": 0, "file_name": "a.png", "height": 48, "width": 64}],
            "annotations": [
                {"id": 0, "image_id": 0, "category_id": 2, "bbox": [16, 12, 32, 12], "area": 200}
            ],
            "categories": categories,
        }
        _text(folder / split / "_annotations.coco.json", json.dumps(content))


def _exported_voc(folder):
    for split in ("train", "valid"):
        _image(folder / split / "a.png")
        for name in ("cat", "dog"):
            _text(
                folder / split / ("a.xml" if name == "dog" else "b.xml"),
                "<annotation><size><width>64</width><height>48</height></size><object><name>"
                f"{name}</name><difficult>1</difficult><bndbox><xmin>17</xmin><ymin>13</ymin><xmax>48</xmax><ymax>24</ymax>"
                "</bndbox></object></annotation>",
            )
        _image(folder / split / "b.png", 1)


@pytest.mark.parametrize("to", ["coco", "voc"])
@pytest.mark.parametrize("wrapped", ["", "export.v1"])
@pytest.mark.parametrize("make", [_exported_coco, _exported_voc])
def test_folders_of_roboflow(tmp_path, make, wrapped, to):
    make(tmp_path / "in" / wrapped)
    report, _ = convert(tmp_path / "in", tmp_path / "out", to=to)
    assert list(_splits(report)) == ["train", "valid"]
    dataset = open_dataset(tmp_path / "out", "valid")
    dataset.check()
    assert dataset.class_names == ("cat", "dog")
    truth = dataset.truth(0)
    np.testing.assert_allclose(truth.boxes, [_BOX])
    assert truth.labels.tolist() == [1]
    assert truth.difficult.tolist() == [make is _exported_voc]
    if (make, to) == (_exported_coco, "coco"):
        assert dataset.areas(0).tolist() == [200]  # of the mask, not of the box


def test_splits_can_be_chosen(tmp_path):
    _exported_coco(tmp_path / "in")
    report, _ = convert(tmp_path / "in", tmp_path / "out", splits=["valid"])
    assert _splits(report) == {"valid": (1, 1)}
    with pytest.raises(ValueError, match="split: expected some of train, valid, got test"):
        convert(tmp_path / "in", tmp_path / "out2", splits=["test"])


@pytest.mark.parametrize("to", ["coco", "voc"])
def test_images_of_one_name_are_all_kept(tmp_path, to):
    for i, place in enumerate(("images/train/x/1.png", "images/train/y/1.png", "images/val/1.png")):
        _image(tmp_path / "in" / place, seed=i)
        _text((tmp_path / "in" / place.replace("images", "labels")).with_suffix(".txt"), _ROW)
    _text(tmp_path / "in/classes.txt", "cat\ndog\n")
    convert(tmp_path / "in", tmp_path / "out", to=to)
    seen = [open_dataset(tmp_path / "out", split) for split in ("train", "val")]
    images = [dataset.image(i) for dataset in seen for i in range(len(dataset))]
    for i, image in enumerate(images):
        np.testing.assert_array_equal(image, picture(seed=i))


def test_links_take_no_room(tmp_path):
    _yolo(tmp_path / "yolo")
    _text(tmp_path / "yolo/data.yaml", _NAMES)
    convert(tmp_path / "yolo", tmp_path / "out", link=True)
    assert os.path.samefile(tmp_path / "yolo/images/val/c.png", tmp_path / "out/images/val/c.png")


@pytest.mark.parametrize("to", ["coco", "voc"])
def test_it_is_whole_or_not_at_all(tmp_path, monkeypatch, to):
    _yolo(tmp_path / "yolo")
    _text(tmp_path / "yolo/data.yaml", _NAMES)
    (tmp_path / "out").mkdir()
    calls = []

    def fail(path, text):
        calls.append(path)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write, "write_text", fail)
    with pytest.raises(OSError, match="No space left"):
        convert(tmp_path / "yolo", tmp_path / "out", to=to)
    assert calls
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "yolo"]
    assert not list((tmp_path / "out").iterdir())


def test_what_is_there_is_not_written_over(tmp_path):
    _yolo(tmp_path / "yolo")
    _text(tmp_path / "yolo/data.yaml", _NAMES)
    _text(tmp_path / "out/mine.txt", "")
    with pytest.raises(ValueError, match="out: is there already"):
        convert(tmp_path / "yolo", tmp_path / "out")


def test_a_class_with_a_line_break_is_refused_for_voc(tmp_path):
    _exported_coco(tmp_path / "in")
    path = tmp_path / "in/train/_annotations.coco.json"
    path.write_text(path.read_text().replace('"dog"', '"do\\ng"'))
    with pytest.raises(ValueError, match=r"VOC has a name in a line of its own"):
        convert(tmp_path / "in", tmp_path / "out", splits=["train"], to="voc")
    convert(tmp_path / "in", tmp_path / "out", splits=["train"])
    assert open_dataset(tmp_path / "out").class_names == ("cat", "do\ng")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (None, "names of classes: expected data.yaml, classes.txt or obj.names, found none"),
        ("cat\n\ndog\n", "expected a name in each line, line 2 is empty"),
        ("cat\ncat\n", "expected each name once"),
    ],
)
def test_names_that_are_none_are_refused(tmp_path, names, said):
    _yolo(tmp_path / "yolo")
    if names is not None:
        _text(tmp_path / "yolo/classes.txt", names)
    with pytest.raises(ValueError, match=said):
        convert(tmp_path / "yolo", tmp_path / "out")
    with pytest.raises(ValueError, match="expected YOLO's labels"):
        convert(tmp_path / "yolo/images", tmp_path / "out")


def test_other_commands_say_how_to_convert(tmp_path):
    _yolo(tmp_path / "yolo")
    _exported_coco(tmp_path / "exported")
    for folder in (tmp_path / "yolo", tmp_path / "exported", tmp_path / "exported/train"):
        with pytest.raises(ValueError, match=f"convert it with `edge-ssd data convert {folder} --out OUT`"):
            open_dataset(folder)
