"""The models that come with the package, and those that `edge-ssd pull` has fetched, by name."""

from __future__ import annotations

from pathlib import Path

from ..files import StrPath, cache_folder

FOLDER = Path(__file__).parent
DEMO_MODEL = FOLDER / "demo.onnx"

# Their SHA-256: a file with one of these is ours, wherever it lies.
SHIPPED = {
    "demo.onnx": "57e24f96d84231a44d5dda313b567fc320235941fefa97ac42ad202399cc1775",
    "fod31.onnx": "11bbdc671098c9061f0d0c7f0219b43369cce32fb41df26251e36d67c9c1ca5d",
}

# What `edge-ssd pull` writes where `find_model` looks.
PULLED = ("mediapipe-face", "mediapipe-face-full", "mediapipe-palm", "mediapipe-person")


def pulled_folder() -> Path:
    """Where pulled models lie that are known by name: in EDGE_SSD_CACHE, else in the user's cache folder."""
    return cache_folder() / "models"


def model_path(name: StrPath) -> Path:
    """Path of a model file, or of the shipped or pulled model for a name like "demo" that no file has.

    Raises as `find_model`.
    """
    path = Path(name)
    return path if path.suffix or path.exists() else find_model(str(name))


def find_model(name: str) -> Path:
    """Path of the shipped or pulled model `name`, such as "demo": its ONNX file, with the spec beside it.

    Raises ValueError listing the shipped ones when there is none of that name, FileNotFoundError for one of PULLED that
    is not here yet.
    """
    if name in PULLED:
        path = pulled_folder() / f"{name}.onnx"
        if not path.is_file():
            raise FileNotFoundError(f"{name}: not on this machine yet; edge-ssd pull {name}")
        return path
    known = sorted(path.stem for path in FOLDER.glob("*.onnx") if path.with_suffix(".json").is_file())
    if name not in known:
        raise ValueError(f"model: expected a file or one of the shipped {', '.join(known)}, got {name!r}")
    return FOLDER / f"{name}.onnx"
