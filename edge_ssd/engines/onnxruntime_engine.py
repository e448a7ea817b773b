"""ONNX Runtime as engine: the network on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from ..files import StrPath
from ..machine.cpu import usable_cores
from ..model_files.load_advice import cannot_load
from ..model_files.onnx_file import BadModel
from ..spec import SsdSpec
from .onnx_model import as_fed, check_input, check_outputs, filled_up, heads_of
from .opening import Trial, check_opening

# Idle threads poll for this long, then sleep. By default (releases that do not know the option keep it) they poll
# from one frame to the next: at 30 frames a second SSDLite320 took 50 ms of CPU time a frame instead of 18, no
# faster; beside a busy process it took 90 ms instead of 45.
# Measured beside it and left as they are, frame time by that of the defaults: threads tied to cores 1.01,
# denormals as zero 1.02, no memory pattern 1.02, no arena 1.03, no channel-blocked layout 2.5.
_SPIN_US = 200

# Batch sizes that have arrays of their own, the latest ones.
_MOST_SIZES = 4

INPUT_DTYPES = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(uint8)": np.dtype(np.uint8),
}


class OnnxRuntimeEngine:
    """One ONNX model in an ONNX Runtime session.

    path: the .onnx file.   spec: its SsdSpec, which names the input and the outputs.
    threads: CPU threads of the network; 0 takes one per core that this process may use.
    in_flight: calls of `infer` that run at once, in engines that `share` it: the threads are all of theirs together.

    Raises FileNotFoundError; ValueError when the file is not a model or does not fit the spec.
    """

    precision = "fp32"
    interleaved = False

    def __init__(self, path: StrPath, spec: SsdSpec, threads: int = 0, in_flight: int = 1) -> None:
        self._path, self._spec = path, spec
        # The session's own threads help every caller, and each caller computes too.
        self._session = open_session(path, max(1, (threads or usable_cores()) - in_flight + 1), spec)
        self.input_dtype, self.max_batch = check_input(path, spec, input_types(self._session))
        check_outputs(path, spec, [output.name for output in self._session.get_outputs()])
        self._input_name = spec.input.name
        self._output_names = list(spec.outputs.names)
        self._bound: dict[int, _Bound] = {}  # by batch size
        self.description = f"ONNX Runtime {onnxruntime.__version__}, CPU"

    def infer(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(B, 3, H, W) -> the outputs `loc` and `conf` as the graph has them, valid until the next call."""
        if self._session is None:
            raise ValueError("the engine is closed")
        whole = filled_up(batch, self.max_batch)
        fed = as_fed(whole, self._spec)
        bound = self._bound.get(len(whole))
        if bound is None:
            bound = self._bind(self._session, fed, len(whole))  # which has run it
        else:
            bound.run(fed, self._path)
        return heads_of(bound.outputs, self._spec, len(batch))

    def share(self) -> OnnxRuntimeEngine:
        """See SharedEngine: a session may be run by several threads."""
        other = copy(self)
        other._bound = {}
        return other

    def _bind(self, session: onnxruntime.InferenceSession, fed: np.ndarray, count: int) -> _Bound:
        if len(self._bound) == _MOST_SIZES:
            self._bound.pop(next(iter(self._bound)))
        outputs = run_session(session, self._output_names, {self._input_name: fed}, self._path)
        bound = _Bound(session, self._input_name, dict(zip(self._output_names, outputs)))
        self._bound[count] = bound
        return bound

    def close(self) -> None:
        """Frees the session, once those that share it are closed, too."""
        self._bound.clear()
        self._session = None


class _Bound:
    """Calls of one batch size, whose outputs lie in the same arrays each time: nothing is allocated for a frame.

    outputs: {name: array}, what a first call gave.
    """

    def __init__(
        self, session: onnxruntime.InferenceSession, input_name: str, outputs: dict[str, np.ndarray]
    ) -> None:
        self._session, self._input_name = session, input_name
        self.outputs = tuple(outputs.values())
        self._binding = session.io_binding()
        for name, array in outputs.items():
            self._binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        self._batch: np.ndarray | None = None  # that is bound

    def run(self, batch: np.ndarray, path: StrPath) -> None:
        """Fills `outputs` for a batch. Raises ValueError naming the model file when the network fails."""
        with _failures_named(path):
            if batch is not self._batch:
                self._batch = np.ascontiguousarray(batch)
                self._binding.bind_cpu_input(self._input_name, self._batch)
            self._session.run_with_iobinding(self._binding)


def open_session(
    path: StrPath, threads: int = 0, spec: SsdSpec | None = None
) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session on the CPU.

    threads: of the network; 0 takes one per usable core.   spec: of the model, where it has one.
    Raises FileNotFoundError, or ValueError when the file is not a whole ONNX model, names addresses in memory or does
    not pass `check_opening`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such model file")
    try:
        check_opening(path, Trial("onnxruntime", onnxruntime.__version__, "ONNX Runtime"), spec)
    except BadModel as error:
        raise cannot_load(path, "ONNX Runtime", str(error)) from None
    return load_session(path, threads)


def load_session(path: Path, threads: int = 0) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session of a file that has passed `check_opening`, or may do harm. See `open_session`."""
    try:
        return new_session(str(path), threads)
    except Exception as error:  # ONNX Runtime's exceptions have no common base but Exception
        raise cannot_load(path, "ONNX Runtime", _reason(error)) from error


def new_session(model: str | bytes, threads: int = 0, optimise: bool = True) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session on the CPU; raises ONNX Runtime's own exceptions.

    model: a path as text, or a serialised model.   optimise: False keeps every tensor that the graph names.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(_SPIN_US))
    options.log_severity_level = 4  # what matters comes as an exception
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run_session(
    session: onnxruntime.InferenceSession,
    names: Sequence[str] | None,
    feeds: dict[str, np.ndarray],
    path: StrPath,
) -> Sequence[Any]:
    """The outputs `names` of a session, all for None. Raises ValueError naming the file when the network fails."""
    with _failures_named(path):
        return session.run(names, feeds)


@contextmanager
def _failures_named(path):
    try:
        yield
    except Exception as error:  # ONNX Runtime's exceptions have no common base but Exception
        raise ValueError(f"{path}: the network fails in ONNX Runtime ({_reason(error)})") from error


def _reason(error):
    return str(error).splitlines()[0].split(" : ")[-1].strip()


def input_types(session: onnxruntime.InferenceSession) -> dict[str, tuple[Any, Sequence[Any]]]:
    """{name: (dtype, shape)} of a session's inputs; a dtype that we do not feed is ONNX Runtime's name for it."""
    return {
        entry.name: (INPUT_DTYPES.get(entry.type, entry.type), entry.shape) for entry in session.get_inputs()
    }
