"""What runs in the process of its own that `opening` starts: one engine opens one model, and runs it on zeros."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import suppress
from copy import deepcopy
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx

# Twice, and freed before the answer is given: what is written beside its place shows at the next allocation, or at
# the end.
_RUNS = 2

# See `build_engine.graph.OPSET`.
_BUILD_OPSET = 19

_MEMORY_WORDS = ("bad_alloc", "bad allocation", "allocate", "out of memory")


def main() -> None:
    """Reads a request (JSON) and prints an answer (JSON): "ran", "error" or "out_of_memory"."""
    request = json.load(sys.stdin)
    answer = os.dup(1)
    quiet = os.open(os.devnull, os.O_WRONLY)  # engines write to standard output, too
    for stream in (1, 2):
        os.dup2(quiet, stream)
    _limit(request)
    said: dict[str, Any] = {}
    try:
        said["ran"] = _OPENERS[request["engine"]](Path(request["path"]), request)
    except MemoryError:
        said["out_of_memory"] = True
    except ValueError as error:
        said["error"] = str(error)
        said["out_of_memory"] = any(word in str(error).lower() for word in _MEMORY_WORDS)
    os.write(answer, json.dumps(said).encode())


def _limit(request: dict[str, Any]) -> None:
    with suppress(ImportError, OSError, ValueError):  # Windows; a lower limit of the user's own
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (request["most_bytes"],) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if hasattr(signal, "alarm"):  # should the caller be gone by then
        signal.alarm(int(request["most_seconds"]))
    with suppress(OSError):  # Linux; where memory runs out, this process goes first
        Path("/proc/self/oom_score_adj").write_text("1000")


def _open_onnxruntime(path: Path, request: dict[str, Any]) -> bool:
    from .onnxruntime_engine import input_types, load_session, run_session

    session = load_session(path, request["threads"])
    feeds = _zeros(input_types(session), request["image_shape"], request["batch_axis"])
    if feeds is None:
        return False
    for _ in range(_RUNS):
        run_session(session, None, feeds, path)
    return True


def _open_openvino(path: Path, request: dict[str, Any]) -> bool:
    from .openvino_engine import Network, settings_of

    _check_shapes(path)
    settings = settings_of(request["threads"], request["precision"])
    network = Network(path, request["image_shape"], settings, request["batch_axis"])
    feeds = _zeros(network.input_types(), request["image_shape"], request["batch_axis"])
    if feeds is None:
        return False
    (batch,) = feeds.values()
    shapes = [network.run(batch) for _ in range(_RUNS)][-1]
    _check_declared(path, shapes, request["outputs"])
    return True


def _open_onnx(path: Path, request: dict[str, Any]) -> bool:
    """What inspecting and building do with a file. An error there has words of its own; here only a crash counts."""
    import onnx
    from onnx import checker, shape_inference, version_converter

    steps = (
        lambda: checker.check_model(str(path), full_check=True),
        lambda: shape_inference.infer_shapes(onnx.load(str(path)), strict_mode=True, data_prop=True),
        lambda: version_converter.convert_version(onnx.load(str(path)), _BUILD_OPSET),
    )
    for step in steps:
        with suppress(Exception):
            step()
    return True


def _zeros(
    inputs: dict[str, tuple[Any, Any]], image_shape: list[int] | None, batch_axis: bool
) -> dict[str, np.ndarray] | None:
    """A batch of zeros for the one input of a model; None where it cannot be fed, which its caller says better."""
    if len(inputs) != 1:
        return None
    ((name, (dtype, shape)),) = inputs.items()
    if not isinstance(dtype, np.dtype) or len(shape) != 3 + batch_axis:
        return None
    given = [side if isinstance(side, int) else None for side in shape]
    wanted = [given[0] or 1] if batch_axis else []
    wanted += image_shape or [3, *given[-2:]]
    if None in wanted or any(side not in (None, other) for side, other in zip(given, wanted)):
        return None
    return {name: np.zeros([int(side or 1) for side in wanted], dtype)}


def _check_shapes(path: Path) -> None:
    """Raises ValueError where the shapes of a graph contradict each other, or the outputs that the file declares.

    OpenVINO believes what is declared and writes beyond it. Says nothing where `onnx` is not installed, or older than
    the file. Not onnx.checker: it refuses what engines run, such as outputs without shapes and nodes out of order.
    """
    try:
        import onnx
    except ImportError:
        return
    try:
        model = onnx.load(str(path), load_external_data=False)
        opset = max(
            (entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1
        )
        if opset > onnx.defs.onnx_opset_version():
            return
        _put_in_order(model.graph)
        del model.graph.value_info[:]  # exporters leave old ones there, and nothing reads them
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except Exception as error:  # ONNX's exceptions have no common base but Exception
        raise ValueError(f"{path}: its shapes contradict each other ({_first_line(error)})") from None


def _put_in_order(graph: onnx.GraphProto) -> None:
    """Puts nodes behind those whose outputs they read; engines do that themselves, ONNX's inference does not."""
    makers = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    needs = {i: {makers[name] for name in node.input if name in makers} for i, node in enumerate(graph.node)}
    if all(before < i for i, others in needs.items() for before in others):
        return
    nodes = [deepcopy(graph.node[i]) for i in TopologicalSorter(needs).static_order()]
    del graph.node[:]
    graph.node.extend(nodes)


def _check_declared(
    path: Path, shapes: dict[str, list[int]], outputs: dict[str, list[int | None] | None]
) -> None:
    """Raises ValueError where an output of another shape comes than the file says: then it may not have had room."""
    for name, shape in shapes.items():
        declared = outputs.get(name)
        if declared is None:
            continue
        if len(declared) != len(shape) or any(a not in (None, 0, b) for a, b in zip(declared[1:], shape[1:])):
            raise ValueError(f"{path}: output {name!r} is {shape}, the file says {declared}")


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


_OPENERS = {"onnxruntime": _open_onnxruntime, "openvino": _open_openvino, "onnx": _open_onnx}
