"""ONNX Runtime sessions of models that are in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnxruntime

from ..engines.onnxruntime_engine import new_session


def open_bytes(data: bytes, threads: int = 0, optimise: bool = True) -> onnxruntime.InferenceSession:
    """A session on the CPU of a serialised model.

    threads: 0 takes one per usable core.   optimise: False keeps every tensor that the graph names.
    Raises ValueError when ONNX Runtime refuses the model.
    """
    try:
        return new_session(data, threads, optimise)
    except Exception as error:  # ONNX Runtime's exceptions have no common base but Exception
        raise ValueError(f"ONNX Runtime refuses the model ({str(error).splitlines()[0]})") from error


def run_arrays(
    session: onnxruntime.InferenceSession, names: Sequence[str], feeds: Mapping[str, np.ndarray]
) -> list[np.ndarray]:
    """The outputs `names` of a session that gives arrays (ONNX has lists, maps and sparse tensors, too).

    feeds: {input: array}.   Raises ONNX Runtime's own exceptions.
    """
    return [np.asarray(value) for value in session.run(names, feeds)]
