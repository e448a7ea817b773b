"""A bundle: all that a robot needs to run a model offline, in one zip file."""

from __future__ import annotations

import importlib.util
import json
import logging
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from .. import limits
from ..files import StrPath, file_sha256, replacing, user_cache_folder
from ..files.inside import file_inside, stays_inside
from ..files.json_fields import read_json
from ..machine.gpu import gpu_info
from ..spec import SsdSpec
from .external_data import external_locations
from .manifest import Running, check_manifest, manifest_path, read_manifest
from .onnx_file import refuse_memory_addresses
from .unpack import FORMAT, INDEX, check_bundle, unpack

_log = logging.getLogger(__name__)

_README = """\
Run it:    edge-ssd run --model {zip} --camera 0
           (pip install edge-ssd[cpu] on an ordinary machine; edge-ssd doctor says what is missing)
In Python: Detector.load("{zip}")
Holds:     {names}
Runs:      the first that the machine can run of {run}
An engine runs on the machine it was built for alone; anywhere else an ONNX model takes its place.
To build one on the robot: unzip, then edge-ssd build {model} --precision fp16
"""


class Packed(NamedTuple):
    """What `write_bundle` has packed.   names: of the files, sorted.   run: those that `open_bundle` goes through."""

    names: list[str]
    run: list[str]


def write_bundle(
    model: StrPath, out: StrPath, engines: Iterable[StrPath] = (), run: Iterable[StrPath] = ()
) -> Packed:
    """Packs a model and what was made of it into the zip file `out`.

    model: NAME.onnx; its spec, the NAME.*.onnx, NAME.*.engine, reports and calibration tables beside it go in
    as well, and the files that hold weights of these ONNX models.   engines: further engine files.
    run: ONNX models and engines of these, by name, that `open_bundle` is to prefer, the first most. Behind them
    come the engines by name (so FP16 before INT8, which may lose more), and the model as it is.

    Returns Packed. Raises FileNotFoundError or ValueError, naming the file that is missing or does not fit.
    """
    model, out = Path(model), Path(out)
    if out.suffix != ".zip":
        raise ValueError(f"{out}: expected a name that ends in .zip")
    files = _files_of(model, [Path(engine) for engine in engines])
    found = sorted(name for name in files if name.endswith(".engine"))
    order = _order([str(name) for name in run], files, [*found, model.name])
    index = {
        "format": FORMAT,
        "model": model.name,
        "engines": found,
        "run": order,
        "files": {name: file_sha256(path) for name, path in sorted(files.items())},
    }
    readme = _README.format(
        zip=out.name, names=", ".join(sorted(files)), model=model.name, run=", ".join(order)
    )
    with replacing(out) as temporary:
        # strict_timestamps: a file from before 1980, as copies on a robot without a clock are, goes in as of then.
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
            archive.writestr(INDEX, json.dumps(index, indent=2) + "\n")
            archive.writestr("README.txt", readme)
            for name, path in sorted(files.items()):
                archive.write(path, name)
        try:
            check_bundle(temporary)
        except ValueError as error:
            text = str(error).removeprefix(f"{temporary}: ")
            raise ValueError(f"{out}: would not be opened again ({text}); not written") from None
    return Packed(sorted(files), order)


def _order(preferred: list[str], files: dict[str, Path], otherwise: list[str]) -> list[str]:
    """The names that are to be run, most preferred first.   files: {name in the bundle: path}."""
    runnable = [name for name in files if name.endswith((".onnx", ".engine"))]
    for name in preferred:
        if name not in runnable:
            raise ValueError(f"run: expected one of {', '.join(sorted(runnable))}, got {name!r}")
        if name.endswith(".onnx") and str(Path(name).with_suffix(".json")) not in files:
            raise FileNotFoundError(
                f"{files[name].with_suffix('.json')}: no such file; {name} needs its spec"
            )
    return [*dict.fromkeys([*preferred, *otherwise])]


