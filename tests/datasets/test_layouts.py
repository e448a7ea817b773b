"""Data sets as tools write them: where files lie, how paths are written, and what of a folder is left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("cv2")

from edge_ssd import cli
from edge_ssd.datasets import open_dataset
from tests.media import encoded, picture

_XML = (
    "<annotation><size><width>64</width><height>48</height></size><object><name>{name}</name>{more}"
    "<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>30</xmax><ymax>20</ymax></bndbox></object></annotation>"
)


def _image(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(picture(seed=seed), ".jpg"))


def _xml(path, name="cat", more=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_XML.format(name=name, more=more), encoding="utf-8")


def _text(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _names(folder, split=""):
    dataset = open_dataset(folder, split)
    dataset.check()
    assert all(len(dataset.truth(i).boxes) == 1 for i in range(len(dataset)))
    root = Path(folder)
    return [Path(dataset.image_name(i)).relative_to(root).as_posix() for i in range(len(dataset))]


@pytest.mark.parametrize(
    ("annotations", "images"),
    [
        ("Annotations", "JPEGImages"),
        ("Annotations", "images"),  # Label Studio
        ("annotations", "images"),  # Kaggle
        ("annotations/xmls", "images"),  # Oxford pets
        ("", ""),  # LabelImg
        ("train", "train"),  # Roboflow
        ("xmls", "pictures"),
    ],
)
def test_annotations_and_images_are_found(tmp_path, annotations, images):
    for stem in "ab":
        _xml(tmp_path / annotations / f"{stem}.xml")
        _image(tmp_path / images / f"{stem}.jpg")
    assert _names(tmp_path) == [f"{images}/{stem}.jpg".lstrip("/") for stem in "ab"]
    assert open_dataset(tmp_path).left_out == ()


@pytest.mark.parametrize("images_have_folders", [True, False])
def test_subfolders_are_read(tmp_path, images_have_folders):
    for day, stem in (("mon", "a"), ("tue", "b")):
        _xml(tmp_path / f"Annotations/{day}/{stem}.xml")
        _image(tmp_path / "JPEGImages" / (day if images_have_folders else "") / f"{stem}.jpg")
    _xml(tmp_path / "Annotations/c.XML")
    _image(tmp_path / "JPEGImages/c.jfif")
    folders = ("mon/", "tue/") if images_have_folders else ("", "")
    expected = [f"JPEGImages/{name}" for name in ("c.jfif", f"{folders[0]}a.jpg", f"{folders[1]}b.jpg")]
    assert _names(tmp_path) == expected
    lines = ["mon/a", "b.jpg", r"tue\b", "/data/tools/JPEGImages/c.jfif 1", '"mon/a"']
    _text(tmp_path / "ImageSets/Main/train.txt", "\n".join(lines))
    order = (1, 2, 2, 0, 1)
    assert [Path(n).stem for n in _names(tmp_path, "train")] == [Path(expected[i]).stem for i in order]


def test_images_of_one_name_in_several_folders_stay_apart(tmp_path):
    for day in ("mon", "tue"):
        _xml(tmp_path / f"Annotations/{day}/1.xml", name=day)
    _image(tmp_path / "JPEGImages/mon/1.jpg")
    problems, _ = open_dataset(tmp_path).findings()
    assert [text for _, text in problems] == [f"{tmp_path}/JPEGImages/tue/1.jpg: no such image"]


def test_splits_are_lists_or_subfolders(tmp_path):
    for split, stem in (("train", "a"), ("valid", "b"), ("valid", "c")):
        _xml(tmp_path / split / f"{stem}.xml", name=stem)
        _image(tmp_path / split / f"{stem}.jpg")
    assert _names(tmp_path, "valid") == ["valid/b.jpg", "valid/c.jpg"]
    assert open_dataset(tmp_path, "valid").class_names == ("a", "b", "c")  # as in every split of it
    with pytest.raises(FileNotFoundError, match="no such split; there is: train, valid"):
        open_dataset(tmp_path, "test")
    _text(tmp_path / "test.txt", "valid/c.jpg\n")
    assert _names(tmp_path, "test") == ["valid/c.jpg"]
    clean = tmp_path / "ImageSets/Main/test-clean.txt"
    assert cli.main(["data", "check", str(tmp_path), "--split", "test", "--clean", str(clean)]) == 0
    assert _names(tmp_path, "test-clean") == ["valid/c.jpg"]


def test_a_data_set_below_the_folder_is_taken_if_it_is_the_only_one(tmp_path):
    for year in ("VOC2007", "VOC2012"):
        _xml(tmp_path / f"VOCdevkit/{year}/Annotations/a.xml")
        _image(tmp_path / f"VOCdevkit/{year}/JPEGImages/a.jpg")
        _text(tmp_path / f"VOCdevkit/{year}/ImageSets/Main/train.txt", "a\n")
        if year == "VOC2007":
            for folder in (tmp_path, tmp_path / "VOCdevkit"):
                assert len(_names(folder, "train")) == len(_names(folder)) == 1
    with pytest.raises(
        ValueError, match=r"VOCdevkit: holds 2 data sets; give one of them: .*VOC2007, .*VOC2012"
    ):
        open_dataset(tmp_path / "VOCdevkit", "train")
    assert _names(tmp_path / "VOCdevkit", "VOC2012") == ["VOC2012/JPEGImages/a.jpg"]


def test_what_is_left_out_is_counted_by_its_reason(tmp_path, capsys):
    _xml(tmp_path / "Annotations/a.xml")
    _text(tmp_path / "Annotations/b.json", "{}")
    for name in ("a.jpg", "b.webp", "sub/c.jpg", "._a.jpg"):
        _image(tmp_path / "JPEGImages" / name)
    for name in ("d.heic", "e.avif"):
        _text(tmp_path / "JPEGImages" / name, "")
    reasons = (
        f"2 images without an annotation (such as {tmp_path}/JPEGImages/b.webp)",
        "2 images of a kind that is not read (.avif, .heic)",
        "1 annotation that is no XML (.json)",
    )
    assert open_dataset(tmp_path).left_out == reasons
    for command in ("check", "stats"):
        assert cli.main(["data", command, str(tmp_path)]) == 0
        out, err = capsys.readouterr()
        for reason in reasons:
            assert (out + err).count(f"left out: {reason}\n") == 1
    _image(tmp_path / "JPEGImages/a.png")
    assert any("1 image of the same name as another" in text for text in open_dataset(tmp_path).left_out)
    _text(tmp_path / "ImageSets/Main/train.txt", "a\n")
    assert open_dataset(tmp_path, "train").left_out == ()


def test_an_image_that_is_not_read_is_named_by_its_own_name(tmp_path):
    _xml(tmp_path / "Annotations/a.xml")
    _text(tmp_path / "JPEGImages/a.heic", "")
    ((_, problem),) = open_dataset(tmp_path).findings()[0]
    assert problem.startswith(f"{tmp_path}/JPEGImages/a.heic: ")


def test_training_says_once_what_is_left_out(tmp_path, capsys):
    pytest.importorskip("torch")
    from edge_ssd.training.options import RunOptions
    from edge_ssd.training.run import _open_data

    _xml(tmp_path / "a.xml")
    _image(tmp_path / "a.jpg")
    _image(tmp_path / "b.jpg")
    _open_data(RunOptions(data=str(tmp_path), arch="ssd320_resnet16", out="run"))
    assert capsys.readouterr().err.count("left out: 1 image without an annotation") == 1


@pytest.mark.parametrize(
    ("text", "difficult"),
    [("True", True), ("1", True), ("yes", True), ("False", False), ("", False), ("0", False)],
)
def test_difficult_objects_are_told_by_what_tools_write(tmp_path, text, difficult):
    _xml(tmp_path / "Annotations/a.xml", more=f"<difficult>{text}</difficult>")
    _image(tmp_path / "JPEGImages/a.jpg")
    assert open_dataset(tmp_path).truth(0).difficult.tolist() == [difficult]


def test_another_word_for_difficult_is_refused(tmp_path):
    _xml(tmp_path / "Annotations/a.xml", more="<difficult>maybe</difficult>")
    with pytest.raises(ValueError, match=r"a\.xml: object/difficult: expected 0 or 1, got 'maybe'"):
        open_dataset(tmp_path).annotation(0)


def test_xml_of_another_kind_is_no_image_without_objects(tmp_path):
    _text(tmp_path / "Annotations/a.xml", "<annotations><image name='a.jpg'/></annotations>")
    with pytest.raises(ValueError, match=r"a\.xml: expected <annotation> .*, got <annotations>"):
        open_dataset(tmp_path).annotation(0)
    _text(tmp_path / "cvat/annotations.xml", "<annotations/>")
    with pytest.raises(ValueError, match=r"CVAT for images.*: export it as COCO or Pascal VOC"):
        open_dataset(tmp_path / "cvat")


def _coco(folder, *names, file="annotations/instances_train.json", category=1, encoding="utf-8"):
    images = [{"id": i, "file_name": name, "height": 48, "width": 64} for i, name in enumerate(names)]
    boxes = [{"image_id": i, "category_id": category, "bbox": [1, 2, 30, 20]} for i in range(len(names))]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cat"}]}
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding=encoding)


@pytest.mark.parametrize(
    ("written", "there"),
    [
        (r"images\a.jpg", "images/a.jpg"),  # Label Studio on Windows, X-AnyLabeling
        (r"sub\a.jpg", "images/train/sub/a.jpg"),
        (r"C:\Users\me\a.jpg", "images/a.jpg"),
        ("/data/upload/1/a.jpg", "images/a.jpg"),
        ("../../media/upload/1/a.jpg", "images/a.jpg"),
        (r"a\b.jpg", r"images/a\b.jpg"),  # a name with a backslash goes first
    ],
)
def test_paths_of_other_systems_are_found(tmp_path, written, there):
    _coco(tmp_path, written)
    _image(tmp_path / there)
    assert _names(tmp_path, "train") == [there]


def test_a_path_of_another_machine_is_not_guessed_between_two(tmp_path):
    _coco(tmp_path, "/data/1/a.jpg", "/data/2/a.jpg")
    _image(tmp_path / "images/a.jpg")
    with pytest.raises(ValueError, match=r"expected a path below the images' folder, got /data/1/a\.jpg"):
        open_dataset(tmp_path).check()


@pytest.mark.parametrize(
    ("file", "images"),
    [
        ("annotations/instances_default.json", "images/default"),  # CVAT
        ("annotations/instances_default.json", "images"),
        ("result.json", "images"),  # Label Studio
        ("labels.json", "data"),  # FiftyOne
    ],
)
def test_exports_of_other_tools_are_read_without_a_split(tmp_path, file, images):
    _coco(tmp_path, "a.jpg", file=file, encoding="utf-8-sig")
    _image(tmp_path / images / "a.jpg")
    assert _names(tmp_path) == [f"{images}/a.jpg"]
    _image(tmp_path / images / "sub/b.jpg")
    text = f"1 image that {Path(file).name} does not list (such as {tmp_path}/{images}/sub/b.jpg)"
    assert open_dataset(tmp_path).left_out == (text,)
    part = (tmp_path / file).with_stem(Path(file).stem + "-clean")
    open_dataset(tmp_path).write_part([0], part)
    assert _names(tmp_path, part.stem) == [f"{images}/a.jpg"]


def test_an_unlisted_category_is_named_with_those_that_are(tmp_path):
    _coco(tmp_path, "a.jpg", category=0)
    _image(tmp_path / "images/a.jpg")
    with pytest.raises(ValueError, match=r"image 0: .*category_id 0 is not among the categories \(1 cat\)"):
        open_dataset(tmp_path).check()
