"""A real SSD that was trained elsewhere, on real photos: all it takes is its spec."""

from __future__ import annotations

import json
import shutil

import cv2
import numpy as np
import pytest

from edge_ssd import Detector
from edge_ssd.boxes import iou_matrix
from edge_ssd.cli import main

# What its authors say of it, as one would type it; see README.md.
SPEC_COMMAND = [
    *("--classes", "face", "--mean", "127", "--std", "128", "--iou-threshold", "0.3"),
    *("--levels", "8:10,16,24", "16:32,48", "32:64,96", "64:128,192,256x240"),
]


@pytest.fixture(scope="module")
def face_model(shared_folder, tmp_path_factory):
    """The model with a spec that `edge-ssd spec` drafted."""
    path = tmp_path_factory.mktemp("face") / "face_slim320.onnx"
    shutil.copyfile(shared_folder / "models/face_slim320/face_slim320.onnx", path)
    assert main(["spec", str(path), *SPEC_COMMAND]) == 0
    return path


@pytest.fixture(scope="module")
def expected(shared_folder):
    """Per photo, boxes and scores above 0.5 by an independent implementation."""
    return json.loads((shared_folder / "models/face_slim320/expected.json").read_text())


def _assert_found(boxes, scores, wanted):
    """Every wanted face above 0.6 is there with IoU > 0.95 and a score within 0.01."""
    sure = [face for face in wanted if face["score"] > 0.6]
    for face in sure:
        iou = iou_matrix(np.array([face["box"]], np.float32), boxes)[0]
        assert iou.max() > 0.95
        assert abs(scores[iou.argmax()] - face["score"]) < 0.01
    return len(sure)


def test_every_face_of_the_photos_is_found(face_model, shared_folder, expected):
    detector = Detector.load(face_model, score_threshold=0.5, engine="onnxruntime", precision="fp32")
    found = 0
    for name, faces in expected.items():
        detections = detector.detect(cv2.imread(str(shared_folder / "photos" / name)))
        found += _assert_found(detections.boxes, detections.scores, faces)
        assert len(detections) == len(faces)
    assert found >= 30


def test_the_command_line_on_the_folder_of_photos(face_model, shared_folder, expected, tmp_path):
    outputs = ["--output", str(tmp_path / "faces.jsonl"), "--output", str(tmp_path / "annotated")]
    engine = ["--engine", "onnxruntime", "--precision", "fp32"]
    photos = shared_folder / "photos"
    assert main(["run", "--source", str(photos), "--model", str(face_model), *outputs, *engine]) == 0
    lines = [json.loads(line) for line in (tmp_path / "faces.jsonl").read_text().splitlines()]
    assert [line["source"] for line in lines] == [str(photos / name) for name in sorted(expected)]
    for line in lines:
        boxes = np.array([d["box"] for d in line["detections"]], np.float32).reshape(-1, 4)
        scores = np.array([d["score"] for d in line["detections"]])
        _assert_found(boxes, scores, expected[line["source"].rsplit("/", 1)[1]])
        picture = cv2.imread(str(tmp_path / "annotated" / (line["source"].rsplit("/", 1)[1][:-4] + ".png")))
        assert picture.shape[:2] == (line["height"], line["width"])
