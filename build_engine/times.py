"""How long one image takes in the network alone, in every engine that this machine has."""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

from ..machine.cpu import usable_cores
from ..machine.gpu import gpu_info
from .compile import CompileOptions, compile_engine

_ROUNDS = 15
# Within a round a file runs this often and the last call counts: the threads of the one before are asleep by then.
_CALLS = 3


def time_files(paths, spec, runtime, threads=0):
    """{engine: {path: median milliseconds}} of one image, by turns, for the ONNX files `paths`.

    spec: SsdSpec of all of them.   runtime: of the build; its plans are timed where there is a GPU for them.
    threads: of the CPU, 0: one per usable core.
    Engines that are not installed, and files that an engine does not take, are left out.
    """
    batch = np.zeros((1, 3, *spec.input.size), np.float32)
    threads = threads or usable_cores()
    times = _timed(_onnxruntime(paths, spec, batch, threads)) | _timed(_openvino(paths, spec, batch, threads))
    if runtime != "cpu":
        times |= _timed(_tensorrt(paths, spec, batch, runtime))
    return times


def _timed(opened):
    """opened: (engine, {path: function of one call})."""
    name, runs = opened
    return {name: _medians(runs)} if runs else {}


def _medians(runs):
    found = {path: [] for path in runs}
    for _ in range(_ROUNDS):
        for path, run in runs.items():
            for _ in range(_CALLS):
                start = time.perf_counter()
                run()
                spent_ms = 1e3 * (time.perf_counter() - start)
            found[path].append(spent_ms)
    return {path: float(np.median(values)) for path, values in found.items()}


def _onnxruntime(paths, spec, batch, threads):
    import onnxruntime

    from ..engines.onnxruntime_engine import OnnxRuntimeEngine

    runs = {}
    for path in paths:
        engine = OnnxRuntimeEngine(path, spec, threads)
        runs[path] = partial(engine.infer, batch)
    return f"ONNX Runtime {onnxruntime.__version__}, {threads} threads", runs


def _openvino(paths, spec, batch, threads):
    try:
        from ..engines.openvino_engine import OpenVinoEngine
    except ImportError:
        return "", {}
    name, runs = "", {}
    for path in paths:
        try:
            engine = OpenVinoEngine(path, spec, threads)
            engine.infer(batch)
        except ValueError:  # an operator that it does not know
            continue
        name = f"{engine.description.partition(',')[0]}, {threads} threads"
        runs[path] = partial(engine.infer, batch)
    return name, runs


def _tensorrt(paths, spec, batch, runtime):
    """Plans of the files, made for this and thrown away. Has not run on a GPU yet; the tests use stand-ins."""
    try:
        gpu = gpu_info()
        import cupy

        from ..engines.tensorrt_engine import TensorRtEngine
    except (ImportError, OSError):
        return "", {}
    name, runs = "", {}
    origin = dict.fromkeys(("precision", "source", "source_sha256", "calibration_sha256", "command"), "")
    with tempfile.TemporaryDirectory() as folder:
        for i, path in enumerate(paths):
            plan = Path(folder, f"{i}.engine")
            try:
                manifest = compile_engine(path, spec, plan, CompileOptions(runtime), origin)
                engine, _ = TensorRtEngine.open(plan)
            # The int8-cpu placement, a model of another batch size, no room: no reason to lose the build.
            except (ValueError, OSError, MemoryError):
                continue
            name = f"{manifest.flavour} {manifest.version}, {gpu.name}"
            on_device = cupy.asarray(batch.astype(engine.input_dtype))
            runs[path] = partial(_infer_and_wait, engine, on_device, cupy.cuda.get_current_stream())
    return name, runs


def _infer_and_wait(engine, batch, stream):
    engine.infer(batch)
    stream.synchronize()
