"""MediaPipe's wheel from the package index, checked by its hash, and a detector of it as a model."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from .. import limits
from ..files import StrPath, file_sha256, make_cache_folder, replacing
from ..model_files.pair import replacing_model
from ..models import pulled_folder
from .detectors import DETECTORS, VERSION, WHEEL, WHEEL_SHA256

# What pip needs to choose that wheel on any machine.
_WHEEL_TAGS = (
    "--platform",
    "manylinux_2_28_x86_64",
    "--python-version",
    "3.11",
    "--implementation",
    "cp",
    "--abi",
    "cp311",
)

_CARD = """\
# {name}

{member} of the Python package mediapipe {version}, converted to ONNX by edge-ssd: the same weights, raw outputs.
Copyright The MediaPipe Authors, licensed under the Apache License, Version 2.0
(LICENSE.mediapipe.txt beside this file).
Changed: the format alone; float16 and sparse weights are stored as dense float32.
"""


def pull_mediapipe(name: str, folder: StrPath = "") -> Path:
    """Fetches the wheel, and writes its detector as folder/NAME.onnx with its spec, card and licence.

    name: a key of DETECTORS.   folder: the one where models of that name are looked for when it is empty.
    Returns the path of the ONNX file. Raises ImportError where `tflite` or `onnx` is missing, OSError when pip cannot
    fetch the wheel, ValueError for another content than the pinned one.
    """
    try:
        import onnx

        from .tflite_file import read_tflite
        from .to_onnx import to_onnx
    except ModuleNotFoundError as error:
        raise ImportError(
            f"edge-ssd pull {name} needs the {error.name!r} package. pip install edge-ssd[pull]"
        ) from None
    path = Path(folder or pulled_folder()) / f"{name}.onnx"
    if not folder:
        make_cache_folder(path.parent)
    elif not path.parent.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder to write to")
    with zipfile.ZipFile(_wheel()) as wheel:
        content = _member(wheel, DETECTORS[name].member)
        licence = _member(wheel, f"mediapipe-{VERSION}.dist-info/LICENSE")
    model = to_onnx(read_tflite(content), name)
    with replacing_model(path, DETECTORS[name].spec(name)) as temporary:
        onnx.save(model, str(temporary))
    card = _CARD.format(name=name, member=DETECTORS[name].member, version=VERSION)
    for place, text in (
        (path.with_suffix(".md"), card.encode()),
        (path.with_name("LICENSE.mediapipe.txt"), licence),
    ):
        with replacing(place) as temporary:
            temporary.write_bytes(text)
    return path


def _wheel() -> Path:
    """The wheel in the folder of downloads, fetched by pip where it is not there yet."""
    kept = pulled_folder() / WHEEL
    if not kept.is_file() or file_sha256(kept) != WHEEL_SHA256:
        make_cache_folder(kept.parent)
        with TemporaryDirectory() as folder:
            fetched = _fetched(Path(folder))
            digest = file_sha256(fetched)
            if digest != WHEEL_SHA256:
                raise ValueError(
                    f"{WHEEL}: expected the SHA-256 {WHEEL_SHA256}, got {digest}; nothing was written"
                )
            with replacing(kept) as temporary:
                temporary.write_bytes(fetched.read_bytes())
    return kept


def _fetched(folder: Path) -> Path:
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary",
        ":all:",
        *_WHEEL_TAGS,
    ]
    command += ["--dest", str(folder), f"mediapipe=={VERSION}"]
    ended = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if ended.returncode or not (folder / WHEEL).is_file():
        lines = [line for line in ended.stderr.splitlines() if line.startswith("ERROR")] or ["pip failed"]
        raise OSError(
            f"{WHEEL}: pip could not fetch it ({lines[0][:200]}); is the package index within reach?"
        )
    return folder / WHEEL


def _member(wheel: zipfile.ZipFile, name: str) -> bytes:
    if wheel.getinfo(name).file_size > limits.MOST_PULLED_BYTES:
        raise ValueError(f"{name}: expected at most {limits.MOST_PULLED_BYTES} bytes")
    return wheel.read(name)
