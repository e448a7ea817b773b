"""Average precision: against numbers worked out by hand, the devkit's loop, and the official COCO scorer."""

from __future__ import annotations

import argparse
import json
import math
import sys

import numpy as np
import pytest

pytest.importorskip("cv2")
pytest.importorskip("pycocotools")

import cv2

from edge_ssd.commands import evaluate as evaluate_command
from edge_ssd.datasets import Truth, open_dataset
from edge_ssd.detections import Detections
from edge_ssd.detector import Detected
from edge_ssd.evaluation import Predictions, evaluate, predict, score
from edge_ssd.evaluation.report import report_text
from edge_ssd.evaluation.voc import Curve, area_ap, eleven_point_ap, precision_recall

SIZE = (100, 100)


def _truth(boxes, difficult=None, labels=None):
    count = len(boxes)
    return Truth(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels if labels is not None else [0] * count, np.int32),
        np.array(difficult if difficult is not None else [False] * count, bool),
        SIZE,
    )


def _found(boxes, scores, labels=None):
    labels = [0] * len(scores) if labels is None else labels
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), scores, labels, SIZE)


def _predictions(truths, detections, names=("thing",), **options):
    return Predictions(names, tuple(truths), tuple(detections), **options)


def _worked_example():
    """Two images; right, double, difficult, right at IoU 0.5 exactly, wrong; one box is never found."""
    return _predictions(
        [
            _truth([(0, 0, 10, 10), (20, 20, 30, 30), (50, 50, 60, 60)], [False, False, True]),
            _truth([(0, 0, 10, 10)]),
        ],
        [
            _found([(0, 0, 10, 10), (0, 0, 10, 9), (50, 50, 60, 60), (20, 20, 30, 25)], [0.9, 0.8, 0.7, 0.6]),
            _found([(70, 70, 90, 90)], [0.5]),
        ],
    )


def test_the_curve_of_the_worked_example():
    curve = precision_recall(_worked_example(), 0)
    assert curve.positives == 3
    np.testing.assert_array_equal(curve.scores, np.float32([0.9, 0.8, 0.6, 0.5]))
    np.testing.assert_allclose(curve.precision, [1, 1 / 2, 2 / 3, 2 / 4])
    np.testing.assert_allclose(curve.recall, [1 / 3, 1 / 3, 2 / 3, 2 / 3])


def test_voc_ap_of_the_worked_example():
    curve = precision_recall(_worked_example(), 0)
    assert area_ap(curve) == pytest.approx(1 / 3 * 1 + 1 / 3 * 2 / 3)
    # Recall 0, .1, .2, .3 at precision 1; .4, .5, .6 at 2 / 3; the rest is not reached.
    assert eleven_point_ap(curve) == pytest.approx((4 * 1 + 3 * 2 / 3) / 11)


def test_coco_ap50_of_the_worked_example():
    # 101 points of recall: 0 to 0.33 at precision 1, 0.34 to 0.66 at 2 / 3.
    assert score(_worked_example())["AP50"] == pytest.approx((34 * 1 + 33 * 2 / 3) / 101)


def test_an_iou_just_below_the_threshold_is_a_miss():
    found = _found([(20, 20, 30, 24.99)], [0.6])
    curve = precision_recall(_predictions([_truth([(20, 20, 30, 30)])], [found]), 0)
    assert curve.hits.tolist() == [0]


def test_a_box_of_another_class_or_image_is_not_found():
    truths = [_truth([(0, 0, 10, 10)], labels=[1]), _truth([(0, 0, 10, 10)], labels=[0])]
    found = [_found([(0, 0, 10, 10)], [0.9], [0]), _found([], [])]
    curve = precision_recall(_predictions(truths, found, ("a", "b")), 0)
    assert curve.hits.tolist() == [0]
    assert curve.positives == 1


def test_a_recall_of_three_tenths_reaches_the_fourth_point():
    curve = Curve(np.float32([0.9, 0.8, 0.7]), np.array([1, 2, 3]), positives=10)
    assert eleven_point_ap(curve) == pytest.approx(4 / 11)


def test_without_detections_ap_is_0_and_without_boxes_it_is_nan():
    nothing = np.empty(0, np.float32), np.empty(0, np.int64)
    assert eleven_point_ap(Curve(*nothing, positives=2)) == area_ap(Curve(*nothing, positives=2)) == 0
    assert math.isnan(eleven_point_ap(Curve(*nothing, positives=0)))
    assert math.isnan(area_ap(Curve(*nothing, positives=0)))


