"""How long one image takes in the network alone, in every engine that this machine has."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..machine.cpu import usable_cores
from ..machine.gpu import gpu_info
from ..spec import SsdSpec
from .compile import CompileOptions, compile_engine, find_target
from .model_file import batch_of, read_proto

# The engine, "" for none, and a function of one call for each file.
_Runs = tuple[str, dict[Path, Callable[[], Any]]]

_ROUNDS = 15
# Within a round a file runs this often and the last call counts: the threads of the one before are asleep by then.
_CALLS = 3


def time_files(
    paths: Sequence[Path], spec: SsdSpec, runtime: str, threads: int = 0
) -> dict[str, dict[Path, float]]:
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


def _timed(opened: _Runs) -> dict[str, dict[Path, float]]:
    name, runs = opened
    return {name: _medians(runs)} if runs else {}


def _medians(runs: Mapping[Path, Callable[[], Any]]) -> dict[Path, float]:
    found: dict[Path, list[float]] = {path: [] for path in runs}
    for _ in range(_ROUNDS):
        for path, run in runs.items():
            spent_ms = [_milliseconds(run) for _ in range(_CALLS)]
            found[path].append(spent_ms[-1])
    return {path: float(np.median(values)) for path, values in found.items()}


def _milliseconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - start)


def _onnxruntime(paths: Sequence[Path], spec: SsdSpec, batch: np.ndarray, threads: int) -> _Runs:
    import onnxruntime

    from ..engines.onnxruntime_engine import OnnxRuntimeEngine

    runs = {}
    for path in paths:
        engine = OnnxRuntimeEngine(path, spec, threads)
        runs[path] = partial(engine.infer, batch)
    return f"ONNX Runtime {onnxruntime.__version__}, {threads} threads", runs


def _openvino(paths: Sequence[Path], spec: SsdSpec, batch: np.ndarray, threads: int) -> _Runs:
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


def _tensorrt(paths: Sequence[Path], spec: SsdSpec, batch: np.ndarray, runtime: str) -> _Runs:
    """Plans of the files, made for this and thrown away. Has not run on a GPU yet; the tests use stand-ins."""
    try:
        gpu = gpu_info()
        import cupy

        from ..engines.tensorrt_engine import TensorRtEngine
    except (ImportError, OSError):
        return "", {}
    name, runs = "", {}
    origin: dict[str, str] = dict.fromkeys(
        ("precision", "source", "source_sha256", "calibration_sha256", "command"), ""
    )
    with tempfile.TemporaryDirectory() as folder:
        for i, path in enumerate(paths):
            plan = Path(folder, f"{i}.engine")
            try:
                model_batch = batch_of(read_proto(path), spec)
                target = find_target(CompileOptions(runtime), path, model_batch, folder)
                manifest = compile_engine(path, spec, plan, target, origin)
                engine, _ = TensorRtEngine.open(plan)
            # The int8-cpu placement, a model of another batch size, no room: no reason to lose the build.
            except (ValueError, OSError, MemoryError):
                continue
            name = f"{manifest.flavour} {manifest.version}, {gpu.name}"
            on_device = cupy.asarray(batch.astype(engine.input_dtype))
            runs[path] = partial(_infer_and_wait, engine, on_device, cupy.cuda.get_current_stream())
    return name, runs


def _infer_and_wait(engine: Any, batch: Any, stream: Any) -> None:
    engine.infer(batch)
    stream.synchronize()
