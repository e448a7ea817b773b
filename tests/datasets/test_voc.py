"""Data sets: VOC, COCO and demo:// give the same kind of truth, and bad files are named before use."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cv2")

import cv2

from edge_ssd import cli
from edge_ssd.datasets import open_dataset
from edge_ssd.files.image import read_image, read_image_size
from edge_ssd.sources.demo import CLASS_NAMES

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("EDGE_SSD_DATA", ROOT.parent / "shared" / "data"))


def _object(name="cat", box=(11, 21, 50, 60), difficult=0):
    corners = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box))
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{corners}</bndbox></object>"


def _xml(*objects, size=(80, 100)):
    height, width = size
    return (
        f"<annotation><size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
        + "".join(objects)
        + "</annotation>"
    )


class VocFolder:
    """A VOC folder under construction; every image is 100 x 80."""

    def __init__(self, path):
        self.path = path
        for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
            (path / part).mkdir(parents=True)

    def add(self, stem, xml, image=True):
        (self.path / "Annotations" / f"{stem}.xml").write_text(xml, encoding="utf-8")
        if image:
            pixels = np.random.default_rng([*stem.encode()]).integers(0, 256, (80, 100, 3), np.uint8)
            cv2.imwrite(str(self.path / "JPEGImages" / f"{stem}.jpg"), pixels)

    def split(self, name, *stems):
        (self.path / f"ImageSets/Main/{name}.txt").write_text("\n".join(stems) + "\n", encoding="utf-8")


@pytest.fixture
def voc(tmp_path):
    folder = VocFolder(tmp_path / "voc")
    folder.add("b", _xml(_object("dog", (1, 1, 100, 80)), _object("cat", difficult=1)))
    folder.add("a", _xml())
    return folder


def test_voc_boxes_lose_one_at_the_low_corner(voc):
    dataset = open_dataset(voc.path)
    truth = dataset.truth(1)
    assert dataset.class_names == ("cat", "dog")
    assert truth.boxes.dtype == np.float32
    np.testing.assert_array_equal(truth.boxes, [[0, 0, 100, 80], [10, 20, 50, 60]])
    assert truth.labels.tolist() == [1, 0]
    assert truth.labels.dtype == np.int32
    assert truth.difficult.tolist() == [False, True]
    assert truth.image_size == (80, 100)


def test_an_image_without_objects_has_empty_truth(voc):
    dataset = open_dataset(voc.path)
    dataset.check()
    assert Path(dataset.image_name(0)).name == "a.jpg"
    assert dataset.truth(0).boxes.shape == (0, 4)
    assert dataset.image(0).shape == (80, 100, 3)


def test_a_split_chooses_images_and_keeps_their_order(voc):
    voc.split("val", "b  1", "a -1", "")
    dataset = open_dataset(voc.path, "val")
    assert [Path(dataset.image_name(i)).stem for i in range(len(dataset))] == ["b", "a"]


@pytest.mark.parametrize("line", ["b (1)", "b (1)  -1", "b (1).JPG", "b (1).jpg 1", "  b (1) "])
def test_a_name_with_blanks_is_found_in_a_list(voc, line):
    voc.add("b (1)", _xml(_object("cat")))
    voc.split("val", line)
    dataset = open_dataset(voc.path, "val")
    assert [Path(dataset.image_name(i)).stem for i in range(len(dataset))] == ["b (1)"]


def test_a_list_may_have_file_names_and_the_whole_line_goes_first(voc):
    voc.add("a 1", _xml())
    voc.split("val", "a.png", "b.jpg 1", "a 1", "a some words", "nowhere to be found")
    dataset = open_dataset(voc.path, "val")
    stems = [Path(dataset.image_name(i)).stem for i in range(len(dataset))]
    assert stems == ["a", "b", "a 1", "a", "nowhere to be found"]


def test_an_unknown_split_names_those_that_exist(voc):
    voc.split("train", "a")
    with pytest.raises(FileNotFoundError, match=r"test\.txt: no such split; there is: train"):
        open_dataset(voc.path, "test")


def test_classes_txt_sets_names_and_order(voc):
    (voc.path / "classes.txt").write_text("dog\ncat\n", encoding="utf-8")
    assert open_dataset(voc.path).class_names == ("dog", "cat")
    (voc.path / "classes.txt").write_text("dog\ncat\n", encoding="utf-8-sig")  # as Windows's editors do
    assert open_dataset(voc.path).class_names == ("dog", "cat")


def test_a_list_that_is_no_text_is_named(voc):
    voc.split("train", "a")
    (voc.path / "ImageSets/Main/train.txt").write_bytes(b"\xff\xfe a\n")
    with pytest.raises(ValueError, match=r"train\.txt: not UTF-8 text"):
        open_dataset(voc.path, "train")


def test_given_class_names_set_the_labels_and_need_not_all_occur(voc):
    dataset = open_dataset(voc.path, class_names=("bird", "dog", "cat"))
    assert dataset.truth(1).labels.tolist() == [1, 2]
    dataset.check()


def test_the_size_comes_from_the_image_where_the_xml_has_none(voc):
    voc.add("b", "<annotation>" + _object() + _object("dog") + "</annotation>")
    dataset = open_dataset(voc.path)
    assert dataset.truth(1).image_size == (80, 100)
    dataset.check()


def test_objects_of_an_objects_part_are_not_read(voc):
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    voc.add("b", _xml(_object("dog"), _object().replace("</object>", part + "</object>")))
    assert open_dataset(voc.path).class_names == ("cat", "dog")


def test_a_box_one_pixel_outside_is_clipped(voc):
    voc.add("b", _xml(_object("cat", (0, 1, 101, 81)), _object("dog")))
    dataset = open_dataset(voc.path)
    dataset.check()
    np.testing.assert_array_equal(dataset.truth(1).boxes[0], [0, 0, 100, 80])


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        (_xml(_object(box=(30, 30, 29, 60))), "b.jpg: box of 'cat' is empty or turned around: 29 29 29 60"),
        (_xml(_object(box=(50, 30, 20, 60))), "empty or turned around"),
        (_xml(_object(box=(101, 30, 101, 60))), "empty or turned around"),
        (_xml(_object(box=("nan", 30, 40, 60))), "box of 'cat' is not finite: nan"),
        (_xml(_object(box=("inf", 30, 40, 60))), "not finite"),
        (_xml(_object(box=(-5, 30, 40, 60))), "lies outside the 100x80 image"),
        (_xml(_object(box=(5, 30, 40, 90))), "lies outside the 100x80 image"),
        (
            _xml(_object(box=(0.1, 0.2, 0.9, 0.8))),
            "b.jpg: box of 'cat' is less than a pixel: -0.9 -0.8 0.9 0.8",
        ),
        (_xml(_object(box=("x", 30, 40, 60))), "b.xml: object/bndbox/xmin: expected a number, got 'x'"),
        (_xml(_object(box=("1_0", 30, 40, 60))), "b.xml: object/bndbox/xmin: expected a number, got '1_0'"),
        (_xml("<object><name>cat</name></object>"), "b.xml: object/bndbox/xmin: missing"),
        (_xml(_object(name="")), "b.xml: object/name: missing"),
        (_xml(_object(), size=(100, 80)), "the image is 100x80, its annotation says 80x100"),
        ("<annotation><object>", "b.xml: no element found"),
        ("", "b.xml: no element found"),
        *(
            (f'<?xml version="1.0" encoding="{name}"?>' + _xml(_object()), "b.xml: ")
            for name in ("foo", "hex", "rot13", "zlib", "undefined", "idna", "shift_jis", "utf-7", "mbcs")
        ),
        (
            "<!DOCTYPE a [<!ENTITY b 'c'>]>" + _xml(_object("&b;")),
            "b.xml: a document type (<!DOCTYPE) has no",
        ),
        ("<a>" * 100_000, "b.xml: nested too deeply for an annotation"),
        (
            "<a>" + "<b/>" * 1_100_000 + "</a>",
            "b.xml: has 4400007 bytes, more than the 4194304 that are read",
        ),
        (_xml(_object(), size=("1e400", 100)), "b.xml: cannot convert float infinity to integer"),
        (
            _xml(_object(), size=("1e300", 100)),
            "b.xml: size: expected sides of at most 1048576 pixels",
        ),
        (_xml(_object(), size=("nan", 100)), "b.xml: cannot convert float NaN to integer"),
        (_xml(_object() * 10_001), "b.xml: expected at most 10000 objects, got 10001"),
    ],
)
def test_check_names_the_file_and_what_is_wrong_with_it(voc, xml, message):
    voc.add("b", xml)
    voc.add("c", _xml(_object("cat"), _object("dog")))
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the text is compared below
        open_dataset(voc.path).check()
    assert message in str(error.value)


def test_truth_refuses_a_box_that_is_not_finite(voc):
    """Without a check before: as a score takes it."""
    voc.add("b", _xml(_object(box=("nan", 30, 40, 60))))
    with pytest.raises(ValueError, match=r"b\.jpg: a box is not finite"):
        open_dataset(voc.path).truth(1)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b"])
def test_a_name_of_a_list_stays_in_the_folder(voc, name):
    pixels = np.zeros((8, 8, 3), np.uint8)
    cv2.imwrite(str(voc.path / "secret.jpg"), pixels)  # beside JPEGImages
    voc.split("train", "b", name)
    dataset = open_dataset(voc.path, "train")
    for read in (dataset.image, dataset.annotation, dataset.image_name):
        with pytest.raises(ValueError, match="expected names of images in JPEGImages, got"):
            read(1)
    with pytest.raises(ValueError, match="expected names of images"):
        dataset.check()


def test_files_that_never_end_are_named(voc):
    voc.add("c", _xml(_object()))
    for path in (voc.path / "Annotations/c.xml", voc.path / "JPEGImages/b.jpg"):
        path.unlink()
        os.mkfifo(path)
    problems, _ = open_dataset(voc.path).findings()
    texts = [text for _, text in problems]
    assert len(texts) == 2
    assert all("expected a regular file, got a pipe" in text for text in texts)
    os.mkfifo(voc.path / "classes.txt")
    with pytest.raises(ValueError, match=r"classes\.txt: expected a regular file, got a pipe"):
        open_dataset(voc.path)


def test_check_refuses_an_unknown_class(voc):
    with pytest.raises(ValueError, match=r"b\.jpg: unknown class 'dog'; known: cat"):
        open_dataset(voc.path, class_names=("cat",)).check()
    with pytest.raises(ValueError, match=r"b\.jpg: class 'dog' is not among cat"):
        open_dataset(voc.path, class_names=("cat",)).truth(1)


def test_a_class_without_a_box_stays_a_class_and_is_a_remark(voc):
    (voc.path / "classes.txt").write_text("dog\ncat\ncow\n", encoding="utf-8")
    dataset = open_dataset(voc.path)
    (remark,) = dataset.check()
    assert remark.startswith("no box of cow: ")
    assert dataset.class_names == ("dog", "cat", "cow")


def test_check_refuses_a_data_set_without_a_box(voc):
    voc.split("val", "a")
    for names in ((), ("cat", "dog")):
        with pytest.raises(ValueError, match=r"split val: no image has a box$"):
            open_dataset(voc.path, "val", names).check()


def test_check_refuses_a_data_set_without_images(tmp_path):
    folder = VocFolder(tmp_path / "voc")
    with pytest.raises(ValueError, match="no images"):
        open_dataset(folder.path).check()


def test_check_names_missing_and_broken_images(voc):
    voc.split("train", "a", "b", "c", "d", "e", "nowhere")
    voc.add("c", _xml(_object()), image=False)
    for stem, change in (("d", lambda data: data[: len(data) // 2]), ("e", lambda _: b"not an image")):
        voc.add(stem, _xml(_object()))
        path = voc.path / f"JPEGImages/{stem}.jpg"
        path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the text is compared below
        open_dataset(voc.path, "train").check()
    text = str(error.value)
    assert "4 problems" in text
    assert "c.jpg: no such image" in text
    assert "d.jpg: the JPEG is truncated" in text
    assert "e.jpg: not an image that OpenCV can read" in text
    assert "nowhere.xml: no such file" in text


def test_check_shows_ten_problems_and_counts_the_rest(voc):
    for i in range(13):
        voc.add(f"bad{i:02d}", _xml(_object(box=(50, 30, 20, 60))))
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the text is compared below
        open_dataset(voc.path).check()
    text = str(error.value)
    assert "13 problems" in text
    assert text.count("turned around") == 10
    assert "; and 3 more; `edge-ssd data check " in text


def test_check_names_the_command_that_lists_the_good_images(voc):
    voc.split("train", "a", "b", "c")
    voc.add("c", _xml(_object(box=(50, 30, 20, 60))))
    listed = voc.path / "ImageSets/Main/train-clean.txt"
    command = f"edge-ssd data check {voc.path} --split train --clean {listed}"
    with pytest.raises(
        ValueError, match=re.escape(f"`{command}` lists the images that are good, for --split")
    ):
        open_dataset(voc.path, "train").check()
    assert cli.main(command.split()[1:]) == 1
    open_dataset(voc.path, "train-clean").check()


def test_an_xml_document_type_is_refused_before_it_expands(voc):
    entities = '<!ENTITY a0 "lol">' + "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 10))
    voc.add("b", f"<!DOCTYPE x [{entities}]>" + _xml(_object(name="&a9;")))
    with pytest.raises(ValueError, match=r"b\.xml: a document type"):
        open_dataset(voc.path).truth(1)


def test_a_data_set_can_be_pickled_for_worker_processes(voc):
    for dataset in (open_dataset(voc.path), open_dataset("demo://?frames=3&size=96x64")):
        there = pickle.loads(pickle.dumps(dataset))
        np.testing.assert_array_equal(there.image(1), dataset.image(1))
        np.testing.assert_array_equal(there.truth(1).boxes, dataset.truth(1).boxes)


@pytest.mark.parametrize(
    "path", ["labels/a.txt", "labels/train/a.txt", "train/labels/a.txt", "train/_annotations.coco.json"]
)
def test_other_layouts_are_recognised(tmp_path, path):
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text("")
    expected = (
        "YOLO" if path.endswith("txt") else f"{path}, COCO as Roboflow has it: convert it with `edge-ssd data"
    )
    with pytest.raises(ValueError, match=f"found .*{expected}"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(("address", "message"), [("nowhere", "no such folder"), (".", "found neither")])
def test_what_is_no_data_set_is_refused(tmp_path, monkeypatch, address, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        open_dataset(address)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp"])
def test_the_size_in_the_header_is_that_of_the_pixels(tmp_path, suffix):
    path = tmp_path / f"image{suffix}"
    cv2.imwrite(str(path), np.zeros((33, 57, 3), np.uint8))
    assert read_image_size(path) == (33, 57) == read_image(path).shape[:2]


def test_areas_are_those_of_the_boxes(voc):
    assert open_dataset(voc.path).areas(1).tolist() == [8000, 1600]
    assert open_dataset(voc.path).areas(0).shape == (0,)


def test_demo_frames_are_a_data_set():
    dataset = open_dataset("demo://?seed=4&frames=5&size=160x120&scene=1")
    dataset.check()
    assert len(dataset) == 5
    assert dataset.class_names == CLASS_NAMES
    assert dataset.image(4).shape == (120, 160, 3)
    assert len(dataset.truth(4).boxes) == len(dataset.truth(4).labels) >= 1


def test_a_demo_data_set_takes_the_order_of_given_names():
    own = open_dataset("demo://?frames=2&size=160x120")
    turned = open_dataset("demo://?frames=2&size=160x120", class_names=CLASS_NAMES[::-1])
    np.testing.assert_array_equal(turned.truth(0).labels, len(CLASS_NAMES) - 1 - own.truth(0).labels)


@pytest.mark.parametrize(
    ("address", "split", "names", "message"),
    [
        ("demo://?seed=1", "", (), "a data set is finite; add frames=N"),
        ("demo://?frames=5", "val", (), "split: demo:// has none"),
        ("demo://?frames=5", "", ("circle",), "missing: square"),
    ],
)
def test_a_demo_address_that_is_no_data_set_is_refused(address, split, names, message):
    with pytest.raises(ValueError, match=message):
        open_dataset(address, split, names)


def test_writing_into_an_image_does_not_change_the_data_set():
    dataset = open_dataset("demo://?frames=1&size=96x64")
    before = dataset.image(0)
    dataset.image(0)[:] = 0
    np.testing.assert_array_equal(dataset.image(0), before)


@pytest.mark.skipif(not (DATA / "bccd").is_dir(), reason=f"no data set in {DATA}; set EDGE_SSD_DATA")
def test_a_real_data_set_passes_the_check():
    dataset = open_dataset(DATA / "bccd", "val")
    dataset.check()
    assert dataset.class_names == ("Platelets", "RBC", "WBC")
    assert sum(len(dataset.truth(i).boxes) for i in range(len(dataset))) == 1137
    assert dataset.image(0).shape[:2] == dataset.truth(0).image_size == (480, 640)


def test_without_opencv_the_error_says_what_to_install():
    code = (
        "import sys; sys.modules['cv2'] = None\n"
        "from edge_ssd.datasets import open_dataset\n"
        "try: open_dataset('demo://?frames=2')\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert "demo://?frames=2 needs OpenCV" in done.stdout
    assert "pip install edge-ssd[cpu]" in done.stdout
