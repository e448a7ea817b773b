"""`edge-ssd data check`: every bad file, images that are there twice, and images that two splits share."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("cv2")
pytest.importorskip("tqdm")

import cv2

from edge_ssd import cli
from edge_ssd.datasets import open_dataset
from edge_ssd.datasets.analysis.duplicates import hash_images, identical, look_alikes


def picture(seed):
    """An 80 x 100 image with structure."""
    small = np.random.default_rng(seed).integers(0, 256, (8, 10, 3), np.uint8)
    return cv2.resize(small, (100, 80), interpolation=cv2.INTER_LINEAR)


def xml(xmin=11, name="cat"):
    box = f"<xmin>{xmin}</xmin><ymin>21</ymin><xmax>50</xmax><ymax>60</ymax>"
    return (
        "<annotation><size><width>100</width><height>80</height><depth>3</depth></size>"
        f"<object><name>{name}</name><bndbox>{box}</bndbox></object></annotation>"
    )


@pytest.fixture
def voc(tmp_path):
    """A VOC folder of six images: `train` has a to d, `val` has e and f."""
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (tmp_path / part).mkdir(parents=True)
    for seed, stem in enumerate("abcdef"):
        (tmp_path / f"Annotations/{stem}.xml").write_text(xml())
        cv2.imwrite(str(tmp_path / f"JPEGImages/{stem}.jpg"), picture(seed))
    (tmp_path / "ImageSets/Main/train.txt").write_text("a\nb\nc\nd\n")
    (tmp_path / "ImageSets/Main/val.txt").write_text("e\nf\n")
    return tmp_path


def check(*arguments):
    return cli.main(["data", "check", *map(str, arguments)])


def test_a_good_data_set_has_no_problems(voc, capsys):
    assert check(voc, "--split", "train", "--against", "val") == 0
    assert capsys.readouterr().out.endswith("split train: 4 images, no problems; 0 look alike\n")


def test_every_bad_file_is_named_and_the_rest_can_be_listed(voc, capsys):
    (voc / "Annotations/a.xml").write_text(xml(xmin=-30))
    (voc / "JPEGImages/b.jpg").write_bytes((voc / "JPEGImages/b.jpg").read_bytes()[:500])
    listed = voc / "ImageSets/Main/clean.txt"
    assert check(voc, "--split", "train") == 1
    advice = f"--split train --clean {voc}/ImageSets/Main/train-clean.txt` lists the images that are good"
    assert advice in capsys.readouterr().err
    assert check(voc, "--split", "train", "--clean", listed) == 1
    captured = capsys.readouterr()
    assert "a.jpg: box of 'cat' lies outside the 100x80 image" in captured.out
    assert "b.jpg: the JPEG is truncated" in captured.out
    assert "clean.txt: 2 of 4 images" in captured.out
    assert captured.err.strip().splitlines()[-1].endswith("split train: 2 problems in 4 images")
    assert listed.read_text() == "c\nd\n"
    assert check(voc, "--split", "clean") == 0


def test_more_than_ten_problems_are_all_named(voc, capsys):
    for k in range(12):
        (voc / f"Annotations/z{k}.xml").write_text(xml())
    assert check(voc) == 1
    assert capsys.readouterr().out.count("no such image") == 12


def test_an_image_that_is_no_image_is_named(voc, capsys):
    (voc / "JPEGImages/c.jpg").write_bytes(b"\xff\xd8\xff" + bytes(50) + b"\xff\xd9")
    assert check(voc, "--split", "train") == 1
    assert "c.jpg: " in capsys.readouterr().out


def test_duplicates_and_leaks_are_problems(voc, capsys):
    same = (voc / "JPEGImages/a.jpg").read_bytes()
    for stem in "ce":
        (voc / f"JPEGImages/{stem}.jpg").write_bytes(same)
    clean = voc / "clean.txt"
    assert check(voc, "--split", "train", "--against", "val", "--clean", clean) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.rsplit("/", 1)[0].count("the same image as") for line in lines[:3]] == [1, 1, 1]
    assert "c.jpg: the same image as" in lines[0]
    assert "a.jpg: the same image as" in lines[1]
    assert lines[1].endswith(f"e.jpg of {voc}, split val")
    assert clean.read_text() == "b\nd\n"


def test_a_photo_saved_again_looks_alike_and_is_no_problem(voc, capsys):
    cv2.imwrite(str(voc / "JPEGImages/f.jpg"), picture(1), [cv2.IMWRITE_JPEG_QUALITY, 60])
    assert check(voc, "--split", "train", "--against", "val") == 0
    assert "b.jpg: looks like" in capsys.readouterr().out


def test_another_folder_can_be_checked_against(voc, tmp_path, capsys):
    assert check(voc, "--split", "train", "--against", voc) == 1
    assert capsys.readouterr().out.count("the same image as") == 4


def test_hashes_of_black_images_are_not_alike(voc):
    for stem, level in (("a", 0), ("b", 1)):
        cv2.imwrite(str(voc / f"JPEGImages/{stem}.jpg"), np.full((80, 100, 3), level, np.uint8))
    hashes, problems = hash_images(open_dataset(voc, "train"))
    assert (problems, identical(hashes), look_alikes(hashes)) == ([], [], [])


def test_each_pair_is_found_once_and_an_identical_one_is_not_alike_too(voc):
    (voc / "JPEGImages/b.jpg").write_bytes((voc / "JPEGImages/a.jpg").read_bytes())
    cv2.imwrite(str(voc / "JPEGImages/d.jpg"), picture(2), [cv2.IMWRITE_JPEG_QUALITY, 70])
    hashes, _ = hash_images(open_dataset(voc, "train"))
    assert identical(hashes) == [(1, 0)]
    assert look_alikes(hashes) == [(3, 2)]


def test_a_clean_coco_set_is_an_annotation_file(tmp_path, capsys):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "train").mkdir()
    for k in (1, 2):
        cv2.imwrite(str(tmp_path / f"train/{k}.png"), picture(k))
    boxes = [[0, 0, 10, 10], [0, 0, -5, 10]]
    content = {
        "images": [{"id": k, "file_name": f"{k}.png", "width": 100, "height": 80} for k in (1, 2)],
        "annotations": [
            {"id": k, "image_id": k, "category_id": 3, "bbox": box} for k, box in zip((1, 2), boxes)
        ],
        "categories": [{"id": 3, "name": "cat"}],
    }
    (tmp_path / "annotations/instances_train.json").write_text(json.dumps(content))
    clean = tmp_path / "annotations/instances_clean.json"
    assert check(tmp_path, "--split", "train", "--clean", clean) == 1
    assert "2.png: box of 'cat' is empty or turned around" in capsys.readouterr().out
    left = json.loads(clean.read_text())
    assert [image["id"] for image in left["images"]] == [1]
    assert [item["image_id"] for item in left["annotations"]] == [1]
    assert left["categories"] == content["categories"]
    assert check(tmp_path, "--split", "clean") == 0


def test_rendered_frames_have_no_list_to_write(tmp_path, capsys):
    assert check("demo://?frames=3&size=64x64", "--clean", tmp_path / "x.txt") == 1
    assert "has no list of images" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "images"), [("bccd", 87)])
def test_a_real_split_shares_no_image_with_its_training(shared_folder, name, images, capsys):
    folder = shared_folder / "data" / name
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    assert check(folder, "--split", "val", "--against", "train") == 0
    assert f"{images} images, no problems" in capsys.readouterr().out
