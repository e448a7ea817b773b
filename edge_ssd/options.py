"""What a user may change when a model is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .spec import SsdSpec

_MOST_THREADS = 1024

# How frames get to a GPU, and how the host waits for it; see `Detector.load`.
MEMORY_MODES = ("auto", "mapped", "pinned")
WAITS = ("auto", "spin", "block")

# What runs an ONNX model on the CPU.
CPU_ENGINES = ("auto", "onnxruntime", "openvino")

# What its float layers are computed in.
PRECISIONS = ("auto", "fp32", "bf16")


class UnknownClass(ValueError):
    """A class name that the model does not have."""


_CHOICES = {"memory": MEMORY_MODES, "wait": WAITS, "engine": CPU_ENGINES, "precision": PRECISIONS}


@dataclass(frozen=True)
class DetectorOptions:
    """What a user may change when loading a model; None takes the spec's value.

    classes: names to look for; empty means all.   threads: CPU threads of the network, 0: all cores.
    in_flight: frames that an ONNX model works on at once, 0: one per thread.
    engine, precision: what runs an ONNX model, and computes it in; memory, wait, rebuild: of a GPU; trust_engine,
    trust_checkpoint: what a file may do; see `Detector.load`.
    """

    score_threshold: float | None = 0.5
    iou_threshold: float | None = None
    top_k: int | None = None
    max_detections: int | None = None
    classes: Sequence[str] = ()
    threads: int = 0
    memory: str = "auto"
    wait: str = "auto"
    rebuild: bool = False
    engine: str = "auto"
    in_flight: int = 1
    precision: str = "auto"
    trust_engine: bool = False
    trust_checkpoint: bool = False

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}: expected one of {', '.join(choices)}, got {getattr(self, name)!r}")
        if isinstance(self.classes, str):
            raise TypeError(f"classes: expected names in a list, got the text {self.classes!r}")
        if not 0 <= self.threads <= _MOST_THREADS:
            raise ValueError(f"threads: expected 0 to {_MOST_THREADS}, got {self.threads}")
        if not 0 <= self.in_flight <= _MOST_THREADS:
            raise ValueError(f"in_flight: expected 0 to {_MOST_THREADS}, got {self.in_flight}")

    def applied_to(self, spec: SsdSpec) -> SsdSpec:
        """The spec with these limits. Raises ValueError naming the one that is out of range."""
        names = ("score_threshold", "iou_threshold", "top_k", "max_detections")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return replace(spec, postprocess=replace(spec.postprocess, **given))

    def labels_in(self, spec: SsdSpec) -> np.ndarray | None:
        """Indices of `classes` in the spec's class_names, every one of a repeated name; None for all."""
        if not self.classes:
            return None
        for name in self.classes:
            if name not in spec.class_names:
                raise UnknownClass(
                    f"classes: this model has no {name!r}; it has {', '.join(spec.class_names)}"
                )
        return np.array([i for i, name in enumerate(spec.class_names) if name in self.classes])
