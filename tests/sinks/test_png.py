"""A folder of pictures: which names they get, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_ssd.sinks import open_sink
from tests.media import on_a_full_disk, picture
from tests.results import result


@pytest.fixture
def photos(tmp_path):
    """A folder whose files a source would name."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.jpg", "a.png", "b.jpg", "clip.mp4"):
        (folder / name).touch()
    return folder


def written(folder, sources):
    sink = open_sink(str(folder))
    for i, source in enumerate(sources):
        sink.write(result(sequence=i, source=str(source)))
    sink.close()
    return sorted(os.listdir(folder))


def test_pictures_are_named_after_the_images(tmp_path, photos):
    names = written(tmp_path / "out", [photos / "a.jpg", photos / "b.jpg"])
    assert names == ["a.png", "b.png"]


def test_images_that_differ_in_their_suffix_get_two_pictures(tmp_path, photos):
    names = written(tmp_path / "out", [photos / "a.jpg", photos / "a.png"])
    assert names == ["a.png", "a_000001.png"]


@pytest.mark.parametrize("source", ["demo://", "rtsp://camera/a.jpg", "/dev/video0", "clip.mp4"])
def test_frames_of_anything_else_are_numbered(tmp_path, photos, source):
    source = photos / source if source == "clip.mp4" else source
    assert written(tmp_path / "out", [source] * 3) == ["000000.png", "000001.png", "000002.png"]


def test_the_picture_holds_the_annotated_frame(tmp_path):
    image = picture(100, 120)
    frame_result = result(image, [(30, 40, 80, 90)])
    sink = open_sink(str(tmp_path / "out"))
    sink.write(frame_result)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "out/000000.png")), frame_result.annotated)


def test_the_folder_of_the_images_is_refused(photos):
    with pytest.raises(ValueError, match="photos: holds the images themselves; choose another folder"):
        written(photos, [photos / "a.jpg"])
    assert (photos / "a.png").stat().st_size == 0  # not written over


def test_a_failed_picture_is_named_and_one_that_was_there_stays(tmp_path, monkeypatch):
    sink = open_sink(str(tmp_path / "out"))
    sink.write(result(sequence=0))
    (tmp_path / "out/000001.png").write_bytes(b"of an earlier run")
    monkeypatch.setattr(Path, "write_bytes", on_a_full_disk)
    with pytest.raises(OSError, match=r"000001\.png: .*; 1 pictures are kept"):
        sink.write(result(sequence=1))
    assert sorted(os.listdir(tmp_path / "out")) == ["000000.png", "000001.png"]
    assert (tmp_path / "out/000001.png").read_bytes() == b"of an earlier run"
