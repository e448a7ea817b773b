"""The pipeline with a TensorRT engine, built here through this package's own command line."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from edge_ssd.bench.networks import random_network

from .pipeline import CAMERAS, SECTION, measure_engine

# By their names on the command line; the first that is installed is measured.
_RUNTIMES = {"tensorrt": "tensorrt", "rtx": "tensorrt_rtx"}
_ARCH = "ssd300_vgg16"


def run(records):
    """Adds the rows of this section; one row that says what is missing where there is no TensorRT."""
    installed = [name for name, module in _RUNTIMES.items() if importlib.util.find_spec(module)]
    with tempfile.TemporaryDirectory() as folder:
        with records.row(SECTION, f"{_ARCH}, TensorRT float16: built") as values:
            if not installed:
                raise ImportError("neither tensorrt nor tensorrt_rtx is installed")
            start = time.perf_counter()
            plan = build(Path(folder), installed[0])
            values.update(runtime=installed[0], seconds=time.perf_counter() - start)
        if not values:
            return
        with records.row(SECTION, f"{_ARCH}, TensorRT float16: opened") as values:
            from edge_ssd.engines.tensorrt_engine import TensorRtEngine

            engine, spec = TensorRtEngine.open(plan)
            values.update(engine=engine.description)
        if values:
            measure_engine(records, f"{_ARCH}, TensorRT float16", engine, spec)
            engine.close()


def build(folder, runtime):
    """Path of an FP16 engine of SSD300 with random weights, for up to CAMERAS images. Raises RuntimeError with
    the last line that the build wrote, when it fails."""
    from edge_ssd.training.export_onnx import export_onnx

    model, plan = folder / f"{_ARCH}.onnx", folder / f"{_ARCH}.engine"
    export_onnx(*random_network(_ARCH), model)
    command = [sys.executable, "-m", "edge_ssd", "build", model, "--precision", "fp16", "--runtime", runtime]
    command += ["--calibration", "demo://?seed=1&frames=16", "--batch", "1", str(CAMERAS), str(CAMERAS)]
    done = subprocess.run([*map(str, command), "--out", str(plan)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no message"])[-1])
    return plan
