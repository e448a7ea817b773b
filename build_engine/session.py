"""ONNX Runtime sessions of models that are in memory."""

from __future__ import annotations

import onnxruntime

from ..cpu_info import usable_cores


def open_bytes(data, threads=0, optimise=True):
    """A session on the CPU of a serialised model.

    threads: 0 takes one per usable core.   optimise: False keeps every tensor that the graph names.
    Raises ValueError when ONNX Runtime refuses the model.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.log_severity_level = 4  # what matters comes as an exception
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no common base but Exception
        raise ValueError(f"ONNX Runtime refuses the model ({str(error).splitlines()[0]})") from error
