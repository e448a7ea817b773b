"""Detector: frames in, detections out, whatever the device."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .backends import load_backend
from .detections import Detections
from .frames import Frame, now_ns
from .timing import StageTimer

_MOST_THREADS = 1024


class UnknownClass(ValueError):
    """A class name that the model does not have."""


@dataclass(frozen=True)
class DetectorOptions:
    """What a user may change when loading a model; None takes the spec's value.

    classes: names to look for; empty means all.   threads: CPU threads of the network, 0: all cores.
    """

    score_threshold: float | None = 0.5
    iou_threshold: float | None = None
    top_k: int | None = None
    max_detections: int | None = None
    classes: tuple[str, ...] = ()
    threads: int = 0

    def __post_init__(self):
        if isinstance(self.classes, str):
            raise TypeError(f"classes: expected names in a list, got the text {self.classes!r}")
        if not 0 <= self.threads <= _MOST_THREADS:
            raise ValueError(f"threads: expected 0 to {_MOST_THREADS}, got {self.threads}")

    def applied_to(self, spec):
        """The spec with these limits. Raises ValueError naming the one that is out of range."""
        names = ("score_threshold", "iou_threshold", "top_k", "max_detections")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return replace(spec, postprocess=replace(spec.postprocess, **given))

    def labels_in(self, spec):
        """Indices of `classes` in the spec's class_names, every one of a repeated name; None for all."""
        if not self.classes:
            return None
        for name in self.classes:
            if name not in spec.class_names:
                raise UnknownClass(
                    f"classes: this model has no {name!r}; it has {', '.join(spec.class_names)}"
                )
        return np.array([i for i, name in enumerate(spec.class_names) if name in self.classes])


class Detector:
    """An SSD that is ready to run. Not thread-safe: one per thread.

        detector = Detector.load("ssd300.onnx")
        detections = detector.detect(frame)

    timer.latest_ms: milliseconds of preprocess, infer and postprocess of the latest call.
    """

    def __init__(self, backend):
        self._backend = backend
        self.timer = StageTimer()

    @classmethod
    def load(
        cls,
        path,
        score_threshold=0.5,
        classes=None,
        iou_threshold=None,
        top_k=None,
        max_detections=None,
        threads=0,
    ):
        """The detector in a model file: NAME.onnx with its spec NAME.json, or a training checkpoint .pt.

        score_threshold: None takes the spec's, which is meant for evaluation.   classes: names to look
        for; all when None.   iou_threshold, top_k, max_detections: the spec's when None.
        threads: CPU threads of the network, one per usable core when 0.

        Raises FileNotFoundError, ValueError (model, spec or argument does not fit; UnknownClass for a
        class name) or ImportError (naming what to install).
        """
        options = DetectorOptions(
            score_threshold,
            iou_threshold,
            top_k,
            max_detections,
            classes if isinstance(classes, str) else tuple(classes or ()),
            threads,
        )
        return cls(load_backend(path, options))

    @property
    def spec(self):
        """The model's SsdSpec, with the thresholds in force."""
        return self._backend.spec

    @property
    def class_names(self):
        """Names of the labels, a tuple; background is not among them."""
        return self.spec.class_names

    @property
    def description(self):
        """The engine and the device, for a report."""
        return self._backend.engine.description

    def detect(self, frame):
        """Detections in one frame, boxes in its own pixels.

        frame: a Frame, or a (H, W, 3) uint8 BGR array as OpenCV has it.
        Raises ValueError for an image that is neither, and when the network gives NaN or Inf.
        """
        frame = _as_frame(frame)
        with self.timer("preprocess"):
            batch, plan = self._backend.preprocess(frame)
        with self.timer("infer"):
            loc, conf = self._backend.infer(batch)
        with self.timer("postprocess"):
            return self._finish(frame, plan, loc[0], conf[0])

    def detect_batch(self, frames):
        """Detections of several images, in as few calls of the network as the model allows.

        frames: list of what `detect` takes, of any sizes. Returns a list of Detections in the same order.
        """
        frames = [_as_frame(frame) for frame in frames]
        with self.timer("preprocess"):
            prepared = [(batch.copy(), plan) for batch, plan in map(self._backend.preprocess, frames)]
        at_once = self._backend.engine.max_batch or max(1, len(frames))
        detections = []
        spent_ms = {"infer": 0.0, "postprocess": 0.0}
        for start in range(0, len(frames), at_once):
            part = prepared[start : start + at_once]
            with self.timer("infer"):
                loc, conf = self._backend.infer(np.concatenate([batch for batch, _ in part]))
            with self.timer("postprocess"):
                for i, (_, plan) in enumerate(part):
                    detections.append(self._finish(frames[start + i], plan, loc[i], conf[i]))
            for stage in spent_ms:
                spent_ms[stage] += self.timer.latest_ms[stage]
        self.timer.latest_ms.update(spent_ms)
        return detections

    def _finish(self, frame, plan, loc, conf):
        rows, (count, dropped) = self._backend.postprocess(loc, conf)
        if dropped:
            outputs = self.spec.outputs
            name = outputs.conf if np.isfinite(loc).all() else outputs.loc
            raise ValueError(
                f"output {name!r} holds NaN or Inf for {dropped} of {len(loc)} priors ({frame.source or 'image'}); "
                "the model's weights or its precision are broken"
            )
        return Detections.from_rows(rows, count, plan, frame.timestamp_ns)

    def close(self):
        """Frees the engine; the detector cannot be used afterwards."""
        self._backend.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def _as_frame(frame):
    if isinstance(frame, Frame):
        return frame
    if not isinstance(frame, np.ndarray):
        raise TypeError(f"frame: expected a Frame or a (H, W, 3) uint8 BGR array, got {type(frame).__name__}")
    return Frame(frame, timestamp_ns=now_ns())
