"""The same images through a model in all its variants, step by step: where does which one depart?

Each step is compared on its own: a variant gets its own batch, its heads are compared with those of the model, and
its post-processing with the reference's on the very same heads. So the first step that departs is the culprit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from .. import reference
from ..backends import SteppedBackend
from ..boxes import iou_matrix
from ..detections import Detections
from ..engines.choice import CpuEngine
from ..files import StrPath, file_sha256
from ..frames import Frame
from ..loading import load_backend
from ..model_files.manifest import precision_of, read_manifest
from ..options import DetectorOptions
from ..resize import ResizePlan
from .tolerances import PIXEL_LEVELS, ROWS, SCORE_OF_OTHER, SURE_SCORE, Tolerance, tolerance_of

STEPS = ("preprocess", "loc", "conf", "postprocess", "detections")

# What the model itself is run in.
TRUTH_ENGINE = CpuEngine("onnxruntime", "fp32")


@dataclass(frozen=True)
class Difference:
    """One step of one variant.

    variant: file name.   step: of STEPS.   value, limit: in `unit`.   detail: for people.
    """

    variant: str
    step: str
    value: float
    limit: float
    unit: str
    detail: str = ""

    @property
    def departs(self) -> bool:
        """Whether the step is beyond its tolerance; NaN is."""
        return not self.value <= self.limit


# The spec's thresholds.
OPTIONS = DetectorOptions(score_threshold=None)


class Variant:
    """A model in one of its variants, in one engine, ready to be compared.

    path: of the file.   options: DetectorOptions.   engine: CpuEngine for an ONNX file, None for another, which has
    only its own way to run.   precision: fp32, fp16, bf16 or int8.   tolerance: Tolerance of it.
    """

    def __init__(
        self,
        path: StrPath,
        options: DetectorOptions = OPTIONS,
        engine: CpuEngine | None = TRUTH_ENGINE,
    ) -> None:
        self.path = Path(path)
        if engine:
            options = replace(options, engine=engine.name, precision=engine.precision)
        # With one frame in flight, OPTIONS' own, no backend works on several at once.
        self.backend = cast(SteppedBackend, load_backend(self.path, options))
        # A checkpoint's name does not say that torch runs it in float16 on a GPU.
        self.is_half = self.backend.engine.input_dtype == np.float16
        self.precision = _precision(self.path, engine, self.is_half)
        self.tolerance = tolerance_of(self.precision, self.path)

    def run(self, frame: Frame) -> StepResults:
        """The arrays of each step for a Frame: batch, loc, conf, rows, counts and the ResizePlan, on the host."""
        batch, plan = self.backend.preprocess(frame)
        host_batch = _host(batch)
        loc, conf = self.backend.infer(batch)
        rows, counts = self.backend.postprocess(loc[0], conf[0])
        return StepResults(host_batch, _host(loc[0]), _host(conf[0]), _host(rows), _host(counts), plan)


def _precision(path: Path, engine: CpuEngine | None, is_half: bool) -> str:
    named = precision_of(path)
    if engine and engine.precision == "bf16" and named != "int8":
        return "bf16"
    return "fp16" if is_half and named == "fp32" else named


@dataclass(frozen=True)
class StepResults:
    """What each step of a Variant gave of one frame, float32 on the host.

    batch: (1, 3, H, W).   loc: (P, 4).   conf: (P, C).   rows: (max_detections, 6).   counts: (2,).
    """

    batch: np.ndarray
    loc: np.ndarray
    conf: np.ndarray
    rows: np.ndarray
    counts: np.ndarray
    plan: ResizePlan


def _host(array: Any) -> np.ndarray:
    """A float32 copy on the host of a NumPy or CuPy array."""
    array = array.get() if hasattr(array, "get") else np.asarray(array)
    return array.astype(np.float32)


def variants_beside(model: StrPath) -> list[Path]:
    """The files beside NAME.onnx that are the same model: NAME.*.onnx and NAME.*.engine."""
    model = Path(model)
    return sorted(
        path
        for path in model.parent.glob(f"{model.stem}.*")
        if path.suffix in (".onnx", ".engine") and path != model
    )


def comparisons(
    variants: Iterable[Path], engines: Sequence[CpuEngine]
) -> list[tuple[Path, CpuEngine | None]]:
    """[(path, engine)] of model files in everything that runs them here.

    engines: CpuEngines for the ONNX files; an engine or a checkpoint has only its own way to run, None.
    """
    return [(path, engine) for path in variants for engine in (engines if path.suffix == ".onnx" else [None])]


def check_plan(path: Path) -> None:
    """Raises FileNotFoundError for an engine without a manifest, ValueError for another one than its manifest
    describes: no machine runs these, so no GPU is needed to say so.
    """
    manifest = read_manifest(path).manifest
    if path.stat().st_size != manifest.engine_bytes or file_sha256(path) != manifest.engine_sha256:
        raise ValueError(
            f"{path}: is not the engine that its manifest describes; it was cut off or replaced. "
            f"Copy it again, or rebuild it: {manifest.rebuild_command}"
        )


def compare(truth: Variant, variant: Variant, images: Iterable[np.ndarray]) -> list[Difference]:
    """The Differences of a Variant from the Variant `truth`, one for each of STEPS: the worst over the images.

    images: list of (H, W, 3) uint8 BGR.   Raises ValueError for arrays of other shapes: a variant of another model.
    """
    worst: dict[str, Difference] = {}
    matches: list[_Matches] = []
    for image in images:
        frame = Frame(image)
        wanted, found = truth.run(frame), variant.run(frame)
        _check_shapes(variant, wanted, found)
        matches += _matches(wanted, found, variant.tolerance)
        for difference in _differences(variant, wanted, found, truth.backend):
            held = worst.get(difference.step)
            # A NaN is the worst there is, and stays.
            if held is None or np.isnan(difference.value) or difference.value > held.value:
                worst[difference.step] = difference
    return [*worst.values(), _detections_apart(variant, matches)]


def _check_shapes(variant: Variant, wanted: StepResults, found: StepResults) -> None:
    for name in ("batch", "loc", "conf"):
        shape, other = getattr(wanted, name).shape, getattr(found, name).shape
        if shape != other:
            raise ValueError(
                f"{variant.path}: {name} is {other}, the model's is {shape}; it was made of another model"
            )


def _differences(
    variant: Variant, wanted: StepResults, found: StepResults, reference_backend: SteppedBackend
) -> Iterator[Difference]:
    spec, priors = reference_backend.spec, reference_backend.priors
    name, limit = variant.path.name, variant.tolerance.head
    apart = float(np.abs(found.batch - wanted.batch).max())
    levels = PIXEL_LEVELS / min(spec.input.std)
    if variant.is_half:  # which rounds to 11 bits
        levels += float(np.abs(wanted.batch).max()) * 2**-11
    yield Difference(name, "preprocess", apart, levels, "network input")
    for step in ("loc", "conf"):
        a, b = getattr(wanted, step), getattr(found, step)
        yield Difference(name, step, _share(a, b), limit, "of its size", f"largest {np.abs(a - b).max():.3g}")
    rows, _ = reference.postprocess(found.loc, found.conf, priors, spec)
    apart = float(np.abs(rows - found.rows).max())
    yield Difference(name, "postprocess", apart, ROWS, "from the reference's rows")


def _share(wanted: np.ndarray, found: np.ndarray) -> float:
    size = float(np.linalg.norm(wanted))
    return float(np.linalg.norm(found - wanted)) / size if size else float(np.abs(found).max())


@dataclass(frozen=True)
class _Matches:
    """Of one image: detections of one, those without a counterpart in the other, IoU and score distance of the rest."""

    count: int
    lost: int
    ious: list[float]
    scores: list[float]


def _matches(wanted: StepResults, found: StepResults, tolerance: Tolerance) -> tuple[_Matches, _Matches]:
    """Both ways: what the model finds and the variant does not, and what the variant makes up."""
    a, b = (Detections.from_rows(r.rows, int(r.counts[0]), r.plan, 0) for r in (wanted, found))
    return _one_way(a, b, tolerance), _one_way(b, a, tolerance)


def _one_way(a: Detections, b: Detections, tolerance: Tolerance) -> _Matches:
    """The _Matches of the sure detections of `a` among all but the least sure of `b`."""
    a, b = a[a.scores >= SURE_SCORE], b[b.scores >= SCORE_OF_OTHER]
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


def _detections_apart(variant: Variant, matches: Sequence[_Matches]) -> Difference:
    """The share of detections, of the model and of the variant, without a counterpart of their class, on all images."""
    count, lost = sum(m.count for m in matches), sum(m.lost for m in matches)
    ious = [iou for m in matches for iou in m.ious]
    scores = [score for m in matches for score in m.scores]
    others = f"; the others: IoU from {min(ious):.3f}, scores within {max(scores):.2g}" if ious else ""
    if not count:
        others = "; the model is sure of nothing on these images: --images should show what it knows"
    return Difference(
        variant.path.name,
        "detections",
        lost / max(1, count),
        variant.tolerance.lost,
        "without counterpart",
        f"{lost} of {count}{others}",
    )
