"""What a detector gets wrong above a score: boxes missed, things seen that are not there, classes mixed up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..boxes import iou_matrix
from ..datasets import Truth
from ..detections import Detections
from ..files.terminal import short_name
from .predictions import Predictions

# What `run` shows by default.
SCORE_THRESHOLD = 0.5
# Confusions that the table for people lists.
_SHOWN = 10


@dataclass(frozen=True)
class ImageErrors:
    """Of one image with G boxes and D detections above the score.

    found: (G,) int64, the detection that stands for each box, -1 for none.
    claims: (D,) int64, the box that each detection stands for; -1 for nothing, -2 for one that does not count.
    """

    found: np.ndarray
    claims: np.ndarray


def match_image(truth: Truth, detections: Detections, iou_threshold: float = 0.5) -> ImageErrors:
    """The ImageErrors of one image.

    Each detection, best score first, takes the box that it overlaps most among those not yet taken, whatever their
    classes, where that is >= iou_threshold. Of a difficult box, any number of detections does not count.
    """
    found = np.full(len(truth.boxes), -1)
    claims = np.full(len(detections), -1)
    iou = iou_matrix(detections.boxes.astype(np.float64), truth.boxes.astype(np.float64))
    for k in range(len(detections)):
        free = np.where((found < 0) | truth.difficult, iou[k], 0.0)
        if len(free) and free.max() >= iou_threshold:
            box = int(free.argmax())
            claims[k] = -2 if truth.difficult[box] else box
            found[box] = k
    return ImageErrors(found, claims)


def confusion_matrix(predictions: Predictions, score_threshold: float = SCORE_THRESHOLD) -> np.ndarray:
    """How often boxes of each class were taken for each: (C + 1, C + 1) int64, rows truth, columns detected.

    The last row counts detections of nothing, the last column boxes that were missed; difficult ones are left out.
    """
    count = len(predictions.class_names)
    matrix = np.zeros((count + 1, count + 1), np.int64)
    for truth, found in zip(predictions.truths, predictions.detections):
        found = found[found.scores > score_threshold]
        errors = match_image(truth, found)
        said = np.append(found.labels, count)
        counts = ~truth.difficult
        np.add.at(matrix, (truth.labels[counts], said[errors.found[counts]]), 1)
        np.add.at(matrix[count], found.labels[errors.claims == -1], 1)
    return matrix


def confusion_report(predictions: Predictions, score_threshold: float = SCORE_THRESHOLD) -> dict[str, Any]:
    """The confusion matrix as plain values for a report."""
    matrix = confusion_matrix(predictions, score_threshold)
    return {
        "score_threshold": score_threshold,
        "rows": [*predictions.class_names, "nothing"],
        "columns": [*predictions.class_names, "missed"],
        "matrix": matrix.tolist(),
    }


def confusion_text(report: dict[str, Any]) -> str:
    """What `confusion_report` found, for people: hits, misses and the most frequent errors."""
    matrix = np.array(report["matrix"])
    hits, boxes = int(np.trace(matrix[:-1, :-1])), int(matrix[:-1].sum())
    missed, invented = int(matrix[:-1, -1].sum()), int(matrix[-1].sum())
    lines = [
        f"above score {report['score_threshold']:g}: {hits} of {boxes} boxes found with their class, "
        f"{boxes - hits - missed} with another, {missed} missed; {invented} detections of nothing"
    ]
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:_SHOWN]
    for row, column in zip(*np.unravel_index(order, wrong.shape)):
        if wrong[row, column]:
            names = short_name(report["rows"][row]), short_name(report["columns"][column])
            lines.append(f"{wrong[row, column]:6d}  {names[0]} -> {names[1]}")
    return "\n".join(lines)


def badness(truth: Truth, detections: Detections) -> float:
    """How wrong an image is: a point for each box missed or given another class, and the score of each detection
    of nothing. Only detections above SCORE_THRESHOLD count."""
    shown = detections[detections.scores > SCORE_THRESHOLD]
    errors = match_image(truth, shown)
    taken = (errors.found >= 0) & ~truth.difficult
    wrong = shown.labels[errors.found[taken]] != truth.labels[taken]
    missed = (errors.found < 0) & ~truth.difficult
    return float(wrong.sum() + missed.sum() + shown.scores[errors.claims == -1].sum())
