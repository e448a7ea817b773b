"""Whether a Subject computes the same network at all: before it is timed."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from ..spec import SsdSpec

# ||difference|| / ||output||: what a precision may cost. A wrong input or a wrong network is off by 1.
_TOLERANCES = {"fp32": 1e-3, "fp16": 0.01, "bf16": 0.05, "int8": 0.2}
_IMAGES = 2


def problem_of(subject, worker, images, plan):
    """What is wrong with a Subject's results, in one line; "" when nothing is.

    Its heads on a real image against those of ONNX Runtime in float32 on the ONNX file of the same name; where there
    is none, or the heads cannot be had, that it detects without an error.
    """
    worker.detect(_IMAGES)
    expected = _expected(_float_model(subject.model), images[0].tobytes(), images[0].shape)
    if expected is None:
        return ""
    blob, *wanted = expected
    found = worker.heads(blob)
    if found is None:
        return ""
    limit = _TOLERANCES[subject.precision]
    for name, ours, theirs in zip(("loc", "conf"), found, wanted):
        difference = ours.reshape(theirs.shape).astype(np.float32) - theirs
        off = np.linalg.norm(difference) / max(np.linalg.norm(theirs), 1e-6)
        if not off <= limit:
            return f"wrong: {name} is off by {off:.2g} of itself, {limit:g} is allowed in {subject.precision}"
    return ""


def _float_model(model):
    """NAME.onnx for NAME.onnx, NAME.int8.onnx, NAME.fp16.engine, NAME.pt."""
    return Path(model).with_name(f"{Path(model).name.split('.')[0]}.onnx")


@lru_cache(maxsize=4)
def _expected(model, pixels, shape):
    """(blob, loc, conf) of the reference's preprocess and ONNX Runtime; None without either file or package."""
    try:
        from ..engines.onnxruntime_engine import OnnxRuntimeEngine
    except ImportError:
        return None
    if not model.is_file():
        return None
    from ..reference import preprocess

    spec = SsdSpec.load(model.with_suffix(".json"))
    image = np.frombuffer(pixels, np.uint8).reshape(shape)
    blob = preprocess(image, spec)[0].astype(np.float32)
    engine = OnnxRuntimeEngine(model, spec, threads=1)
    try:
        loc, conf = engine.infer(blob)
    finally:
        engine.close()
    return blob, loc, conf
