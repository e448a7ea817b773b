"""Backends: the three steps of a frame on one kind of device. `load_backend` chooses, by file suffix."""

from __future__ import annotations

from pathlib import Path

from ..spec import SsdSpec

_NEEDS = "Running {path} needs the {package!r} package ({error}). {advice}"


def load_backend(path, options):
    """The backend that runs the model file `path`: .onnx on the CPU, .pt (a checkpoint) through torch.

    options: DetectorOptions.

    Raises FileNotFoundError for a missing file or spec, ValueError for one that does not fit,
    ImportError with the package to install.
    """
    path = Path(path)
    opener = {".onnx": _open_onnx, ".pt": _open_checkpoint}.get(path.suffix)
    if opener is None:
        raise ValueError(f"{path}: expected a model file ending in .onnx or .pt")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such model file")
    engine, spec = opener(path, options)
    spec = options.applied_to(spec)
    labels = options.labels_in(spec)
    try:
        from .cpu import CpuBackend
    except ImportError as error:
        raise ImportError(
            _NEEDS.format(
                path=path, package="cv2", error=error, advice="pip install edge-ssd[cpu] (a Jetson has it)"
            )
        ) from error
    try:
        return CpuBackend(engine, spec, labels)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _open_onnx(path, options):
    spec = load_spec_of(path)
    try:
        from ..engines.onnxruntime_engine import OnnxRuntimeEngine
    except ImportError as error:
        raise ImportError(
            _NEEDS.format(path=path, package="onnxruntime", error=error, advice="pip install edge-ssd[cpu]")
        ) from error
    return OnnxRuntimeEngine(path, spec, options.threads), spec


def _open_checkpoint(path, options):
    try:
        from ..engines.torch_engine import TorchEngine
    except ImportError as error:
        advice = "pip install edge-ssd[train], or export it where torch is: edge-ssd export"
        raise ImportError(_NEEDS.format(path=path, package="torch", error=error, advice=advice)) from error
    return TorchEngine.open(path, threads=options.threads)


def load_spec_of(path):
    """The spec beside a model file: NAME.json for NAME.onnx. FileNotFoundError says how to make one."""
    spec_path = Path(path).with_suffix(".json")
    if not spec_path.is_file():
        raise FileNotFoundError(
            f"{spec_path}: no spec beside {Path(path).name}, so its outputs have no meaning. "
            f"Draft one and fill it in: edge-ssd spec {path}"
        )
    return SsdSpec.load(spec_path)
