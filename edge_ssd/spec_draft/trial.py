"""Whether a run would take a draft."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..engines import Engine
from ..engines.choice import choose_cpu_engine
from ..frames import Frame
from ..spec import SsdSpec


def try_spec(path: Path, spec: SsdSpec) -> None:
    """Runs the model once on a black image, through the engine that `edge-ssd run` takes.

    Raises ValueError for what that refuses. Without OpenCV, which resizes images, nothing is run, and the counts of
    priors and columns have to do.
    """
    try:
        from ..backends.cpu import CpuBackend
    except ImportError:
        return
    engine = _engine(path, spec)
    try:
        CpuBackend(engine, spec).submit([Frame(np.zeros((*spec.input.size, 3), np.uint8))])
    except ValueError as error:
        raise ValueError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
    finally:
        engine.close()


def _engine(path: Path, spec: SsdSpec) -> Engine:
    choice = choose_cpu_engine(path, "auto", "auto")
    if choice.name == "openvino":
        from ..engines.openvino_engine import OpenVinoEngine

        return OpenVinoEngine(path, spec, precision=choice.precision)
    from ..engines.onnxruntime_engine import OnnxRuntimeEngine

    return OnnxRuntimeEngine(path, spec)
