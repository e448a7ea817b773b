"""A model from elsewhere is opened first in a process of its own: engines crash and hang on broken ones.

Whatever opens an ONNX file calls `check_opening` before. What is known to be good passes at once, see `known_models`.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import limits
from ..files import StrPath, file_sha256
from ..machine.cpu import usable_cores
from ..model_files.known_models import digest_of, is_known, remember
from ..model_files.onnx_file import BadModel
from ..spec import SsdSpec
from .onnx_model import fed_shape, takes_batches

if TYPE_CHECKING:
    from ..model_files.onnx_check import CheckedModel

# More would only cost memory for their stacks.
_MOST_THREADS = 4

# The path of imports is the caller's, so that what the caller imported is found, and nothing in the working folder.
_START = "import sys; sys.path[:] = sys.argv[1:]; from edge_ssd.engines.opening_child import main; main()"

_log = logging.getLogger(__name__)


class Trial(NamedTuple):
    """Who opens a model.

    engine: "onnxruntime" or "openvino"; "onnx" for its tools.   version: of that package.   shown: in messages.
    precision: see `OpenVinoEngine`.
    """

    engine: str
    version: str
    shown: str
    precision: str = "fp32"


def check_opening(path: StrPath, trial: Trial, spec: SsdSpec | None = None) -> None:
    """Returns when a model is good to be opened by an engine.

    path: the .onnx file, which is there.   spec: of the model, whose input size it is run with; None: its own.

    A model that is not known is checked (`check_onnx`), then opened and run once on zeros in a process of its own,
    with limits of time and memory (`edge_ssd.limits`). Programs without a Python of their own to start (frozen,
    embedded) go by the check alone.

    Raises BadModel, which does not name the file, from the check; ValueError naming it for what the engine refuses,
    and where it crashes, hangs or takes too much memory.
    """
    size = spec.input.size if spec else None
    shown = "x".join(map(str, size)) if size else "own"
    if spec and not takes_batches(spec):
        shown += f" {spec.input.layout} {spec.input.batch_axis}"
    key = f"{trial.engine} {trial.version} {trial.precision} {shown}"
    file_digest = file_sha256(path)
    if is_known(file_digest, key):
        return
    # Here: it takes as long as all the rest for a model that is known.
    from ..model_files.onnx_check import check_onnx

    model = check_onnx(path)
    digest = digest_of(path, file_digest, model.external)
    if digest != file_digest and is_known(digest, key):
        return
    if _open_in_child(Path(path), trial, model, spec):
        remember(digest, key)


def check_graph(path: StrPath) -> None:
    """Returns when an ONNX file is good to be read by the `onnx` package, and by engines that are not ours.

    As `check_opening`, with ONNX's own tools for an engine, whose errors do not count, only a crash or a hang; without
    that package, `check_onnx` alone.
    Raises ValueError naming the file.
    """
    import importlib.metadata  # here: it takes ten milliseconds

    from ..model_files.onnx_check import check_onnx

    try:
        try:
            trial = Trial("onnx", importlib.metadata.version("onnx"), "the onnx package")
        except importlib.metadata.PackageNotFoundError:
            check_onnx(path)
        else:
            check_opening(path, trial)
    except BadModel as error:
        raise ValueError(f"{path}: not a whole ONNX model ({error})") from None


def _open_in_child(path: Path, trial: Trial, model: CheckedModel, spec: SsdSpec | None) -> bool:
    """Whether the engine has opened and run a model; False where it could not be tried, or could not be fed."""
    if not _can_start_python():
        _log.info("%s: not tried in a process of its own: %s is no Python", path, sys.executable or "nothing")
        return False
    file_bytes = sum(file.stat().st_size for file in (path, *(path.parent / name for name in model.external)))
    seconds = limits.load_seconds(file_bytes)
    most_bytes = limits.load_bytes(file_bytes, *_work_of(model, spec))
    request = {
        "path": str(path),
        "engine": trial.engine,
        "precision": trial.precision,
        "image_shape": fed_shape(spec) if spec else None,
        "batch_axis": spec.input.batch_axis if spec else True,
        "outputs": _declared_outputs(model),
        "threads": min(usable_cores(), _MOST_THREADS),
        "most_bytes": most_bytes,
        "most_seconds": seconds + 5,
    }
    command = [sys.executable, "-c", _START, *filter(_is_text, sys.path)]
    # Of NumPy, whose threads take memory from the start.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    try:
        ended = subprocess.run(
            command,
            input=json.dumps(request).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise ValueError(
            f"{path}: {trial.shown} has not opened this model after {seconds:.3g} s; refused. Where it needs longer: "
            f"{limits.LOAD_SECONDS_VARIABLE}={6 * seconds:.0f}"
        ) from None
    except OSError as error:
        _log.warning("%s: not tried in a process of its own: %s", path, error)
        return False
    return _answer(ended, path, trial, most_bytes)


def _answer(ended: subprocess.CompletedProcess[bytes], path: Path, trial: Trial, most_bytes: int) -> bool:
    """Whether the model has run, as the process says. Raises ValueError for what it says otherwise."""
    said = _parsed(ended.stdout)
    if said.get("out_of_memory"):
        raise ValueError(
            f"{path}: {trial.shown} needs more than {most_bytes / 1e9:.1f} GB for this model; refused. Where it is to "
            f"have more: {limits.LOAD_GIGABYTES_VARIABLE}={4 * most_bytes / 1e9:.0f}"
        )
    if "error" in said:
        raise ValueError(str(said["error"]))
    if ended.returncode or "ran" not in said:
        raise ValueError(
            f"{path}: {trial.shown} crashes on this model, in a process of its own ({_end_shown(ended.returncode)}); "
            "refused"
        )
    return bool(said["ran"])


def _parsed(output: bytes) -> dict[str, Any]:
    try:
        said = json.loads(output)
    except ValueError:  # it has not come so far
        return {}
    return said if isinstance(said, dict) else {}


def _end_shown(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _declared_outputs(model: CheckedModel) -> dict[str, list[int | None] | None]:
    """The outputs as the file says them, where that follows from the input: its height and width are not left open."""
    inputs = list(model.inputs.values())
    return model.outputs if all(shape and None not in shape[1:] for shape in inputs) else {}


def _work_of(model: CheckedModel, spec: SsdSpec | None) -> tuple[int, int]:
    """(pixels of the input, priors; 0 where they are not known)."""
    if spec:
        return spec.input.height * spec.input.width, sum(level.count for level in spec.priors.levels)
    sides = [side or 1 for shape in model.inputs.values() for side in (shape or [])[-2:]]
    pixels = 1
    for side in sides[:2]:
        pixels *= max(1, side)
    return min(pixels, limits.MOST_INPUT_PIXELS), 0


def _can_start_python() -> bool:
    """Whether sys.executable is Python itself, and not the program that it is built into."""
    name = Path(sys.executable or "").name
    return not getattr(sys, "frozen", False) and bool(
        re.fullmatch(r"(python|pypy)[\d.]*[a-z]?(\.exe)?", name, re.IGNORECASE)
    )


def _is_text(entry: object) -> bool:
    return isinstance(entry, str) and "\0" not in entry
