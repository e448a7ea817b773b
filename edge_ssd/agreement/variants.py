"""The same images through a model in all its forms, step by step: where does which one depart?

Each step is compared on its own: a form gets its own batch, its heads are compared with those of the model, and
its post-processing with the reference's on the very same heads. So the first step that departs is the culprit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .. import reference
from ..boxes import iou_matrix
from ..detections import Detections
from ..engines.choice import CpuEngine
from ..files import file_sha256
from ..frames import Frame
from ..loading import load_backend
from ..model_files.manifest import precision_of, read_manifest
from ..options import DetectorOptions

STEPS = ("preprocess", "loc", "conf", "postprocess", "detections")

# What the model itself is run in.
TRUTH_ENGINE = CpuEngine("onnxruntime", "fp32")


class _Tolerance(NamedTuple):
    """head: distance of an output from the model's over its size (Euclid).   iou, score: lowest IoU and largest
    score difference of counterparts.   lost: share of detections that may have none.
    """

    head: float
    iou: float
    score: float
    lost: float


# FP32 leaves room for another order of summation, FP16 for 11 bits, in which two boxes of one object may have equal
# scores and change places in NMS. BF16 has 8: with every tensor rounded to them the demo model's heads are 1.4e-2 off,
# in FP16 1.4e-3. INT8 cuts off what calibration left out, so its heads must only be of the same order, and the
# detections decide.
_TOLERANCES = {
    "fp32": _Tolerance(1e-3, 0.99, 1e-3, 0.0),
    "fp16": _Tolerance(2e-2, 0.75, 3e-2, 0.02),
    "bf16": _Tolerance(5e-2, 0.75, 6e-2, 0.05),
    "int8": _Tolerance(9e-1, 0.50, 5e-1, 0.15),
}
_PIXEL_LEVELS = 0.02  # of 0..255, divided by std: DESIGN's limit between CPU and GPU batches
_ROWS = 1e-4  # of normalised corners and scores; the kernels compute what the reference does
_SCORE = 0.5  # detections from here on are looked for in the other form,
_SCORE_OF_OTHER = 0.25  # where they may have lost some of it


@dataclass(frozen=True)
class Difference:
    """One step of one form.

    form: file name.   step: of STEPS.   value, limit: in `unit`.   detail: for people.
    """

    form: str
    step: str
    value: float
    limit: float
    unit: str
    detail: str = ""

    @property
    def departs(self):
        """Whether the step is beyond its tolerance; NaN is."""
        return not self.value <= self.limit


# The spec's thresholds.
OPTIONS = DetectorOptions(score_threshold=None)


class Form:
    """A model in one of its forms, in one engine, ready to be compared.

    path: of the file.   options: DetectorOptions.   engine: CpuEngine for an ONNX file, None for another, which has
    only its own way to run.   precision: of _TOLERANCES.
    """

    def __init__(self, path, options=OPTIONS, engine=TRUTH_ENGINE):
        self.path = Path(path)
        if engine:
            options = replace(options, engine=engine.name, precision=engine.precision)
        self.backend = load_backend(self.path, options)
        # A checkpoint's name does not say that torch runs it in float16 on a GPU.
        self.is_half = self.backend.engine.input_dtype == np.float16
        self.precision = _precision(self.path, engine, self.is_half)

    def run(self, frame):
        """The arrays of each step for a Frame: batch, loc, conf, rows, counts and the ResizePlan, on the host."""
        batch, plan = self.backend.preprocess(frame)
        host_batch = _host(batch)
        loc, conf = self.backend.infer(batch)
        rows, counts = self.backend.postprocess(loc[0], conf[0])
        return _Result(host_batch, _host(loc[0]), _host(conf[0]), _host(rows), _host(counts), plan)


def _precision(path, engine, is_half):
    named = precision_of(path)
    if engine and engine.precision == "bf16" and named != "int8":
        return "bf16"
    return "fp16" if is_half and named == "fp32" else named


@dataclass(frozen=True)
class _Result:
    batch: np.ndarray
    loc: np.ndarray
    conf: np.ndarray
    rows: np.ndarray
    counts: np.ndarray
    plan: object


def _host(array):
    """A float32 copy on the host of a NumPy or CuPy array."""
    array = array.get() if hasattr(array, "get") else np.asarray(array)
    return array.astype(np.float32)


def forms_beside(model):
    """The files beside NAME.onnx that are the same model: NAME.*.onnx and NAME.*.engine."""
    model = Path(model)
    return sorted(
        path
        for path in model.parent.glob(f"{model.stem}.*")
        if path.suffix in (".onnx", ".engine") and path != model
    )


def comparisons(forms, engines):
    """[(path, engine)] of model files in everything that runs them here.

    engines: CpuEngines for the ONNX files; an engine or a checkpoint has only its own way to run, None.
    """
    return [(path, engine) for path in forms for engine in (engines if path.suffix == ".onnx" else [None])]


def check_plan(path):
    """Raises FileNotFoundError for an engine without a manifest, ValueError for another one than its manifest
    describes: no machine runs these, so no GPU is needed to say so.
    """
    manifest = read_manifest(path).manifest
    if path.stat().st_size != manifest.engine_bytes or file_sha256(path) != manifest.engine_sha256:
        raise ValueError(
            f"{path}: is not the engine that its manifest describes; it was cut off or replaced. "
            f"Copy it again, or rebuild it: {manifest.command}"
        )


def compare(truth, form, images):
    """The Differences of a Form from the Form `truth`, one for each of STEPS: the worst over the images.

    images: list of (H, W, 3) uint8 BGR.   Raises ValueError for arrays of other shapes: a form of another model.
    """
    worst, matches = {}, []
    for image in images:
        frame = Frame(image)
        wanted, found = truth.run(frame), form.run(frame)
        _check_shapes(form, wanted, found)
        matches += _matches(wanted, found, _TOLERANCES[form.precision])
        for difference in _differences(form, wanted, found, truth.backend):
            held = worst.get(difference.step)
            # A NaN is the worst there is, and stays.
            if held is None or np.isnan(difference.value) or difference.value > held.value:
                worst[difference.step] = difference
    return [*worst.values(), _detections_apart(form, matches)]


def _check_shapes(form, wanted, found):
    for name in ("batch", "loc", "conf"):
        shape, other = getattr(wanted, name).shape, getattr(found, name).shape
        if shape != other:
            raise ValueError(
                f"{form.path}: {name} is {other}, the model's is {shape}; it was made of another model"
            )


def _differences(form, wanted, found, reference_backend):
    spec, priors = reference_backend.spec, reference_backend.priors
    name, limit = form.path.name, _TOLERANCES[form.precision].head
    apart = float(np.abs(found.batch - wanted.batch).max())
    levels = _PIXEL_LEVELS / min(spec.input.std)
    if form.is_half:  # which rounds to 11 bits
        levels += float(np.abs(wanted.batch).max()) * 2**-11
    yield Difference(name, "preprocess", apart, levels, "network input")
    for step in ("loc", "conf"):
        a, b = getattr(wanted, step), getattr(found, step)
        yield Difference(name, step, _share(a, b), limit, "of its size", f"largest {np.abs(a - b).max():.3g}")
    rows, _ = reference.postprocess(found.loc, found.conf, priors, spec)
    apart = float(np.abs(rows - found.rows).max())
    yield Difference(name, "postprocess", apart, _ROWS, "from the reference's rows")


def _share(wanted, found):
    size = float(np.linalg.norm(wanted))
    return float(np.linalg.norm(found - wanted)) / size if size else float(np.abs(found).max())


@dataclass(frozen=True)
class _Matches:
    """Of one image: detections of one, those without a counterpart in the other, IoU and score distance of the rest."""

    count: int
    lost: int
    ious: list[float]
    scores: list[float]


def _matches(wanted, found, tolerance):
    """Both ways: what the model finds and the form does not, and what the form makes up."""
    a, b = (Detections.from_rows(r.rows, int(r.counts[0]), r.plan, 0) for r in (wanted, found))
    return _one_way(a, b, tolerance), _one_way(b, a, tolerance)


def _one_way(a, b, tolerance):
    """The _Matches of the sure detections of `a` among all but the least sure of `b`."""
    a, b = a[a.scores >= _SCORE], b[b.scores >= _SCORE_OF_OTHER]
    ious, scores = [], []
    for box, score, label in zip(a.boxes, a.scores, a.labels):
        same = b[b.labels == label]
        iou = iou_matrix(box[None], same.boxes)[0] if len(same) else np.zeros(1)
        best = int(iou.argmax())
        apart = abs(float(same.scores[best] - score)) if len(same) else 1.0
        if iou[best] >= tolerance.iou and apart <= tolerance.score:
            ious.append(float(iou[best]))
            scores.append(apart)
    return _Matches(len(a), len(a) - len(ious), ious, scores)


def _detections_apart(form, matches):
    """The share of detections, of the model and of the form, without a counterpart of their class, over all images."""
    count, lost = sum(m.count for m in matches), sum(m.lost for m in matches)
    ious = [iou for m in matches for iou in m.ious]
    scores = [score for m in matches for score in m.scores]
    others = f"; the others: IoU from {min(ious):.3f}, scores within {max(scores):.2g}" if ious else ""
    return Difference(
        form.path.name,
        "detections",
        lost / max(1, count),
        _TOLERANCES[form.precision].lost,
        "without counterpart",
        f"{lost} of {count}{others}",
    )
