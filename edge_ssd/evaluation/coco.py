"""COCO average precision, by the official scorer (pycocotools)."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from .predictions import Predictions

# Area ranges and IoU thresholds, in the order of the scorer's parameters.
_ALL, _SMALL, _MEDIUM, _LARGE = range(4)
_IOU_50, _IOU_75 = 0, 5


class _Evaluator(COCOeval):
    """The scorer with boxes that are ignored but are no crowds.

    Its own `_prepare` overwrites `ignore` with `iscrowd`, and of a crowd a detection may take any part.
    An ignored box absorbs one detection and is no miss.
    """

    _gts: dict[tuple[int, int], list[dict[str, Any]]]

    def _prepare(self) -> None:
        super()._prepare()  # pyright: ignore[reportAttributeAccessIssue]  # the stubs leave out what is private
        for boxes in self._gts.values():
            for box in boxes:
                box["ignore"] = box["difficult"]


def coco_scores(predictions: Predictions) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """AP over IoU 0.5 to 0.95, AP50, AP75, AP by size of the object, AR, and AP of each class.

    AR: recall over the same IoUs with the best 1, 10 and 100 detections of an image, and by size with 100.
    Sizes: area below 32^2, to 96^2, and above, of an object as `predictions.areas` has it (COCO files have the mask's),
    of a detection that of its box. At most 100 detections of an image count.
    Returns (dict of float, dict class name -> {"AP", "AP50"}); NaN where there is nothing to find.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # it reports on its own progress
        evaluator = _Evaluator(_ground_truth(predictions), _results(predictions), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
    precision = evaluator.eval["precision"][..., -1]  # (iou, recall, class, area)
    recall = evaluator.eval["recall"]  # (iou, class, area, detections)
    overall = {
        "AP": _mean(precision[..., _ALL]),
        "AP50": _mean(precision[_IOU_50, ..., _ALL]),
        "AP75": _mean(precision[_IOU_75, ..., _ALL]),
        "AP_small": _mean(precision[..., _SMALL]),
        "AP_medium": _mean(precision[..., _MEDIUM]),
        "AP_large": _mean(precision[..., _LARGE]),
        "AR1": _mean(recall[..., _ALL, 0]),
        "AR10": _mean(recall[..., _ALL, 1]),
        "AR100": _mean(recall[..., _ALL, 2]),
        "AR_small": _mean(recall[..., _SMALL, 2]),
        "AR_medium": _mean(recall[..., _MEDIUM, 2]),
        "AR_large": _mean(recall[..., _LARGE, 2]),
    }
    classes = {
        name: {"AP": _mean(precision[:, :, k, _ALL]), "AP50": _mean(precision[_IOU_50, :, k, _ALL])}
        for k, name in enumerate(predictions.class_names)
    }
    return overall, classes


def _mean(values: np.ndarray) -> float:
    """The mean over the entries that mean something; the scorer writes -1 where there is nothing to find."""
    known = values[values > -1]
    return float(known.mean()) if len(known) else float("nan")


def _ground_truth(predictions: Predictions) -> COCO:
    entries = []
    for image_id, truth in enumerate(predictions.truths):
        for k, (box, label, difficult) in enumerate(zip(truth.boxes, truth.labels, truth.difficult)):
            entry = _entry(len(entries) + 1, image_id, box, label)
            if predictions.areas:
                entry["area"] = float(predictions.areas[image_id][k])
            entry["difficult"] = int(difficult)
            entry["iscrowd"] = int(difficult and predictions.difficult_is_crowd)
            entries.append(entry)
    return _coco(predictions, entries)


def _results(predictions: Predictions) -> COCO:
    entries = []
    for image_id, found in enumerate(predictions.detections):
        for box, score, label in found:
            entries.append({**_entry(len(entries) + 1, image_id, box, label), "score": score})
    return _coco(predictions, entries)


def _entry(number: int, image_id: int, box: np.ndarray, label: int) -> dict[str, Any]:
    """An annotation. Its number starts at 1: the scorer takes 0 for "not matched"."""
    x1, y1, x2, y2 = np.asarray(box, np.float64).tolist()
    width, height = x2 - x1, y2 - y1
    return {
        "id": number,
        "image_id": image_id,
        "category_id": int(label),
        "bbox": [x1, y1, width, height],
        "area": width * height,
        "iscrowd": 0,
    }


def _coco(predictions: Predictions, entries: list[dict[str, Any]]) -> COCO:
    coco = COCO()
    # Any: the scorer reads fewer entries of each than the stubs ask for.
    dataset: Any = {
        "images": [{"id": i} for i in range(len(predictions.truths))],
        "categories": [{"id": k, "name": name} for k, name in enumerate(predictions.class_names)],
        "annotations": entries,
    }
    coco.dataset = dataset
    coco.createIndex()
    return coco
