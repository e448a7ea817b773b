"""PASCAL VOC average precision, as the devkit computes it but for the + 1 in its areas.

Everingham et al., The PASCAL Visual Object Classes Challenge (IJCV 2010), section 4.2; the area under
the curve is the measure since VOC2010, the 11 points are VOC2007's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..boxes import iou_matrix
from .predictions import Predictions


@dataclass(frozen=True)
class Curve:
    """Precision and recall of one class as the score threshold falls.

    scores: (D,) float32, descending; detections of difficult boxes are left out.
    hits: (D,) int64, how many of the detections so far are right.
    positives: boxes to be found, difficult ones not counted.
    """

    scores: np.ndarray
    hits: np.ndarray
    positives: int

    @property
    def precision(self) -> np.ndarray:
        """(D,) float64."""
        return self.hits / np.arange(1, len(self.hits) + 1)

    @property
    def recall(self) -> np.ndarray:
        """(D,) float64; zeros without positives."""
        return self.hits / max(1, self.positives)


def precision_recall(predictions: Predictions, label: int, iou_threshold: float = 0.5) -> Curve:
    """The Curve of one class of `predictions`.

    A detection stands for the box of its class and image with the highest IoU, and finds it when that is
    >= iou_threshold. The best-scored detection of a box is right, further ones are wrong; of a difficult
    box, none counts. Equal scores keep the order of images and detections.
    """
    scores, found_boxes, difficult = [np.empty(0, np.float32)], [np.empty(0, np.int64)], [np.empty(0, bool)]
    first = 0  # number of the image's first box, over all images
    for truth, found in zip(predictions.truths, predictions.detections):
        of_class = found.labels == label
        boxes = truth.boxes[truth.labels == label]
        scores.append(found.scores[of_class])
        found_boxes.append(_found_box(found.boxes[of_class], boxes, iou_threshold, first))
        difficult.append(truth.difficult[truth.labels == label])
        first += len(boxes)
    return _curve(*(np.concatenate(parts) for parts in (scores, found_boxes, difficult)))


def _found_box(detected: np.ndarray, boxes: np.ndarray, iou_threshold: float, first: int) -> np.ndarray:
    """The number of the box that each detection finds, counted from `first`; -1 for none: (D,) int64."""
    if not len(boxes):
        return np.full(len(detected), -1)
    # float64, so that an IoU of exactly the threshold is one.
    iou = iou_matrix(detected.astype(np.float64), boxes.astype(np.float64))
    return np.where(iou.max(axis=1) >= iou_threshold, iou.argmax(axis=1) + first, -1)


def _curve(scores: np.ndarray, found_boxes: np.ndarray, difficult: np.ndarray) -> Curve:
    """scores, found_boxes (D,): all detections of a class.   difficult: (G,) of all its boxes."""
    counts = ~np.append(difficult, False)[found_boxes]  # the last, which -1 picks, for "no box"
    scores, found_boxes = scores[counts], found_boxes[counts]
    order = np.argsort(-scores, kind="stable")
    found_boxes = found_boxes[order]
    _, earliest = np.unique(found_boxes, return_index=True)
    is_hit = np.zeros(len(found_boxes), bool)
    is_hit[earliest] = True
    is_hit &= found_boxes >= 0
    return Curve(scores[order], np.cumsum(is_hit), int((~difficult).sum()))


def eleven_point_ap(curve: Curve) -> float:
    """Mean of the best precision at recall >= 0, 0.1 ... 1 (VOC2007); NaN without positives."""
    if not curve.positives:
        return float("nan")
    # In whole numbers: as floats, a recall of 3 / 10 is below 3 * 0.1.
    reached = curve.hits[None] * 10 >= np.arange(11)[:, None] * curve.positives
    best = np.where(reached, curve.precision[None], 0.0).max(axis=1, initial=0.0)
    return float(best.mean())


def area_ap(curve: Curve) -> float:
    """Area under the curve of the best precision at each recall or more (VOC2010); NaN without positives."""
    if not curve.positives:
        return float("nan")
    best = np.maximum.accumulate(curve.precision[::-1])[::-1]
    steps = np.diff(curve.hits, prepend=0)
    return float((best * steps).sum() / curve.positives)
