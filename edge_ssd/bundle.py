"""A bundle: all that a robot needs to run a model offline, in one zip file."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from .engine_file import Running, check_manifest, file_sha256, manifest_path, read_manifest
from .files import replacing
from .gpu_info import gpu_info
from .spec import SsdSpec

FORMAT = "edge_ssd-bundle/1"
_INDEX = "bundle.json"
# Far above any SSD; a file that claims more is not unpacked.
_MOST_BYTES = 8 << 30

_README = """\
Run it:    edge-ssd run --model {zip} --camera 0
           (pip install edge-ssd[cpu] on an ordinary machine; edge-ssd doctor says what is missing)
In Python: Detector.load("{zip}")
Holds:     {names}
An engine runs on the machine it was built for alone; anywhere else the ONNX model takes its place.
To build one on the robot: unzip, then edge-ssd build {model} --precision fp16
"""


def write_bundle(model, out, engines=()):
    """Packs a model and what was made of it into the zip file `out`.

    model: NAME.onnx; its spec, the NAME.*.onnx, NAME.*.engine, reports and calibration tables beside it go in
    as well.   engines: further engine files.   Returns the names that went in, sorted.
    Raises FileNotFoundError or ValueError, naming the file that is missing or does not fit.
    """
    model, out = Path(model), Path(out)
    if out.suffix != ".zip":
        raise ValueError(f"{out}: expected a name that ends in .zip")
    files = _files_of(model, [Path(engine) for engine in engines])
    index = {
        "format": FORMAT,
        "model": model.name,
        "engines": sorted(name for name in files if name.endswith(".engine")),
        "files": {name: file_sha256(path) for name, path in sorted(files.items())},
    }
    readme = _README.format(zip=out.name, names=", ".join(sorted(files)), model=model.name)
    with replacing(out) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_INDEX, json.dumps(index, indent=2) + "\n")
        archive.writestr("README.txt", readme)
        for name, path in sorted(files.items()):
            archive.write(path, name)
    return sorted(files)


def _files_of(model, engines):
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
    found = {
        name: path
        for name, path in found.items()
        if not name.endswith(".engine") or manifest_path(path).is_file()
    }
    if spec.priors.file:
        if not _stays_inside(spec.priors.file):
            raise ValueError(
                f"{spec_path}: priors.file: expected a file beside the spec, got {spec.priors.file!r}"
            )
        found[spec.priors.file] = Path(spec.folder, spec.priors.file)
    for engine in engines:
        read_manifest(engine)  # says what is missing
        found |= {engine.name: engine, manifest_path(engine).name: manifest_path(engine)}
    return found


def open_bundle(path, cache=None):
    """The model file to run of a bundle: an engine that fits this machine, else the ONNX model.

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
    for engine in index["engines"]:
        if _runs_here(folder / engine):
            return folder / engine
    return folder / index["model"]


def _cache_folder():
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edge_ssd" / "bundles"


def _unpack(path, folder):
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


def _checked_index(archive):
    index = json.loads(archive.read(_INDEX))
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise ValueError(f"not a bundle of edge-ssd bundle (format {FORMAT!r} expected)")
    for key, kind in (("model", str), ("engines", list), ("files", dict)):
        if not isinstance(index.get(key), kind):
            raise ValueError(f"{_INDEX}: {key} is missing, or no {kind.__name__}")
    for name in (index["model"], *index["engines"]):
        if not isinstance(name, str) or name not in index["files"]:
            raise ValueError(f"{name!r} is named and not there")
    for name in index["files"]:
        if not _stays_inside(name):
            raise ValueError(f"{name!r} would leave the folder that it is unpacked into; refused")
    if sum(archive.getinfo(name).file_size for name in index["files"]) > _MOST_BYTES:
        raise ValueError(f"unpacks to more than {_MOST_BYTES >> 30} GiB; refused")
    return index


def _stays_inside(name):
    """Whether a name is that of a file below the folder that it is resolved in, on any system."""
    parts = PurePosixPath(name).parts
    return bool(parts) and not name.startswith("/") and ".." not in parts and not set(name) & set("\\:")


def _extract(archive, name, digest, folder):
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    seen = hashlib.sha256()
    with archive.open(name) as source, target.open("wb") as file:
        while block := source.read(1 << 20):
            seen.update(block)
            file.write(block)
    if seen.hexdigest() != digest:
        raise ValueError(f"{name!r} is not what was packed; copy the bundle again")


def _runs_here(engine):
    """Whether this machine has the TensorRT and the GPU that an engine was built for, and CuPy to run it."""
    if importlib.util.find_spec("cupy") is None:
        return False
    try:
        manifest = read_manifest(engine).manifest
        gpu = gpu_info()
        version = importlib.import_module(manifest.flavour).__version__
        check_manifest(
            manifest, engine, Running(manifest.flavour, version, gpu.compute_capability, gpu.name, gpu.driver)
        )
    except (ImportError, OSError, ValueError):
        return False
    return True
