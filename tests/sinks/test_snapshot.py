"""The picture of the latest frame."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_ssd.sinks import open_sink
from tests.media import on_a_full_disk
from tests.results import result


def _grey(level):
    return result(np.full((48, 64, 3), level, np.uint8), boxes=())


def _level(path):
    return int(cv2.imread(str(path))[0, 0, 0])


@pytest.mark.parametrize("name", ["now.png", "now.jpg"])
def test_it_shows_the_first_frame_at_once_and_the_last_one_at_the_end(tmp_path, name):
    path = tmp_path / "new" / name
    sink = open_sink(str(path))
    sink.write(_grey(10))
    assert _level(path) == 10
    for level in (20, 30):  # within the same second
        sink.write(_grey(level))
    assert _level(path) == 10
    sink.close()
    assert _level(path) == 30
    assert [p.name for p in path.parent.iterdir()] == [name]


def test_a_picture_a_second(tmp_path, monkeypatch):
    clock = iter([5.0, 5.0, 5.9, 6.1, 6.1])
    monkeypatch.setattr("edge_ssd.sinks.snapshot.time.monotonic", lambda: next(clock))
    sink = open_sink(str(tmp_path / "now.png"))
    levels = []
    for level in (10, 20, 30):
        sink.write(_grey(level))
        levels.append(_level(tmp_path / "now.png"))
    assert levels == [10, 10, 30]


def test_until_the_first_frame_there_is_no_picture_and_none_of_an_earlier_run(tmp_path):
    path = tmp_path / "now.png"
    path.write_bytes(b"of an earlier run")
    sink = open_sink(str(path))
    assert list(tmp_path.iterdir()) == []
    sink.close()
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot make this folder"):
        open_sink(str(tmp_path / "file" / "now.png"))
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(OSError, match=r"folder\.png: cannot be written"):
        open_sink(str(tmp_path / "folder.png"))


def test_a_failed_write_names_the_file_and_leaves_the_last_picture(tmp_path, monkeypatch):
    path = tmp_path / "now.png"
    sink = open_sink(str(path))
    sink.write(_grey(10))
    monkeypatch.setattr(Path, "write_bytes", on_a_full_disk)
    sink.write(_grey(20))
    with pytest.raises(OSError, match=r"now\.png"):
        sink.close()
    assert _level(path) == 10
