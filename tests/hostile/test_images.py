"""Images that would take all memory, and what is named as an image and never ends."""

from __future__ import annotations

import json
import os
import socket

import pytest

pytest.importorskip("cv2")
pytest.importorskip("tqdm")

import cv2

from edge_ssd.files.image import read_image
from tests.hostile.command_line import MOST_BYTES, MOST_SECONDS, assert_refused, edge_ssd
from tests.hostile.images import BOMBS, jpeg
from tests.media import encoded, picture, write_video


@pytest.fixture
def endless(tmp_path):
    """A folder with what is named as an image and is no file: a pipe, a socket, links to devices."""
    folder = tmp_path / "images"
    folder.mkdir()
    os.mkfifo(folder / "pipe.jpg")
    (folder / "zero.png").symlink_to("/dev/zero")
    (folder / "null.bmp").symlink_to("/dev/null")
    with socket.socket(socket.AF_UNIX) as bound:
        here = os.getcwd()
        os.chdir(folder)  # the path of a socket is short
        try:
            bound.bind("socket.webp")
        finally:
            os.chdir(here)
        yield folder


def write_coco(folder, names):
    (folder / "annotations").mkdir()
    images = [{"id": i, "file_name": name, "width": 64, "height": 48} for i, name in enumerate(names)]
    boxes = [{"id": i, "image_id": i, "category_id": 1, "bbox": [1, 2, 30, 20]} for i in range(len(names))]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cat"}]}
    (folder / "annotations/instances_x.json").write_text(json.dumps(content))


def test_image_that_claims_to_be_huge_is_refused(tmp_path):
    (tmp_path / "a.jpg").write_bytes(BOMBS["a.jpg"])
    ended = edge_ssd("run", "--source", "a.jpg", "--output", "null", cwd=tmp_path)
    assert_refused(ended, "a.jpg: the image is too large: 30000 x 30000", "EDGE_SSD_MAX_MEGAPIXELS")


@pytest.mark.parametrize("name", BOMBS)
def test_every_kind_of_image_is_looked_at_before_it_is_decoded(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(BOMBS[name])
    with pytest.raises(ValueError, match=f"{name}: the image is too large"):
        read_image(path)


def test_limit_can_be_raised_and_opencv_has_the_same(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(picture(1100, 1000), ".png"))
    arguments = ("run", "--source", "a.png", "--output", "null")
    ended = edge_ssd(*arguments, cwd=tmp_path, EDGE_SSD_MAX_MEGAPIXELS="1")
    assert_refused(ended, "a.png: the image is too large: 1000 x 1100 pixels; expected at most 1 megapixels")
    assert edge_ssd(*arguments, cwd=tmp_path, EDGE_SSD_MAX_MEGAPIXELS="1.2").code == 0
    ended = edge_ssd(*arguments, cwd=tmp_path, EDGE_SSD_MAX_MEGAPIXELS="many")
    assert_refused(ended, "EDGE_SSD_MAX_MEGAPIXELS: expected a number above 0, got 'many'")


def test_in_a_folder_they_are_named_and_skipped(endless):
    for name, data in BOMBS.items():
        (endless / name).write_bytes(data)
    (endless / "good.png").write_bytes(encoded(picture(), ".png"))
    ended = edge_ssd("run", "--source", ".", "--output", "o.jsonl", cwd=endless)
    assert ended.code == 0
    skipped = sorted(line.split()[1] for line in ended.err.splitlines() if line.startswith("skipped "))
    named = sorted([*BOMBS, "pipe.jpg", "zero.png", "null.bmp", "socket.webp"])
    assert skipped == [f"{name}:" for name in named]
    (line,) = (endless / "o.jsonl").read_text().splitlines()
    assert json.loads(line)["source"] == "good.png"
    assert ended.seconds < MOST_SECONDS
    assert ended.peak_bytes < MOST_BYTES


def test_in_a_data_set_they_are_problems(endless):
    (endless / "a.jpg").write_bytes(BOMBS["a.jpg"])
    write_coco(endless.parent, ["a.jpg", "pipe.jpg", "zero.png"])
    ended = edge_ssd("data", "check", endless.parent, cwd=endless)
    assert_refused(ended, "3 problems in 3 images")
    assert "a.jpg: the image is too large" in ended.out
    assert "pipe.jpg: expected a regular file, got a pipe" in ended.out
    assert "zero.png: expected a regular file, got a device" in ended.out
    ended = edge_ssd("data", "stats", endless.parent, cwd=endless)
    assert_refused(ended, "a.jpg: the image is too large", "names every such file")


def test_image_just_below_the_limit_stays_within_the_budget(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg(10000, 9999))
    ended = edge_ssd("run", "--source", "a.jpg", "--output", "null", cwd=tmp_path)
    assert ended.code == 0
    assert ended.seconds < MOST_SECONDS
    assert ended.peak_bytes < MOST_BYTES


def test_pipe_named_as_a_video_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.mp4")
    ended = edge_ssd("run", "--source", "a.mp4", "--output", "null", cwd=tmp_path)
    assert_refused(ended, "a.mp4: expected a regular file")


def test_video_with_huge_frames_is_refused(tmp_path):
    write_video(tmp_path / "a.avi", 2, codec="MJPG")
    arguments = ("run", "--source", "a.avi", "--output", "null")
    ended = edge_ssd(*arguments, cwd=tmp_path, EDGE_SSD_MAX_MEGAPIXELS="0.003")
    assert_refused(ended, "a.avi: the image is too large: 64 x 48 pixels")


def test_limit_of_opencv_is_told_as_ours(tmp_path, monkeypatch):
    """Where the header passes and OpenCV has its own limit."""

    def refuse(*_):
        error = cv2.error("")
        error.code, error.err = -215, "pixels <= CV_IO_MAX_IMAGE_PIXELS"
        raise error

    monkeypatch.setattr(cv2, "imdecode", refuse)
    (tmp_path / "a.png").write_bytes(encoded(picture(), ".png"))
    with pytest.raises(ValueError, match=r"a\.png: the image is too large$"):
        read_image(tmp_path / "a.png")
