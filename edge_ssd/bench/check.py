"""Whether a Candidate computes the same network and finds the same, before it is timed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..agreement.tolerances import SAME_IOU, SCORE_MARGIN, tolerance_of
from ..boxes import iou_matrix
from ..spec import SsdSpec
from .candidates import Candidate, float_model
from .plan import Plan
from .worker import Worker

# (boxes, scores, labels) of one image.
_Found = tuple[np.ndarray, np.ndarray, np.ndarray]

_IMAGES = 2


def problem_of(candidate: Candidate, worker: Worker, images: Sequence[np.ndarray], plan: Plan) -> str:
    """What is wrong with a Candidate's results, in one line; "" when nothing is.

    Its heads on a real image and its detections on two, against those of ONNX Runtime in float32 on the ONNX file
    of the same name; where there is none, that it detects without an error.   plan: Plan, for its score_threshold.
    """
    found = [_clipped(one, image) for one, image in zip(worker.detect(_IMAGES), images)]
    pixels = tuple((image.tobytes(), image.shape) for image in images[:_IMAGES])
    try:
        expected = _expected(float_model(Path(candidate.model)), plan.score_threshold, pixels)
    except (ValueError, OSError) as error:
        return f"nothing to compare with: {error}"
    if expected is None:
        return ""
    heads = worker.heads(expected.blob)
    problem = _heads_apart(candidate, heads, expected.heads) if heads is not None else ""
    return problem or _detections_apart(candidate, found, expected.detections, plan.score_threshold)


def _heads_apart(candidate: Candidate, found: Sequence[np.ndarray], wanted: Sequence[np.ndarray]) -> str:
    limit = tolerance_of(candidate.precision, candidate.model).head
    for name, ours, theirs in zip(("loc", "conf"), found, wanted):
        if ours.size != theirs.size:
            return f"wrong: {name} has {ours.size} values, {theirs.size} are expected"
        difference = ours.reshape(theirs.shape).astype(np.float32) - theirs
        off = np.linalg.norm(difference) / max(np.linalg.norm(theirs), 1e-6)
        if not off <= limit:
            return (
                f"wrong: {name} is off by {off:.2g} of itself, {limit:g} is allowed in {candidate.precision}"
            )
    return ""


def _detections_apart(
    candidate: Candidate, found: Sequence[_Found], wanted: Sequence[_Found], score_threshold: float
) -> str:
    """Both ways: what is not found, and what is found and not there."""
    sure = min(score_threshold + SCORE_MARGIN, (1 + score_threshold) / 2)
    most_lost = tolerance_of(candidate.precision, candidate.model).lost_timed
    for what, ones, others in (("misses", wanted, found), ("makes up", found, wanted)):
        pairs = [_unmatched(one, other, sure) for one, other in zip(ones, others)]
        lost, count = map(sum, zip(*pairs))
        if lost > most_lost * count:
            return f"wrong: {what} {lost} of {count} detections on {len(pairs)} images"
    return ""


def _clipped(found: _Found, image: np.ndarray) -> _Found:
    """(boxes, scores, labels) with the boxes clipped to the image, which peers leave out."""
    boxes, scores, labels = found
    return np.clip(boxes, 0, np.tile(image.shape[1::-1], 2)), scores, labels


def _unmatched(one: _Found, other: _Found, sure: float) -> tuple[int, int]:
    """(number without a counterpart in the other, number) of the detections of one with a score of `sure` or more."""
    strong = [(box, label) for box, score, label in zip(*one) if score >= sure]
    boxes, _, labels = other
    lost = 0
    for box, label in strong:
        same = np.asarray(boxes)[np.asarray(labels) == label]
        lost += not (len(same) and iou_matrix(box[None], same).max() >= SAME_IOU)
    return lost, len(strong)


class _Expected(NamedTuple):
    """blob: (1, 3, H, W) float32 of the first image.   heads: its loc, conf.   detections: of each image."""

    blob: np.ndarray
    heads: tuple[np.ndarray, np.ndarray]
    detections: list[_Found]


@lru_cache(maxsize=4)
def _expected(
    model: Path, score_threshold: float, pixels: tuple[tuple[bytes, tuple[int, ...]], ...]
) -> _Expected | None:
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
        heads = tuple(head.copy() for head in engine.infer(blob.astype(engine.input_dtype)))
        found = [detector.detect(image) for image in images]
    return _Expected(blob, heads, [(one.boxes, one.scores, one.labels) for one in found])
