"""Names from files reach a terminal as text: nothing moves the cursor, sets a title or forges a line."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys

import pytest

pytest.importorskip("cv2")
pytest.importorskip("tqdm")

from edge_ssd.models import DEMO_MODEL
from tests.hostile.command_line import edge_ssd
from tests.media import encoded, picture

# C0, C1, bidi, and line feeds that begin lines of their own.
EVIL = "a\x1b]0;title\x07\x1b[2J\x9b31m\u202egpj\u2066\r\nerror: forged\nwarning: forged\x7f"
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def assert_clean(text):
    """No control character but those of bars and line feeds; no forged line."""
    without_bars = re.sub(r"\r|\x1b\[K|\x1b\[A", "", text)
    assert not _CONTROL.search(without_bars), repr(text)
    assert not re.search(r"^\W*(error|warning): forged", text, re.MULTILINE), repr(text)


@pytest.fixture
def model(tmp_path):
    """The demo model under names that hold everything."""
    spec = json.loads(DEMO_MODEL.with_suffix(".json").read_text())
    spec["name"] = EVIL
    spec["class_names"] = [f"{i} {EVIL}" for i in range(len(spec["class_names"]))]
    shutil.copy(DEMO_MODEL, tmp_path / "a.onnx")
    (tmp_path / "a.json").write_text(json.dumps(spec))
    return tmp_path / "a.onnx"


def test_class_and_model_names_of_a_run(model):
    ended = edge_ssd("run", "--model", model, "--source", "demo://?frames=12", cwd=model.parent)
    assert ended.code == 0
    assert_clean(ended.err)
    assert r"\x1b]0;title\x07" in ended.err
    lines = [json.loads(line) for line in ended.out.splitlines()]
    names = {found["label"] for line in lines for found in line["detections"]}
    assert names
    assert all(name[2:] == EVIL for name in names)  # data stay data
    assert ended.out.isascii()


def test_status_line_on_a_terminal(model):
    main, terminal = pty.openpty()
    command = [sys.executable, "-m", "edge_ssd", "run", "--model", model, "--source", "demo://?frames=40"]
    with subprocess.Popen(
        [*command, "--output", "null"], stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal
    ) as process:
        os.close(terminal)
        shown = b""
        try:
            while block := os.read(main, 1 << 16):
                shown += block
        except OSError:  # the last that had the terminal has gone
            pass
    os.close(main)
    assert process.returncode == 0
    assert b"\x1b[K" in shown  # the line is rewritten in place
    assert_clean(shown.decode().replace("\r\n", "\n"))


def test_file_and_class_names_of_a_data_set(tmp_path):
    name = EVIL.replace("\x9b31m", "") + ".png"
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / name).write_bytes(encoded(picture(), ".png"))
    (tmp_path / "images/b.png").write_bytes(b"no image")
    (tmp_path / "annotations").mkdir()
    images = [{"id": i, "file_name": n, "width": 64, "height": 47} for i, n in enumerate([name, "b.png"])]
    content = {
        "images": images,
        "annotations": [{"id": 1, "image_id": 0, "category_id": 1, "bbox": [1, 2, 30, 20]}] * 2,
        "categories": [{"id": 1, "name": EVIL}, {"id": 2, "name": EVIL.upper()}],
    }
    (tmp_path / "annotations/instances_x.json").write_text(json.dumps(content))
    ended = edge_ssd("data", "check", ".", cwd=tmp_path)
    assert ended.code == 1
    assert r"\x1b]0;title\x07" in ended.out
    assert_clean(ended.out)
    assert_clean(ended.err)
    content["images"] = [{**images[0], "height": 48}]
    (tmp_path / "annotations/instances_x.json").write_text(json.dumps(content))
    ended = edge_ssd("data", "stats", ".", cwd=tmp_path)
    assert ended.code == 0
    assert_clean(ended.out)
    assert_clean(ended.err)
    (tmp_path / "images" / "undecodable\udcff\x1b[2J.jpg").write_bytes(b"no image")
    ended = edge_ssd("run", "--source", "images", "--output", "null", cwd=tmp_path)
    assert ended.code == 0
    assert "skipped images/undecodable\\udcff\\x1b[2J.jpg: not an image" in ended.err
    assert_clean(ended.err)


def test_evaluation_and_inspection(model):
    pytest.importorskip("pycocotools")
    ended = edge_ssd("eval", "--model", model, "--data", "demo://?frames=2", cwd=model.parent)
    assert ended.code == 1  # the data have other classes
    assert_clean(ended.out)
    assert_clean(ended.err)


def test_wrong_use_shows_arguments_as_text(tmp_path):
    for arguments in ([f"--{EVIL}"], ["--camera", "0", "--output", EVIL + ".xyz"], ["--source", EVIL]):
        ended = edge_ssd("run", *arguments, cwd=tmp_path)
        assert ended.code in (1, 2)
        assert not _CONTROL.search(ended.err), ended.err
