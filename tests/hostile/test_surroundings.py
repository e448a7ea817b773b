"""Surroundings and names as users have them, through the command line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

pytest.importorskip("cv2")
pytest.importorskip("tqdm")

from edge_ssd.models import DEMO_MODEL
from tests.conftest import ROOT
from tests.hostile.command_line import assert_refused, edge_ssd
from tests.media import encoded, picture, write_video

_DEMO = ["run", "--source", "demo://?frames=3&size=64x64"]


def _assert_wrong_use(ended, *parts):
    assert ended.code == 2, ended
    assert "Traceback" not in ended.err
    last = ended.err.strip().splitlines()[-1]
    assert last.startswith("edge-ssd run: error: "), ended
    for part in parts:
        assert part in last, last


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (
            "rtsp://u:s3cret@127.0.0.1:8554/out",
            "rtsp://127.0.0.1:8554/out: no output of kind rtsp://; known: ",
        ),
        ("display://0", "display://0: no output of kind display://; "),
        ("webrtc://@:8554/output", "a picture for a robot without a screen: --output now.png"),
        ("/dev/video9", "/dev/video9: no output to a device; known: "),
        ("", "'': is empty"),
    ],
)
def test_output_that_is_no_file_is_refused(tmp_path, target, said):
    ended = edge_ssd(*_DEMO, "--output", target, cwd=tmp_path)
    _assert_wrong_use(ended, "--output ", said)
    assert "s3cret" not in ended.err
    assert not list(tmp_path.iterdir())


def test_names_with_a_colon_are_read_and_written(tmp_path):
    name = "2024-05-01T10:20:30.mp4"
    targets = ["--output", name, "--output", "file://10:20.avi", "--output", "file://a%20b.jsonl"]
    assert edge_ssd(*_DEMO, *targets, cwd=tmp_path).code == 0
    for source in (name, f"./{name}", "10:20.avi", f"file://{name}"):
        assert edge_ssd("run", "--source", source, "--output", "again.jsonl", cwd=tmp_path).code == 0
        assert len((tmp_path / "again.jsonl").read_text().splitlines()) == 3
    there = sorted(path.name for path in tmp_path.iterdir())
    assert there == ["10:20.avi", name, "a b.jsonl", "again.jsonl"]
    ended = edge_ssd("run", "--source", name, "--output", f"file://{name}", cwd=tmp_path)
    _assert_wrong_use(ended, "is the source itself")


def test_empty_source_is_not_the_working_directory(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(picture(), ".png"))
    for option in ("--source", "--camera"):
        _assert_wrong_use(edge_ssd("run", option, "", "--output", "null", cwd=tmp_path), f"{option} is empty")
    assert_refused(
        edge_ssd("data", "stats", "", cwd=tmp_path), "data: is empty; expected a VOC or COCO folder"
    )


def test_folder_of_frames_is_in_order_and_says_what_is_left_out(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for name in ("frame10.png", "frame2.jfif", "frame1.png"):
        (folder / name).write_bytes(encoded(picture(), ".jpg" if name.endswith("jfif") else ".png"))
    for name in ("c.heic", "d.avif"):
        (folder / name).touch()
    ended = edge_ssd("run", "--source", "frames", "--output", "o.jsonl", cwd=tmp_path)
    assert ended.code == 0
    assert ended.err.count("frames: left out 2 files (.avif, .heic)") == 1
    lines = map(json.loads, (tmp_path / "o.jsonl").read_text().splitlines())
    assert [line["source"] for line in lines] == [
        f"frames/{n}" for n in ("frame1.png", "frame2.jfif", "frame10.png")
    ]


def test_data_sets_of_windows(tmp_path):
    content = {
        "images": [{"id": 1, "file_name": r"images\a.png", "width": 64, "height": 48}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20]}],
        "categories": [{"id": 1, "name": "Müll"}],
    }
    (tmp_path / "annotations").mkdir()
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.png").write_bytes(encoded(picture(), ".png"))
    (tmp_path / "annotations/instances_x.json").write_text(json.dumps(content), encoding="utf-8-sig")
    assert edge_ssd("data", "check", ".", cwd=tmp_path).code == 0
    ended = edge_ssd("data", "stats", ".", cwd=tmp_path, PYTHONIOENCODING="ascii", PYTHONUTF8="0", LC_ALL="C")
    assert (ended.code, "M\\xfcll" in ended.out) == (0, True)
    content["annotations"][0]["category_id"] = 0
    (tmp_path / "annotations/instances_x.json").write_text(json.dumps(content))
    ended = edge_ssd("data", "check", ".", cwd=tmp_path)
    assert_refused(ended, "2 problems in 1 images")
    assert "category_id 0 is not among the categories (1 Müll)" in ended.out


def test_class_name_with_a_comma_can_be_chosen(tmp_path):
    spec = json.loads(DEMO_MODEL.with_suffix(".json").read_text())
    spec["class_names"][0] = "Schraube, klein"
    (tmp_path / "m.json").write_text(json.dumps(spec))
    shutil.copy(DEMO_MODEL, tmp_path / "m.onnx")
    chosen = edge_ssd(
        *_DEMO, "--model", "m.onnx", "--output", "-", "--classes", '"Schraube, klein"', cwd=tmp_path
    )
    assert chosen.code == 0, chosen
    _assert_wrong_use(
        edge_ssd(*_DEMO, "--model", "m.onnx", "--classes", "Schraube, klein", cwd=tmp_path), "Schraube"
    )
    _assert_wrong_use(
        edge_ssd(*_DEMO, "--classes", '"square', cwd=tmp_path), "--classes: expected names with commas"
    )


def test_home_that_cannot_be_written_is_named_with_what_helps(tmp_path):
    """A run needs none; a bundle is unpacked there."""
    (tmp_path / "home").touch()  # no folder, for root neither
    nowhere = {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": ""}
    write_video(tmp_path / "v.mp4", 2)
    assert edge_ssd("run", "--source", "v.mp4", "--output", "o.jsonl", cwd=tmp_path, **nowhere).code == 0
    for suffix in (".onnx", ".json"):
        shutil.copy(DEMO_MODEL.with_suffix(suffix), tmp_path / f"m{suffix}")
    assert edge_ssd("bundle", "m.onnx", "--out", "b.zip", cwd=tmp_path, **nowhere).code == 0
    run = ["run", "--model", "b.zip", "--source", "v.mp4", "--output", "o.jsonl"]
    assert_refused(edge_ssd(*run, cwd=tmp_path, **nowhere), "home/.cache", "let XDG_CACHE_HOME name a folder")
    assert edge_ssd(*run, cwd=tmp_path, **{**nowhere, "XDG_CACHE_HOME": str(tmp_path / "cache")}).code == 0


@pytest.mark.skipif(sys.platform != "linux", reason="shared memory is a folder on Linux only")
def test_small_shared_memory_is_said_before_the_first_batch(tmp_path):
    """Docker's 64 MB, in a mount namespace of its own."""
    pytest.importorskip("torch")
    mount = "mount -t tmpfs -o size=64m tmpfs /dev/shm"
    apart = ["unshare", "-rm", "sh", "-c"]
    if not shutil.which("unshare") or subprocess.run([*apart, mount], capture_output=True).returncode:
        pytest.skip("no mount namespaces here")
    train = (
        "train --data 'demo://?frames=256' --arch ssd320_resnet16 --input-size 640 --epochs 1 --batch 32 --workers 2 "
        "--threads 1 --out run"
    )
    ended = subprocess.run(
        [*apart, f'{mount} && exec "{sys.executable}" -m edge_ssd {train}'],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    last = ended.stderr.strip().splitlines()[-1]
    assert ended.returncode == 1, ended
    assert last.startswith(
        "error: /dev/shm: batches of 32 images from 2 workers need 197 MB of shared memory, "
    )
    assert last.endswith("take --workers 0, or give the container more: docker run --shm-size 384m")