def _devkit_hits(predictions, label, threshold=0.5):
    """The devkit's loop (VOCevaldet.m), without the + 1: [(score, is hit)], difficult left out."""
    ranked = sorted(
        (-s, i, k)
        for i, found in enumerate(predictions.detections)
        for k, (s, name) in enumerate(zip(found.scores, found.labels))
        if name == label
    )
    taken, hits = set(), []
    for negative_score, i, k in ranked:
        truth, box = predictions.truths[i], predictions.detections[i].boxes[k].astype(float)
        best, best_iou = None, -1.0
        for g in np.flatnonzero(truth.labels == label):
            other = truth.boxes[g].astype(float)
            width = min(box[2], other[2]) - max(box[0], other[0])
            height = min(box[3], other[3]) - max(box[1], other[1])
            inter = max(width, 0) * max(height, 0)
            areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, other)]
            iou = inter / (sum(areas) - inter)
            if iou > best_iou:
                best, best_iou = g, iou
        if best_iou >= threshold:
            if not truth.difficult[best]:
                hits.append((-negative_score, (i, best) not in taken))
                taken.add((i, best))
        else:
            hits.append((-negative_score, False))
    return hits


@pytest.mark.parametrize("seed", range(8))
def test_curves_equal_the_devkits_loop_on_random_boxes(seed):
    rng = np.random.default_rng(seed)
    truths, detections = [], []
    for _ in range(6):
        corners = rng.integers(0, 60, (rng.integers(0, 9), 2))
        boxes = np.concatenate([corners, corners + rng.integers(5, 40, corners.shape)], axis=1)
        truths.append(_truth(boxes, rng.random(len(boxes)) < 0.3, rng.integers(0, 2, len(boxes))))
        shifted = np.repeat(boxes, 3, axis=0) + rng.integers(-4, 5, (3 * len(boxes), 4))
        shifted[:, 2:] = np.maximum(shifted[:, 2:], shifted[:, :2] + 1)
        scores = np.sort(rng.integers(1, 12, len(shifted)) / 12)[::-1]  # many are equal
        detections.append(_found(shifted, scores, rng.integers(0, 2, len(shifted))))
    predictions = _predictions(truths, detections, ("a", "b"))
    for label in (0, 1):
        curve, expected = precision_recall(predictions, label), _devkit_hits(predictions, label)
        np.testing.assert_array_equal(curve.hits, np.cumsum([hit for _, hit in expected]))
        np.testing.assert_array_equal(curve.scores, np.float32([s for s, _ in expected]))


def test_for_coco_a_difficult_box_is_no_miss_and_its_detection_no_mistake():
    truths = [_truth([(0, 0, 10, 10), (50, 50, 90, 90)], [False, True])]
    missed = _predictions(truths, [_found([(0, 0, 10, 10)], [0.5])])
    found = _predictions(truths, [_found([(50, 50, 90, 90), (0, 0, 10, 10)], [0.9, 0.5])])
    assert score(missed)["AP"] == pytest.approx(1)
    assert score(found)["AP"] == pytest.approx(1)


def test_a_part_of_a_difficult_box_is_a_mistake_but_a_part_of_a_crowd_is_not():
    truths = [_truth([(0, 0, 10, 10), (50, 50, 90, 90)], [False, True])]
    detections = [_found([(50, 50, 60, 60), (0, 0, 10, 10)], [0.9, 0.5])]
    assert score(_predictions(truths, detections))["AP50"] == pytest.approx(0.5)
    assert score(_predictions(truths, detections, difficult_is_crowd=True))["AP50"] == pytest.approx(1)


def test_the_first_box_of_the_first_image_counts():
    # The official scorer takes the number 0 for "not matched".
    predictions = _predictions([_truth([(0, 0, 10, 10)])], [_found([(0, 0, 10, 10)], [0.9])])
    assert score(predictions)["AP"] == pytest.approx(1)


def test_sizes_are_split_at_32_and_96_pixels():
    boxes = [(0, 0, 31, 31), (0, 0, 50, 50), (0, 0, 99, 99)]
    truths = [_truth([box]) for box in boxes]
    detections = [_found([boxes[0]], [0.9]), _found([], []), _found([boxes[2]], [0.9])]
    report = score(_predictions(truths, detections))
    assert (report["AP_small"], report["AP_medium"], report["AP_large"]) == pytest.approx((1, 0, 1))


