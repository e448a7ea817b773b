"""A bundle: all that a robot needs to run a model offline, in one zip file."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import shutil
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ..files import StrPath, file_sha256, replacing, user_cache_folder
from ..machine.gpu import gpu_info
from ..spec import SsdSpec
from .manifest import Running, check_manifest, manifest_path, read_manifest
from .onnx_file import refuse_memory_addresses

FORMAT = "edge_ssd-bundle/1"
_INDEX = "bundle.json"
_log = logging.getLogger(__name__)
# Far above any SSD; a file that claims more is not unpacked.
_MOST_BYTES = 8 << 30

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
    with replacing(out) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_INDEX, json.dumps(index, indent=2) + "\n")
        archive.writestr("README.txt", readme)
        for name, path in sorted(files.items()):
            archive.write(path, name)
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
    spec = SsdSpec.load(spec_path)
    found = {path.name: path for path in (model, spec_path)}
    suffixes = (".onnx", ".json", ".engine", ".html")
    found |= {path.name: path for path in model.parent.glob(f"{model.stem}.*") if path.suffix in suffixes}
    for engine in [path for name, path in found.items() if name.endswith(".engine")]:
        if not manifest_path(engine).is_file():
            del found[engine.name]
        elif _is_program(engine):
            del found[engine.name], found[manifest_path(engine).name]
    for path in [path for path in found.values() if path.suffix == ".onnx"]:
        found |= _weights_of(path)
    if spec.priors.file:
        if not _stays_inside(spec.priors.file):
            raise ValueError(
                f"{spec_path}: priors.file: expected a file beside the spec, got {spec.priors.file!r}"
            )
        found[_inside(spec.priors.file)] = Path(spec.folder, spec.priors.file)
    for engine in engines:
        if _is_program(engine):
            raise ValueError(
                f"{engine}: was built version-compatible, so it holds a program, which does not run from a bundle; "
                "build it without --version-compatible"
            )
        found |= {engine.name: engine, manifest_path(engine).name: manifest_path(engine)}
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
    for location in _external_locations(model):
        if not _stays_inside(location):
            raise ValueError(
                f"{model}: has weights in {location!r}, and a bundle holds what lies in the model's folder. "
                "Save the model again with its weights beside it"
            )
        path = model.parent / location
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; {model.name} has weights in it")
        found[_inside(location)] = path
    return found


def _external_locations(model: Path) -> list[str]:
    """What the model itself names; without the package that reads it, what exporters name such files."""
    try:
        from .external_data import external_locations
    except ImportError:
        names = [model.name + suffix for suffix in (".data", "_data")] + [f"{model.stem}.data"]
        return [name for name in names if model.with_name(name).is_file()]
    return external_locations(model)


def _inside(location: str) -> str:
    """A location as the zip file has it: ./a is a."""
    return str(PurePosixPath(location))


def open_bundle(path: StrPath, cache: StrPath | None = None) -> Path:
    """The model file to run of a bundle: the first that this machine can run, in the order of `write_bundle`.

    The bundle is unpacked once, into `cache` (default: edge_ssd in the user's cache folder), under the hash
    of its content. Raises FileNotFoundError, ValueError for a file that is no bundle, holds a path that leaves
    the folder, or is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such bundle")
    folder = Path(cache or _cache_folder()) / file_sha256(path)[:24]
    if not folder.is_dir():
        _unpack(path, folder)
    index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
    order = index.get("run", [*index["engines"], index["model"]])  # bundles of before have no "run"
    chosen = next((name for name in order if _runs_here(folder / name)), index["model"])
    _log.info("%s: runs %s", path, chosen)
    return folder / chosen


def is_unpacked(path: StrPath) -> bool:
    """Whether a file lies where `open_bundle` unpacks: whoever names it has it from a bundle."""
    try:
        return Path(path).resolve().is_relative_to(_cache_folder().resolve())
    except RuntimeError:  # no home, so no such folder
        return False


def _cache_folder() -> Path:
    return user_cache_folder() / "bundles"


def _unpack(path: Path, folder: Path) -> None:
    """Unpacks beside `folder` first, and takes its name when everything is there and right."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".unpacking-"))
    try:
        with zipfile.ZipFile(path) as archive:
            index = _checked_index(archive)
            archive.extract(_INDEX, temporary)
            for name, digest in index["files"].items():
                _extract(archive, name, digest, temporary)
        temporary.rename(folder)
    except (zipfile.BadZipFile, KeyError, EOFError, json.JSONDecodeError, UnicodeDecodeError) as error:
        reason = str(error).strip("'\"") or type(error).__name__
        raise ValueError(f"{path}: not a whole bundle of edge-ssd bundle ({reason})") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    except OSError:
        if not folder.is_dir():  # else another process was faster, with the same content
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _checked_index(archive: zipfile.ZipFile) -> dict[str, Any]:
    index = json.loads(archive.read(_INDEX))
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise ValueError(f"not a bundle of edge-ssd bundle (format {FORMAT!r} expected)")
    for key, kind in (("model", str), ("engines", list), ("files", dict)):
        if not isinstance(index.get(key), kind):
            raise ValueError(f"{_INDEX}: {key} is missing, or no {kind.__name__}")
    if not isinstance(index.get("run", []), list):
        raise ValueError(f"{_INDEX}: run is no list")
    for name in (index["model"], *index["engines"], *index.get("run", [])):
        if not isinstance(name, str) or name not in index["files"]:
            raise ValueError(f"{name!r} is named and not there")
    for name in index["files"]:
        if not _stays_inside(name):
            raise ValueError(f"{name!r} would leave the folder that it is unpacked into; refused")
    if sum(archive.getinfo(name).file_size for name in index["files"]) > _MOST_BYTES:
        raise ValueError(f"unpacks to more than {_MOST_BYTES >> 30} GiB; refused")
    return index


def _stays_inside(name: str) -> bool:
    """Whether a name is that of a file below the folder that it is resolved in, on any system."""
    parts = PurePosixPath(name).parts
    return bool(parts) and not name.startswith("/") and ".." not in parts and not set(name) & set("\\:")


def _extract(archive: zipfile.ZipFile, name: str, digest: str, folder: Path) -> None:
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    seen = hashlib.sha256()
    with archive.open(name) as source, target.open("wb") as file:
        while block := source.read(1 << 20):
            seen.update(block)
            file.write(block)
    if seen.hexdigest() != digest:
        raise ValueError(f"{name!r} is not what was packed; copy the bundle again")


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
