"""What a data set's check says of orientation tags, deep images, names and boxes that are there twice."""

from __future__ import annotations

import json
import zlib

import numpy as np
import pytest

pytest.importorskip("cv2")
pytest.importorskip("tqdm")

import cv2

from edge_ssd import cli
from edge_ssd.datasets import open_dataset
from edge_ssd.files.image import read_header, read_image, read_image_size


def exif(orientation, order="big"):
    """EXIF's TIFF with a directory of two entries, the second the orientation."""
    number = lambda value, size: value.to_bytes(size, order)  # noqa: E731
    entries = [(0x010F, 2, b"ab\0\0"), (0x0112, 3, number(orientation, 2) + bytes(2))]
    directory = b"".join(
        number(tag, 2) + number(kind, 2) + number(1, 4) + value for tag, kind, value in entries
    )
    head = {"big": b"MM", "little": b"II"}[order] + number(42, 2) + number(8, 4)
    return head + number(len(entries), 2) + directory + bytes(4)


def tagged(pixels, suffix, tags):
    """An image file's bytes with EXIF data."""
    data = cv2.imencode(suffix, pixels)[1].tobytes()
    if suffix == ".png":
        chunk = b"eXIf" + tags
        return (
            data[:33]
            + len(tags).to_bytes(4, "big")
            + chunk
            + zlib.crc32(chunk).to_bytes(4, "big")
            + data[33:]
        )
    segment = b"Exif\0\0" + tags
    return data[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + data[2:]


def test_an_orientation_tag_does_not_turn_the_image(tmp_path):
    pixels = np.zeros((20, 40, 3), np.uint8)
    path = tmp_path / "turned.jpg"
    path.write_bytes(tagged(pixels, ".jpg", exif(6)))
    assert cv2.imread(str(path)).shape == (40, 20, 3)  # the tag works
    assert read_image(path, turned=False).shape == (20, 40, 3)
    assert read_image_size(path) == (20, 40)


@pytest.mark.parametrize("order", ["big", "little"])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("orientation", range(10))
def test_the_header_turns_an_image_as_its_reader_does(tmp_path, suffix, orientation, order):
    path = tmp_path / f"image{suffix}"
    path.write_bytes(tagged(np.zeros((20, 40, 3), np.uint8), suffix, exif(orientation, order)))
    header = read_header(path)
    assert header.orientation == (orientation if 1 <= orientation <= 8 else 1)
    assert header.shown_size == read_image(path).shape[:2]
    assert header.size == (20, 40)


@pytest.mark.parametrize("tags", [b"", b"MM\0*", exif(6)[:20], b"XX" + exif(6)[2:], b"MM\0*\xff\xff\xff\xff"])
def test_exif_data_that_are_cut_or_wrong_turn_nothing(tmp_path, tags):
    path = tmp_path / "image.jpg"
    path.write_bytes(tagged(np.zeros((20, 40, 3), np.uint8), ".jpg", tags))
    assert read_header(path).orientation == 1


@pytest.mark.parametrize(
    ("suffix", "dtype", "depth"),
    [(".jpg", np.uint8, 8), (".png", np.uint8, 8), (".png", np.uint16, 16), (".tif", np.uint16, 16)],
)
def test_the_depth_is_that_of_the_file(tmp_path, suffix, dtype, depth):
    path = tmp_path / f"image{suffix}"
    cv2.imwrite(str(path), np.zeros((8, 9, 3), dtype))
    assert read_header(path).depth == depth


@pytest.fixture
def write(tmp_path):
    """Writes a COCO folder of images a.png, 80 x 60 ...: function of their bytes, boxes and a marked size."""

    def _write(files, boxes=((0, 0, 9, 9, 1),), size=(60, 80), names=("cat",)):
        (tmp_path / "annotations").mkdir()
        entries = {"height": size[0], "width": size[1]}
        content = {
            "images": [{"id": k, "file_name": name, **entries} for k, name in enumerate(files)],
            "categories": [{"id": k, "name": name} for k, name in enumerate(names, 1)],
            "annotations": [
                {"image_id": k, "category_id": label, "bbox": box}
                for k in range(len(files))
                for *box, label in boxes
            ],
        }
        (tmp_path / "annotations/instances.json").write_text(json.dumps(content))
        for name, data in files.items():
            (tmp_path / name).write_bytes(data)
        return tmp_path

    return _write


def noise(dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (60, 80, 3)).astype(dtype)


def png(pixels):
    return cv2.imencode(".png", pixels)[1].tobytes()


def test_an_image_marked_as_its_tag_turns_it_is_a_problem_that_says_so(write):
    folder = write({"a.jpg": tagged(noise(), ".jpg", exif(8))}, size=(80, 60))
    with pytest.raises(
        ValueError, match=r"the image is 80x60, its annotation says 60x80: .* orientation tag \(8\)"
    ):
        open_dataset(folder).check()


def test_another_size_has_nothing_to_do_with_the_tag(write):
    folder = write({"a.jpg": tagged(noise(), ".jpg", exif(8))}, size=(81, 60))
    with pytest.raises(ValueError, match="its annotation says 60x81;"):
        open_dataset(folder).check()


def test_images_with_an_orientation_tag_are_a_remark(write):
    files = {f"{k}.jpg": tagged(noise(seed=k), ".jpg", exif(k)) for k in (1, 3, 6)}
    (remark,) = open_dataset(write(files)).check()
    assert remark.startswith("2 images (")
    assert "/3.jpg, ...) with an orientation tag" in remark
    assert "mogrify -auto-orient" in remark


def test_deep_images_are_a_remark(write):
    (remark,) = open_dataset(write({"a.png": png(noise(np.uint16)), "b.png": png(noise())})).check()
    assert "a.png) of 16 bits a channel: the upper 8 are read" in remark


def test_names_that_differ_in_case_or_blanks_are_a_remark(write):
    boxes = [(k, 0, 9, 9, k) for k in (1, 2, 3, 4)]
    folder = write(
        {"a.png": png(noise())}, boxes, names=("traffic light", "cat", "Traffic Light ", "trafficlight")
    )
    (remark,) = open_dataset(folder).check()
    assert remark == (
        "classes 'traffic light', 'Traffic Light ', 'trafficlight' differ in case or blanks alone; are they one?"
    )


def test_a_box_that_is_there_twice_is_a_remark(write):
    boxes = [(1, 2, 9, 9, 1), (1, 2, 9, 9, 2), (1, 2, 9, 8, 1)]
    (remark,) = open_dataset(write({"a.png": png(noise())}, boxes, names=("cat", "dog"))).check()
    assert remark.endswith("a.png: the same box 2 times (cat, dog): 1 2 10 11")


def test_the_command_shows_ten_remarks_and_is_content(write, capsys):
    files = {f"{k}.png": png(noise(seed=k)) for k in range(12)}
    folder = write(files, [(1, 2, 9, 9, 1)] * 2)
    assert cli.main(["data", "check", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("remark: ") == 10
    assert "... and 2 more remarks" in printed
    assert "12 images, no problems; 12 remarks, 0 look alike" in printed


def test_an_image_with_a_broken_middle_names_the_file_and_the_check(write, capsys):
    whole = png(noise())
    folder = write({"a.png": whole[:500] + bytes(200) + whole[700:], "b.png": whole})
    dataset = open_dataset(folder)
    dataset.check()  # of headers alone
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the text is compared below
        dataset.image(0)
    text = str(error.value)
    assert "\n" not in text
    assert text.startswith(f"{folder / 'a.png'}: ")
    assert text.endswith(f"; `edge-ssd data check {folder}` names every such file")
    assert cli.main(["data", "check", str(folder)]) == 1
    printed = capsys.readouterr().out
    assert "a.png: " in printed
    assert "names every such file" not in printed  # it is what runs


def test_a_class_that_reads_like_background_is_a_remark(write):
    boxes = [(k, 0, 9, 9, k) for k in (1, 2)]
    folder = write({"a.png": png(noise())}, boxes, names=("cat", "__Background__"))
    (remark,) = open_dataset(folder).check()
    assert remark.startswith("class '__Background__' reads like background, which is what no box covers")
