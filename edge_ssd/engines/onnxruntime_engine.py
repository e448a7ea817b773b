"""ONNX Runtime as engine: the network on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime

from ..cpu_info import usable_cores

INPUT_DTYPES = {"tensor(float)": np.dtype(np.float32), "tensor(float16)": np.dtype(np.float16)}


class OnnxRuntimeEngine:
    """One ONNX model in an ONNX Runtime session.

    path: the .onnx file.   spec: its SsdSpec, which names the input and the outputs.
    threads: CPU threads of the network; 0 takes one per core that this process may use.

    Raises FileNotFoundError; ValueError when the file is not a model or does not fit the spec.
    """

    def __init__(self, path, spec, threads=0):
        self._path = path
        self._session = open_session(path, threads)
        entry = _checked_input(self._session, spec, path)
        _check_outputs(self._session, spec, path)
        self._input_name = entry.name
        self._output_names = [spec.outputs.loc, spec.outputs.conf]
        self.input_dtype = INPUT_DTYPES[entry.type]
        self.max_batch = entry.shape[0] if isinstance(entry.shape[0], int) else 0
        self.description = f"ONNX Runtime {onnxruntime.__version__}, CPU"

    def infer(self, batch):
        """(B, 3, H, W) -> the outputs `loc` and `conf` as the graph has them, first axis B."""
        count = len(batch)
        if self.max_batch and count != self.max_batch:
            if count > self.max_batch:
                raise ValueError(f"batch: this model takes {self.max_batch} images at a time, got {count}")
            batch = np.concatenate([batch, np.zeros((self.max_batch - count, *batch.shape[1:]), batch.dtype)])
        if self._session is None:
            raise ValueError("the engine is closed")
        loc, conf = run_session(self._session, self._output_names, {self._input_name: batch}, self._path)
        return loc[:count], conf[:count]

    def close(self):
        """Frees the session."""
        self._session = None


def open_session(path, threads=0):
    """An ONNX Runtime session on the CPU.

    threads: of the network; 0 takes one per usable core.
    Raises FileNotFoundError, or ValueError when the file is not a whole ONNX model.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such model file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.log_severity_level = 4  # what matters comes as an exception
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no common base but Exception
        raise ValueError(
            f"{path}: ONNX Runtime cannot load this model ({_reason(error)}). Is the file complete, and is it ONNX?"
        ) from error


def run_session(session, names, feeds, path):
    """The outputs `names` of a session. Raises ValueError naming the model file when the network fails."""
    try:
        return session.run(names, feeds)
    except Exception as error:  # ONNX Runtime's exceptions have no common base but Exception
        raise ValueError(f"{path}: the network fails in ONNX Runtime ({_reason(error)})") from error


def _reason(error):
    return str(error).splitlines()[0].split(" : ")[-1].strip()


def _checked_input(session, spec, path):
    entries = {entry.name: entry for entry in session.get_inputs()}
    entry = entries.get(spec.input.name)
    if entry is None:
        raise ValueError(
            f"{path}: the spec's input.name is {spec.input.name!r}, the model has {_listed(entries)}"
        )
    if len(entries) > 1:
        raise ValueError(f"{path}: expected one input, the model has {_listed(entries)}")
    if entry.type not in INPUT_DTYPES:
        raise ValueError(f"{path}: input {entry.name!r}: expected float32 or float16, got {entry.type}")
    wanted = (3, *spec.input.size)
    given = tuple(entry.shape[1:])
    if len(given) != 3 or any(isinstance(g, int) and g != w for g, w in zip(given, wanted)):
        raise ValueError(
            f"{path}: input {entry.name!r} is {entry.shape}, the spec says (B, {', '.join(map(str, wanted))})"
        )
    return entry


def _check_outputs(session, spec, path):
    names = [output.name for output in session.get_outputs()]
    for key in ("loc", "conf"):
        name = getattr(spec.outputs, key)
        if name not in names:
            raise ValueError(f"{path}: the spec's outputs.{key} is {name!r}, the model has {_listed(names)}")


def _listed(names):
    return ", ".join(repr(name) for name in names) or "none"
