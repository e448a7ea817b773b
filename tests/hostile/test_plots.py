"""Names in plots are text: no mathematics, no missing letters, no length that leaves room for nothing else."""

from __future__ import annotations

import json
import shutil

import pytest

pytest.importorskip("cv2")
pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")

import cv2

from edge_ssd.models import DEMO_MODEL
from edge_ssd.sources.demo import CLASS_NAMES, DemoOptions, DemoStream
from tests.hostile.command_line import edge_ssd

_NAMES = [r"$\bad{$", r"$x^$ costs $5", "猫\u202e", "a\nb\x1b[2J", "x" * 100_000, r"\frac{", "$$", "_hidden"]


@pytest.fixture
def folder(tmp_path):
    """The demo model and frames that it knows, under names that are no mathematics."""
    names = dict(zip(CLASS_NAMES, _NAMES))
    spec = json.loads(DEMO_MODEL.with_suffix(".json").read_text())
    spec["class_names"] = [names[name] for name in spec["class_names"]]
    shutil.copy(DEMO_MODEL, tmp_path / "$m^$.onnx")
    (tmp_path / "$m^$.json").write_text(json.dumps(spec))
    (tmp_path / "d$_$/annotations").mkdir(parents=True)
    (tmp_path / "d$_$/images").mkdir()
    images, boxes = [], []
    stream = DemoStream(DemoOptions(seed=7, frames=3, scene_frames=1))
    for i, frame in enumerate(stream):
        images.append({"id": i, "file_name": f"$i^${i}.png", "width": 640, "height": 480})
        cv2.imwrite(str(tmp_path / f"d$_$/images/$i^${i}.png"), frame.image)
        for (x1, y1, x2, y2), label in zip(frame.boxes.tolist(), frame.labels.tolist()):
            boxes.append({"image_id": i, "category_id": label, "bbox": [x1, y1, x2 - x1, y2 - y1]})
    categories = [{"id": i, "name": name} for i, name in enumerate(_NAMES)]
    content = {"images": images, "annotations": boxes, "categories": categories}
    (tmp_path / "d$_$/annotations/instances_x.json").write_text(json.dumps(content))
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ["eval", "--model", "$m^$.onnx", "--data", "d$_$", "--plot", "a.png", "--worst", "b.png"],
        ["data", "stats", "d$_$", "--plot", "a.png"],
        ["priors", "--model", "$m^$.onnx", "--data", "d$_$", "--plot", "a.png"],
    ],
)
def test_names_are_drawn_as_text(folder, arguments):
    if arguments[0] == "eval":
        pytest.importorskip("pycocotools")
    ended = edge_ssd(*arguments, cwd=folder)
    assert ended.code == 0, ended.err
    assert r"$\bad{$" in ended.out
    assert max(map(len, ended.out.splitlines())) < 300
    assert "Glyph" not in ended.err
    assert "\x1b[2J" not in ended.out + ended.err
    for name in ("a.png", "b.png")[: 1 + ("--worst" in arguments)]:
        picture = cv2.imread(str(folder / name))
        assert picture is not None
        assert max(picture.shape) < 4000


def test_plot_that_cannot_be_written_leaves_the_numbers(folder):
    ended = edge_ssd("data", "stats", "d$_$", "--plot", "nowhere/a.png", cwd=folder)
    assert ended.code == 1
    assert "3 images: 640x480 (3)" in ended.out
    assert ended.err.splitlines()[-1].startswith("error: ")
