"""The model that comes with the package, on frames that its training never saw."""

from __future__ import annotations

import json

import cv2
import pytest

from edge_ssd import Detector
from edge_ssd.cli import main
from edge_ssd.datasets import open_dataset
from edge_ssd.models import DEMO_MODEL
from edge_ssd.sources.demo import CLASS_NAMES

UNSEEN = "demo://?seed=1000&frames=60&scene=1"


def test_it_is_small_enough_to_be_cloned():
    assert DEMO_MODEL.stat().st_size <= 12 * 2**20


def test_it_knows_the_classes_of_the_rendered_camera():
    assert Detector.load(DEMO_MODEL).class_names == CLASS_NAMES


def test_it_detects_what_it_never_saw():
    pytest.importorskip("pycocotools")
    from edge_ssd.evaluation import evaluate

    with Detector.load(DEMO_MODEL, score_threshold=None) as detector:
        report = evaluate(detector.detect, open_dataset(UNSEEN), detector.class_names)
    # Its model card says more on 500 frames; 60 frames leave some room for luck.
    assert report["AP50"] > 0.85
    assert report["AP"] > 0.60


def test_run_without_a_model_takes_it(tmp_path):
    outputs = [str(tmp_path / name) for name in ("demo.jsonl", "demo.mp4", "demo.png")]
    options = [option for output in outputs for option in ("--output", output)]
    assert main(["run", "--source", "demo://?seed=1000&frames=12", *options]) == 0
    lines = [json.loads(line) for line in (tmp_path / "demo.jsonl").read_text().splitlines()]
    assert [line["sequence"] for line in lines] == list(range(12))
    assert sum(len(line["detections"]) for line in lines) > 12
    assert cv2.imread(outputs[2]).shape == (480, 640, 3)
    video = cv2.VideoCapture(outputs[1])
    assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == 12
