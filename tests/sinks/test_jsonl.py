"""JSON lines: their format, and what is left after a failure."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
from collections import namedtuple
from dataclasses import replace

import numpy as np
import pytest

from edge_ssd.sinks import open_sink
from edge_ssd.sinks.jsonl import JsonlSink, record
from tests.results import result


def lines_of(path):
    return [json.loads(line) for line in path.read_bytes().decode("utf-8").splitlines()]


def test_a_line_has_every_field(tmp_path):
    path = tmp_path / "a.jsonl"
    sink = open_sink(str(path))
    sink.write(
        result(
            boxes=[(1, 2, 30.12345, 40)],
            scores=[0.93],
            labels=[1],
            sequence=7,
            source="d/a.jpg",
            timestamp_ns=5,
        )
    )
    sink.close()
    (line,) = lines_of(path)
    assert line == {
        "sequence": 7,
        "source": "d/a.jpg",
        "timestamp_ns": 5,
        "width": 64,
        "height": 48,
        "detections": [{"box": [1.0, 2.0, 30.123, 40.0], "score": 0.93, "label": "dog", "class_id": 1}],
        "timing_ms": {"capture": 0.1, "preprocess": 0.4, "infer": 7.9, "postprocess": 0.3, "age": 9.123},
    }


def test_a_frame_without_detections_has_a_line(tmp_path):
    sink = open_sink(str(tmp_path / "a.jsonl"))
    sink.write(result(boxes=()))
    sink.close()
    assert lines_of(tmp_path / "a.jsonl")[0]["detections"] == []


def test_each_line_is_in_the_file_at_once(tmp_path):
    sink = open_sink(str(tmp_path / "a.jsonl"))
    for count in (1, 2, 3):
        sink.write(result())
        assert len(lines_of(tmp_path / "a.jsonl")) == count
    sink.close()


def test_any_name_gives_valid_json_that_leads_back_to_the_file(tmp_path):
    names = ["Grüße/猫.jpg", os.fsdecode(b"caf\xe9.jpg"), 'a"b\\c\n.jpg']
    sink = open_sink(str(tmp_path / "a.jsonl"))
    for name in names:
        sink.write(result(source=name, class_names=("Katze ä", "犬")))
    sink.close()
    lines = lines_of(tmp_path / "a.jsonl")
    assert [line["source"] for line in lines] == names
    assert lines[0]["detections"][0]["label"] == "Katze ä"


class FullFile(io.BytesIO):
    """A file on a disk with room for `room` bytes, which takes part of the last write."""

    def __init__(self, room):
        super().__init__()
        self.room = room

    def write(self, data):
        left = self.room - self.tell()
        if left <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data[:left])


def test_a_full_disk_leaves_whole_lines():
    whole = FullFile(10**9)
    JsonlSink(whole, "a.jsonl").write(result())
    length = len(whole.getvalue())
    file = FullFile(3 * length + length // 2)
    sink = JsonlSink(file, "a.jsonl")
    for _ in range(3):
        sink.write(result())
    with pytest.raises(OSError, match=r"a\.jsonl: No space left on device after 3 lines, which are kept"):
        sink.write(result())
    assert file.getvalue() == whole.getvalue() * 3


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
def test_a_device_that_is_full(tmp_path):
    (tmp_path / "a.jsonl").symlink_to("/dev/full")
    sink = open_sink(str(tmp_path / "a.jsonl"))
    with pytest.raises(OSError, match="No space left on device after 0 lines"):
        sink.write(result())
    sink.close()


def test_a_reader_that_has_gone_is_told_apart():
    read_end, write_end = os.pipe()
    os.close(read_end)
    sink = JsonlSink(os.fdopen(write_end, "wb", buffering=0), "standard output")
    with pytest.raises(BrokenPipeError):
        sink.write(result())
    sink.close()


def test_an_older_file_is_not_emptied_on_a_full_disk(tmp_path, monkeypatch):
    (tmp_path / "a.jsonl").write_text("older lines")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 4096))
    with pytest.raises(
        OSError, match=r"a\.jsonl: cannot be written \(the disk is full, and the file that is there"
    ):
        open_sink(str(tmp_path / "a.jsonl"))
    assert (tmp_path / "a.jsonl").read_text() == "older lines"


def test_key_points_are_written_where_the_model_has_them():
    plain = result()
    assert "keypoints" not in record(plain)["detections"][0]
    points = np.array([[[1.5, 2], [3, 4.00049]]], np.float32)
    pointed = replace(plain, detections=replace(plain.detections, keypoints=points))
    assert record(pointed)["detections"][0]["keypoints"] == [[1.5, 2.0], [3.0, 4.0]]