def test_sizes_go_by_the_areas_of_the_file_where_it_has_them():
    boxes = [(0, 0, 50, 50), (0, 0, 99, 99)]
    truths = [_truth([box]) for box in boxes]
    detections = [_found([boxes[0]], [0.9]), _found([], [])]
    areas = (np.array([1000.0]), np.array([9000.0]))  # as of masks: small and medium
    report = score(_predictions(truths, detections, areas=areas))
    assert (report["AP_small"], report["AP_medium"], report["AP_large"]) == (pytest.approx(1), 0, None)


def test_the_size_rows_of_a_coco_folder_are_the_official_ones(tmp_path):
    """Of annotations whose areas are those of masks, against the scorer on the file itself."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rng = np.random.default_rng(5)
    corners, sides = rng.uniform(0, 200, (60, 2)), rng.uniform(20, 200, (60, 2))
    annotations = [
        {
            "id": k + 1,
            "image_id": k % 12,
            "category_id": k % 2,
            "bbox": [*corners[k], *sides[k]],
            "area": sides[k].prod() * rng.uniform(0.3, 0.8),
            "iscrowd": int(k % 15 == 0),
        }
        for k in range(60)
    ]
    (tmp_path / "annotations").mkdir()
    file = tmp_path / "annotations/instances_val.json"
    images = [{"id": k, "file_name": f"{k}.png", "height": 400, "width": 400} for k in range(12)]
    categories = [{"id": k, "name": name} for k, name in enumerate(("cat", "dog"))]
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    for image in images:
        cv2.imwrite(str(tmp_path / image["file_name"]), np.full((400, 400, 3), image["id"], np.uint8))

    def boxes_of(index):
        own = [item for item in annotations if item["image_id"] == index]
        jitter = np.random.default_rng(index).uniform(-8, 8, (len(own), 4))
        boxes = np.array([item["bbox"] for item in own]) + jitter
        boxes[:, 2:] = boxes[:, :2] + np.maximum(boxes[:, 2:], 4)
        return boxes.astype(np.float32), np.linspace(0.9, 0.3, len(own)), [i["category_id"] for i in own]

    dataset = open_dataset(tmp_path, "val")
    report = evaluate(lambda image: Detections(*boxes_of(image[0, 0, 0]), (400, 400)), dataset)
    results = [
        {"image_id": k, "category_id": label, "score": score, "bbox": [*box[:2], *(box[2:] - box[:2])]}
        for k in range(12)
        for box, score, label in zip(*boxes_of(k))
    ]
    truth = COCO(str(file))
    official = COCOeval(truth, truth.loadRes(results), "bbox")
    official.evaluate()
    official.accumulate()
    official.summarize()
    names = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR1", "AR10", "AR100")
    names += ("AR_small", "AR_medium", "AR_large")
    assert [report[name] for name in names] == pytest.approx(official.stats.tolist(), abs=1e-6)
    assert min(official.stats) > 0  # each row has something to say


def test_a_class_without_boxes_is_left_out_of_the_means_and_json_holds_the_report():
    predictions = _predictions([_truth([(0, 0, 10, 10)])], [_found([(0, 0, 10, 10)], [0.9])], ("a", "b"))
    report = json.loads(json.dumps(score(predictions), allow_nan=False))
    for name in ("AP", "AP50", "VOC_AP50_11point", "VOC_AP50_area"):
        assert report[name] == pytest.approx(1)
        assert report["classes"]["a"][name] == pytest.approx(1)
        assert report["classes"]["b"][name] is None
    assert report["boxes"] == report["detections"] == report["images"] == 1


def test_no_detections_at_all_is_0():
    report = score(_predictions([_truth([(0, 0, 10, 10)])], [_found([], [])]))
    assert report["AP"] == report["VOC_AP50_area"] == report["VOC_AP50_11point"] == 0


class Oracle:
    """A detector that knows the truth of a data set's images in order; its classes are turned around."""

    def __init__(self, dataset, extra=()):
        self.class_names = (*extra, *dataset.class_names[::-1])
        self._dataset, self._next = dataset, 0

    def detect(self, image):
        truth = self._dataset.truth(self._next)
        self._next += 1
        labels = [self.class_names.index(self._dataset.class_names[label]) for label in truth.labels]
        return Detections(truth.boxes, np.linspace(1, 0.5, len(labels)), labels, image.shape[:2])


def test_every_frame_is_rendered_once(monkeypatch):
    """Also with several of them in flight: a rendered data set keeps the latest frame alone."""
    from edge_ssd.detector import Detector
    from edge_ssd.sources.demo import DemoStream

    rendered, render = [], DemoStream.render
    monkeypatch.setattr(
        DemoStream, "render", lambda self, index: rendered.append(index) or render(self, index)
    )
    dataset = open_dataset("demo://?seed=2&frames=6&size=160x120&scene=1")
    with Detector.load("demo", threads=2, in_flight=2) as detector:
        evaluate(detector, dataset, detector.class_names)
    assert sorted(rendered) == list(range(6))


