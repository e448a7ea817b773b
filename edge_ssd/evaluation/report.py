"""The report of an evaluation: plain numbers, for a file or a table."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..files.terminal import short_name
from .predictions import Predictions
from .voc import area_ap, eleven_point_ap, precision_recall

_COCO_AP = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
_COCO_AR = ("AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large")
OVERALL = (*_COCO_AP, *_COCO_AR, "VOC_AP50_11point", "VOC_AP50_area")


def score(predictions: Predictions) -> dict[str, Any]:
    """All measures of `predictions`, in a dict that JSON can hold.

    The names in OVERALL: 0..1, means over the classes that have a box; COCO's, then VOC's at IoU 0.5.
    "classes": of each class the same names, as far as they exist, and "boxes", "difficult" and
    "detections", counts. The same counts at top level, with "images", and "left_out": detections of
    classes that the data set does not have. What has no value (nothing to find) is None.

    Raises ImportError when pycocotools is missing.
    """
    overall, by_class = load_coco_scorer()(predictions)
    classes: dict[str, dict[str, Any]] = {
        name: {**by_class[name], **_voc_scores(predictions, label), **_counts(predictions, label)}
        for label, name in enumerate(predictions.class_names)
    }
    for name in ("VOC_AP50_11point", "VOC_AP50_area"):
        overall[name] = _mean([values[name] for values in classes.values()])
    totals = {
        name: sum(values[name] for values in classes.values())
        for name in ("boxes", "difficult", "detections")
    }
    counts = {"images": len(predictions.truths), **totals, "left_out": predictions.left_out}
    return _plain({**{name: overall[name] for name in OVERALL}, **counts, "classes": classes})


def load_coco_scorer() -> Callable[[Predictions], tuple[dict[str, float], dict[str, dict[str, float]]]]:
    """The function `coco_scores`. Raises ImportError naming the extra to install, without pycocotools."""
    try:
        from .coco import coco_scores
    except ImportError as error:
        raise ImportError(
            f"Evaluation needs the 'pycocotools' package ({error}): pip install edge-ssd[eval]"
        ) from None
    return coco_scores


def _voc_scores(predictions: Predictions, label: int) -> dict[str, float]:
    curve = precision_recall(predictions, label)
    return {"VOC_AP50_11point": eleven_point_ap(curve), "VOC_AP50_area": area_ap(curve)}


def _counts(predictions: Predictions, label: int) -> dict[str, int]:
    difficult = np.concatenate([t.difficult[t.labels == label] for t in predictions.truths])
    return {
        "boxes": len(difficult),
        "difficult": int(difficult.sum()),
        "detections": sum(int((found.labels == label).sum()) for found in predictions.detections),
    }


def _mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else float("nan")


def _plain(value: Any) -> Any:
    """NaN to None: JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def report_text(report: dict[str, Any]) -> str:
    """The report as a table for people."""
    rows = [(short_name(name), values) for name, values in report["classes"].items()]
    width = max([8, *(len(name) for name, _ in rows)])
    columns = ("AP", "AP50", "VOC_AP50_11point", "VOC_AP50_area", "boxes", "difficult", "detections")
    lines = [
        f"{report['images']} images, {report['boxes']} boxes ({report['difficult']} difficult), "
        f"{report['detections']} detections",
        f"{'class':{width}}" + "".join(f"{name.replace('VOC_AP50_', 'VOC '):>12}" for name in columns),
    ]
    for name, values in [*rows, ("all", report)]:
        lines.append(f"{name:{width}}" + "".join(f"{_shown(values[column]):>12}" for column in columns))
    for names in (_COCO_AP[2:], _COCO_AR):
        lines.append(", ".join(f"{name.replace('_', ' ')} {_shown(report[name])}" for name in names))
    if report["left_out"]:
        lines.append(f"{report['left_out']} detections of classes that the data set does not have: left out")
    return "\n".join(lines)


def _shown(value: float | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.4f}"
