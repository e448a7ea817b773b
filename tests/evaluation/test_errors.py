"""Confusions, misses and the worst images, on cases small enough to count."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edge_ssd import Detections, cli
from edge_ssd.datasets import Truth, open_dataset
from edge_ssd.evaluation import Predictions
from edge_ssd.evaluation.errors import (
    badness,
    confusion_matrix,
    confusion_report,
    confusion_text,
    match_image,
)

A, B, C = (0, 0, 10, 10), (20, 20, 40, 40), (60, 60, 90, 90)


def truth(*boxes, labels, difficult=()):
    flags = np.array([k in difficult for k in range(len(boxes))], bool)
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return Truth(boxes, np.array(labels, np.int32), flags, (100, 100))


def found(*boxes, labels, scores):
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), scores, labels, (100, 100))


def test_a_detection_takes_the_free_box_that_it_overlaps_most_whatever_the_class():
    errors = match_image(
        truth(A, B, labels=[0, 1]), found(B, B, A, C, labels=[0, 1, 0, 0], scores=[0.9, 0.8, 0.7, 0.6])
    )
    assert errors.found.tolist() == [2, 0]
    assert errors.claims.tolist() == [1, -1, 0, -1]


def test_an_iou_of_the_threshold_is_enough():
    half = (0, 0, 10, 5)
    assert match_image(truth(A, labels=[0]), found(half, labels=[0], scores=[0.9])).claims.tolist() == [0]
    less = (0, 0, 10, 4.9)
    assert match_image(truth(A, labels=[0]), found(less, labels=[0], scores=[0.9])).claims.tolist() == [-1]


def test_images_without_boxes_or_detections():
    assert match_image(truth(labels=[]), found(A, labels=[0], scores=[0.9])).claims.tolist() == [-1]
    assert match_image(truth(A, labels=[0]), found(labels=[], scores=[])).found.tolist() == [-1]


@pytest.fixture
def predictions():
    """One box found, one taken for another class, one missed, one difficult; one detection of nothing, one weak."""
    truths = (truth(A, B, C, labels=[0, 1, 1]), truth(A, B, labels=[0, 1], difficult=[1]))
    detections = (
        found(A, B, (0, 60, 20, 90), labels=[0, 0, 1], scores=[0.9, 0.8, 0.7]),
        found(B, B, A, labels=[1, 1, 0], scores=[0.9, 0.8, 0.5]),  # exactly the threshold: not shown
    )
    return Predictions(("a", "b"), truths, detections)


def test_confusion_matrix_worked_out_by_hand(predictions):
    assert confusion_matrix(predictions).tolist() == [
        [1, 0, 1],  # a: one found, one missed
        [1, 0, 1],  # b: one taken for a, one missed; the difficult one is left out
        [0, 1, 0],  # of nothing: one b
    ]


def test_confusion_report_as_text(predictions):
    lines = confusion_text(confusion_report(predictions)).splitlines()
    assert lines[0] == (
        "above score 0.5: 1 of 4 boxes found with their class, 1 with another, 2 missed; 1 detections of nothing"
    )
    assert [line.split(maxsplit=1) for line in lines[1:]] == [
        ["1", "a -> missed"],
        ["1", "b -> a"],
        ["1", "b -> missed"],
        ["1", "nothing -> b"],
    ]


def test_badness_counts_misses_wrong_classes_and_the_scores_of_false_ones(predictions):
    points = [badness(*pair) for pair in zip(predictions.truths, predictions.detections)]
    assert points == pytest.approx([1 + 1 + 0.7, 1])


def test_perfect_detections_have_no_errors():
    dataset = open_dataset("demo://?seed=1&frames=3&size=160x120&scene=1")
    truths = [dataset.truth(index) for index in range(3)]
    for one in truths:
        kept = ~one.difficult
        detections = Detections(one.boxes[kept], np.ones(kept.sum()), one.labels[kept], one.image_size)
        assert badness(one, detections) == 0


def test_command_writes_the_worst_images_and_the_matrix(tmp_path, capsys):
    for module in ("pycocotools", "matplotlib", "onnxruntime"):
        pytest.importorskip(module)
    sheet, report = tmp_path / "worst.png", tmp_path / "r.json"
    options = ["--worst", str(sheet), "--report", str(report), "--threads", "1"]
    assert cli.main(["eval", "--data", "demo://?seed=1000&frames=6&scene=1", *options]) == 0
    assert "boxes found with their class" in capsys.readouterr().out
    confusion = json.loads(report.read_text())["confusion"]
    assert confusion["rows"][-1] == "nothing"
    assert np.array(confusion["matrix"]).shape == (9, 9)
    assert sheet.read_bytes().startswith(b"\x89PNG")
    assert sheet.stat().st_size > 10_000


@pytest.mark.parametrize("crowds", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_coco_figures_are_those_of_the_official_script_on_random_detections(seed, crowds, capsys):
    coco_module, scorer = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    from edge_ssd.evaluation import score

    rng, truths, detections = np.random.default_rng(seed), [], []
    for _ in range(12):
        corners = rng.uniform(0, 200, (rng.integers(0, 6), 2))
        boxes = np.concatenate([corners, corners + rng.uniform(8, 180, corners.shape)], axis=1)
        difficult = (rng.random(len(boxes)) < 0.3) & crowds
        truths.append(Truth(boxes.astype(np.float32), rng.integers(0, 3, len(boxes)), difficult, (400, 400)))
        moved = np.repeat(boxes, 2, axis=0) + rng.normal(0, 4, (2 * len(boxes), 4))
        scores = np.sort(rng.random(len(moved)).astype(np.float32))[::-1]
        detections.append(Detections(moved, scores, rng.integers(0, 3, len(moved)), (400, 400)))
    predictions = Predictions(("a", "b", "c"), tuple(truths), tuple(detections), difficult_is_crowd=True)
    report = score(predictions)

    def entry(box, label):
        x1, y1, x2, y2 = (float(v) for v in box)
        return {"category_id": int(label) + 1, "bbox": [x1, y1, x2 - x1, y2 - y1]}

    truth_entries = [
        {**entry(box, label), "image_id": k, "iscrowd": int(d), "area": float(np.prod(box[2:] - box[:2]))}
        for k, one in enumerate(truths)
        for box, label, d in zip(one.boxes.astype(float), one.labels, one.difficult)
    ]
    coco = coco_module.COCO()
    coco.dataset = {
        "images": [{"id": k} for k in range(12)],
        "categories": [{"id": k + 1} for k in range(3)],
        "annotations": [{"id": k + 1, **item} for k, item in enumerate(truth_entries)],
    }
    coco.createIndex()
    results = [
        {**entry(box, label), "image_id": k, "score": s}
        for k, found_ in enumerate(detections)
        for box, s, label in found_
    ]
    evaluator = scorer.COCOeval(coco, coco.loadRes(results), "bbox")
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    names = ["AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"]
    names += ["AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large"]
    expected = [
        None if value == -1 else pytest.approx(value, abs=1e-12) for value in evaluator.stats.tolist()
    ]
    assert [report[name] for name in names] == expected
