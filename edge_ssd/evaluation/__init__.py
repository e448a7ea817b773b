"""Evaluation: VOC and COCO average precision of anything that detects.

report = evaluate(detector.detect, dataset)
report["AP50"], report["classes"]["person"]["AP"]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..datasets import Dataset
from .predictions import Detect, DetectsAll, Predictions, predict
from .report import load_coco_scorer, score

__all__ = ["Detect", "DetectsAll", "Predictions", "evaluate", "predict", "score"]


def evaluate(
    detect: Detect | DetectsAll,
    dataset: Dataset,
    class_names: Sequence[str] = (),
    progress: bool = False,
) -> dict[str, Any]:
    """The report of a detector on a data set: a dict of plain numbers; see `score`.

    detect: function of a (H, W, 3) uint8 BGR image that gives Detections, or a Detector, which may then work on
        several images at once.   dataset: a Dataset.
    class_names: of the detector's labels; the data set's when empty. They are matched by name: every
        class of the data set must be among them, detections of further classes are left out.
    progress: show a bar on standard error.

    Raises ValueError when a class of the data set is missing; ImportError naming the extra to install.
    """
    load_coco_scorer()  # what is missing is said before the work, not after it
    return score(predict(detect, dataset, class_names, progress))
