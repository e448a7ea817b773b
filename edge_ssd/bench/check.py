"""Whether a Subject computes the same network and finds the same, before it is timed."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..boxes import iou_matrix
from ..spec import SsdSpec
from .subjects import float_model

# ||difference|| / ||output||: what a precision may cost. A wrong input or a wrong network is off by 1.
_TOLERANCES = {"fp32": 1e-3, "tf32": 0.01, "fp16": 0.02, "bf16": 0.05, "int8": 0.4}
# Share of the detections that may have no counterpart: NMS decides otherwise where two scores or overlaps are equal
# but for rounding. Of those alone whose score is above the threshold by _MARGIN: the others may fall below it.
_LOST = {"fp32": 0.02, "fp16": 0.1, "bf16": 0.1, "int8": 0.4}
_MARGIN, _SAME_IOU = 0.2, 0.5
_IMAGES = 2


def problem_of(subject, worker, images, plan):
    """What is wrong with a Subject's results, in one line; "" when nothing is.

    Its heads on a real image and its detections on two, against those of ONNX Runtime in float32 on the ONNX file
    of the same name; where there is none, that it detects without an error.   plan: Plan, for its score_threshold.
    """
    found = [_clipped(one, image) for one, image in zip(worker.detect(_IMAGES), images)]
    pixels = tuple((image.tobytes(), image.shape) for image in images[:_IMAGES])
    try:
        expected = _expected(float_model(Path(subject.model)), plan.score_threshold, pixels)
    except (ValueError, OSError) as error:
        return f"nothing to compare with: {error}"
    if expected is None:
        return ""
    heads = worker.heads(expected.blob)
    problem = _heads_apart(subject, heads, expected.heads) if heads is not None else ""
    return problem or _detections_apart(subject, found, expected.detections, plan.score_threshold)


def _heads_apart(subject, found, wanted):
    is_tf32 = subject.precision == "fp32" and Path(subject.model).suffix == ".engine"  # TensorRT's float32
    limit = _TOLERANCES["tf32" if is_tf32 else subject.precision]
    for name, ours, theirs in zip(("loc", "conf"), found, wanted):
        if ours.size != theirs.size:
            return f"wrong: {name} has {ours.size} values, {theirs.size} are expected"
        difference = ours.reshape(theirs.shape).astype(np.float32) - theirs
        off = np.linalg.norm(difference) / max(np.linalg.norm(theirs), 1e-6)
        if not off <= limit:
            return f"wrong: {name} is off by {off:.2g} of itself, {limit:g} is allowed in {subject.precision}"
    return ""


def _detections_apart(subject, found, wanted, score_threshold):
    """Both ways: what is not found, and what is found and not there."""
    sure = min(score_threshold + _MARGIN, (1 + score_threshold) / 2)
    for what, ones, others in (("misses", wanted, found), ("makes up", found, wanted)):
        pairs = [_unmatched(one, other, sure) for one, other in zip(ones, others)]
        lost, count = map(sum, zip(*pairs))
        if lost > _LOST[subject.precision] * count:
            return f"wrong: {what} {lost} of {count} detections on {len(pairs)} images"
    return ""


def _clipped(found, image):
    """(boxes, scores, labels) with the boxes clipped to the image, which peers leave out."""
    boxes, scores, labels = found
    return np.clip(boxes, 0, np.tile(image.shape[1::-1], 2)), scores, labels


def _unmatched(one, other, sure):
    """(number without a counterpart in the other, number) of the detections of one with a score of `sure` or more."""
    strong = [(box, label) for box, score, label in zip(*one) if score >= sure]
    boxes, _, labels = other
    lost = 0
    for box, label in strong:
        same = np.asarray(boxes)[np.asarray(labels) == label]
        lost += not (len(same) and iou_matrix(box[None], same).max() >= _SAME_IOU)
    return lost, len(strong)


class _Expected(NamedTuple):
    """blob: (1, 3, H, W) float32 of the first image.   heads: its loc, conf.   detections: of each image."""

    blob: np.ndarray
    heads: tuple[np.ndarray, np.ndarray]
    detections: list[tuple]


@lru_cache(maxsize=4)
def _expected(model, score_threshold, pixels):
    """What the reference and ONNX Runtime give on (bytes, shape) of images; None without either file or package."""
    try:
        from ..engines.onnxruntime_engine import OnnxRuntimeEngine
    except ImportError:
        return None
    if not model.is_file():
        return None
    from ..backends.cpu import CpuBackend
    from ..detector import Detector
    from ..options import DetectorOptions
    from ..reference import preprocess

    spec = DetectorOptions(score_threshold=score_threshold).applied_to(
        SsdSpec.load(model.with_suffix(".json"))
    )
    images = [np.frombuffer(data, np.uint8).reshape(shape) for data, shape in pixels]
    blob = preprocess(images[0], spec)[0].astype(np.float32)
    engine = OnnxRuntimeEngine(model, spec, threads=1)
    with Detector(CpuBackend(engine, spec)) as detector:
        heads = engine.infer(blob.astype(engine.input_dtype))
        found = [detector.detect(image) for image in images]
    return _Expected(blob, heads, [(one.boxes, one.scores, one.labels) for one in found])