def _files_of(model: Path, engines: list[Path]) -> dict[str, Path]:
    """{name in the bundle: path}."""
    if model.suffix != ".onnx":
        raise ValueError(f"{model}: expected an ONNX model, a name that ends in .onnx")
    spec_path = model.with_suffix(".json")
    for path in (model, spec_path):
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; a bundle needs the model and its spec")
    suffixes = (".onnx", ".json", ".engine", ".html")
    beside = [path for path in model.parent.glob(f"{model.stem}.*") if path.suffix in suffixes]
    # A link out of the folder would publish a file that has nothing to do with the model.
    found = {path.name: file_inside(model.parent, path.name) for path in (model, spec_path, *beside)}
    spec = SsdSpec.load(spec_path)
    for engine in [path for name, path in found.items() if name.endswith(".engine")]:
        if not manifest_path(engine).is_file():
            del found[engine.name]
        elif _is_program(engine):
            del found[engine.name], found[manifest_path(engine).name]
    for path in [path for path in found.values() if path.suffix == ".onnx"]:
        found |= _weights_of(path)
    if spec.priors.file:
        found[_inside(spec.priors.file)] = file_inside(spec.folder, spec.priors.file)
    for engine in engines:
        if _is_program(engine):
            raise ValueError(
                f"{engine}: was built version-compatible, so it holds a program, which does not run from a bundle; "
                "build it without --version-compatible"
            )
        names = engine.name, manifest_path(engine).name
        found |= {name: file_inside(engine.parent, name) for name in names}
    return found


def _is_program(engine: Path) -> bool:
    """Whether an engine would run code of its own; such a one does not go into a bundle, and that is said."""
    is_program = read_manifest(engine).manifest.version_compatible  # says what is missing
    if is_program:
        _log.warning("%s: not packed: it was built version-compatible, so it holds a program", engine)
    return is_program


def _weights_of(model: Path) -> dict[str, Path]:
    """{name in the bundle: path} of the files outside of an ONNX model that hold weights of it."""
    refuse_memory_addresses(model)
    found = {}
    for location in external_locations(model):
        if not stays_inside(location):
            raise ValueError(
                f"{model}: has weights in {location!r}, and a bundle holds what lies in the model's folder. "
                "Save the model again with its weights beside it"
            )
        try:
            found[_inside(location)] = file_inside(model.parent, location)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{error}; {model.name} has weights in it") from None
    return found


def _inside(location: str) -> str:
    """A location as the zip file has it: ./a is a."""
    return str(PurePosixPath(location))


def open_bundle(path: StrPath, cache: StrPath | None = None) -> Path:
    """The model file to run of a bundle: the first that this machine can run, in the order of `write_bundle`.

    The bundle is unpacked once, into `cache` (default: edge_ssd in the user's cache folder), under the hash
    of its content. Raises FileNotFoundError, ValueError for a file that is no bundle, holds a path that leaves
    the folder, is damaged or unpacks to far more than its size, OSError when there is no room.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such bundle")
    folder = Path(cache or _cache_folder()) / file_sha256(path)[:24]
    if not folder.is_dir():
        unpack(path, folder)
    index = _unpacked_index(folder)
    order = index.get("run", [*index["engines"], index["model"]])  # bundles of before have no "run"
    chosen = next((name for name in order if _runs_here(folder / name)), index["model"])
    _log.info("%s: runs %s", path, chosen)
    return folder / chosen


def is_unpacked(path: StrPath) -> bool:
    """Whether a file lies where `open_bundle` unpacks: whoever names it has it from a bundle."""
    try:
        return Path(path).resolve().is_relative_to(_cache_folder().resolve())
    except (OSError, RuntimeError):  # no home, so no such folder
        return False


def _cache_folder() -> Path:
    return user_cache_folder() / "bundles"


def _unpacked_index(folder: Path) -> dict[str, Any]:
    try:
        return read_json(folder / INDEX, limits.MOST_INDEX_BYTES)
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(
            f"{folder}: is damaged ({error}); remove this folder, and it is unpacked again"
        ) from None


def _runs_here(path: Path) -> bool:
    """Whether this machine has what runs an ONNX model; or the TensorRT and the GPU that an engine was built for,
    and CuPy to run it. An engine that holds a program does not run from a bundle.
    """
    if path.suffix == ".onnx":
        return any(importlib.util.find_spec(name) for name in ("onnxruntime", "openvino"))
    if importlib.util.find_spec("cupy") is None:
        return False
    try:
        manifest = read_manifest(path).manifest
        if manifest.version_compatible:
            _log.warning("%s holds a program, as it was built version-compatible; left out", path.name)
            return False
        gpu = gpu_info()
        version = importlib.import_module(manifest.flavour).__version__
        check_manifest(
            manifest, path, Running(manifest.flavour, version, gpu.compute_capability, gpu.name, gpu.driver)
        )
    except (ImportError, OSError, ValueError):
        return False
    return True