def test_the_truth_itself_has_an_ap_of_1():
    dataset = open_dataset("demo://?seed=2&frames=30&size=160x120&scene=1")
    oracle = Oracle(dataset)
    report = evaluate(oracle.detect, dataset, oracle.class_names)
    for name in ("AP", "AP50", "VOC_AP50_11point", "VOC_AP50_area"):
        assert report[name] == pytest.approx(1)
    assert report["images"] == 30


def test_detections_of_classes_that_the_data_set_lacks_are_left_out():
    dataset = open_dataset("demo://?seed=2&frames=2&size=160x120&scene=1")
    oracle = Oracle(dataset, extra=("sheep",))

    def detect(image):
        found = oracle.detect(image)
        return Detections(
            np.concatenate([found.boxes, [[0, 0, 9, 9]]]), [*found.scores, 0.1], [*found.labels, 0], SIZE
        )

    report = evaluate(detect, dataset, oracle.class_names)
    assert report["left_out"] == 2
    assert report["AP"] == pytest.approx(1)


def test_a_class_that_the_model_lacks_is_one_error():
    dataset = open_dataset("demo://?frames=2&size=160x120")
    with pytest.raises(ValueError, match="the model lacks class star, cross, ring, crescent, arrow of demo"):
        predict(lambda image: None, dataset, ("square", "triangle", "circle"))


def test_the_table_has_a_row_per_class_and_one_for_all():
    lines = report_text(score(_worked_example())).splitlines()
    assert lines[0] == "2 images, 4 boxes (1 difficult), 5 detections"
    assert lines[2].split()[:1] == ["thing"]
    assert lines[3].split()[0] == "all"
    assert lines[2].split()[1:] == lines[3].split()[1:]


def test_curves_are_written_as_a_picture(tmp_path):
    pytest.importorskip("matplotlib")
    from edge_ssd.evaluation.plot import plot_curves

    path = tmp_path / "curves.png"
    plot_curves(_worked_example(), path, "example")
    assert path.read_bytes()[:4] == b"\x89PNG"


@pytest.fixture
def command(monkeypatch):
    """The `eval` command with the oracle in the model's place: a function of its arguments -> exit code."""
    address = "demo://?seed=2&frames=6&size=160x120&scene=1"

    class Loaded(Oracle):
        description = "an oracle"
        detect_all = lambda self, images: (Detected(image, self.detect(image), {}) for image in images)  # noqa: E731
        __enter__ = lambda self: self  # noqa: E731
        __exit__ = lambda self, *_: None  # noqa: E731

    monkeypatch.setattr("edge_ssd.detector.Detector.load", lambda *_, **__: Loaded(open_dataset(address)))
    parser = argparse.ArgumentParser()
    evaluate_command.add_parser(parser.add_subparsers())

    def run(*arguments):
        parsed = parser.parse_args(["eval", "--data", address, *arguments])
        return parsed.main(parsed)

    return run


def test_the_command_prints_the_table_and_writes_the_report(command, tmp_path, capsys):
    report_path = tmp_path / "report.json"
    assert command("--model", "m.onnx", "--report", str(report_path)) == 0
    report = json.loads(report_path.read_text(encoding="utf-8"))
    assert report["AP"] == report["VOC_AP50_11point"] == pytest.approx(1)
    assert (report["model"], report["engine"], report["images"]) == ("m.onnx", "an oracle", 6)
    assert list(tmp_path.iterdir()) == [report_path]  # and nothing half written
    printed = capsys.readouterr().out
    assert printed.startswith("m.onnx (an oracle) on demo://")
    assert "1.0000" in printed


def test_the_command_writes_the_curves(command, tmp_path):
    pytest.importorskip("matplotlib")
    assert command("--plot", str(tmp_path / "curves.png")) == 0
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_a_folder_that_is_not_there_is_said_before_the_work(command, tmp_path, capsys):
    with pytest.raises(FileNotFoundError, match=r"r\.json: no such folder"):
        command("--report", str(tmp_path / "nowhere" / "r.json"))
    assert "evaluate" not in capsys.readouterr().err


def test_a_missing_scorer_is_said_before_the_work_and_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "edge_ssd.evaluation.coco", None)
    with pytest.raises(ImportError, match=r"'pycocotools' package .*: pip install edge-ssd\[eval\]"):
        evaluate(pytest.fail, open_dataset("demo://?frames=2&size=160x120"))
