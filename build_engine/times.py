"""How long one image takes in the network alone, in every engine that this machine has."""

from __future__ import annotations

import time

import numpy as np

from ..cpu_info import usable_cores

_ROUNDS = 7
# Within a round a file runs this often and the last call counts: the threads of the one before are asleep by then.
_CALLS = 3


def time_files(paths, spec, threads=0):
    """{engine: {path: median milliseconds}} of one image, by turns, for the ONNX files `paths`.

    spec: SsdSpec of all of them.   threads: of the CPU, 0: one per usable core.
    Engines that are not installed, and files that an engine does not take, are left out.
    """
    batch = np.zeros((1, 3, *spec.input.size), np.float32)
    threads = threads or usable_cores()
    times = {}
    for opener in (_onnxruntime, _openvino):
        name, runs = opener(paths, spec, batch, threads)
        if runs:
            times[name] = _medians(runs)
    return times


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
        runs[path] = lambda engine=engine: engine.infer(batch)
    return f"ONNX Runtime {onnxruntime.__version__}, {threads} threads", runs


def _openvino(paths, spec, batch, threads):
    try:
        import openvino
    except ImportError:
        return "", {}
    core = openvino.Core()
    # On its own it may compute in BF16 where the processor can, which is another precision than the file's.
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    runs = {}
    for path in paths:
        try:
            compiled = core.compile_model(str(path), "CPU", settings)
        except RuntimeError:
            continue
        runs[path] = lambda compiled=compiled: compiled({spec.input.name: batch})
    return f"OpenVINO {openvino.__version__.split('-')[0]}, {threads} threads", runs
