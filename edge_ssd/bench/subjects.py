"""What can be measured of a model on this machine: each engine and precision of ours, and the peers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from ..gpu_info import gpu_info

OURS, PEER = "edge_ssd", "peer"

# By the ending of a derived model's name; see build_engine.
_PRECISIONS = ("fp16", "int8", "int8-cpu", "bf16")


@dataclass(frozen=True)
class Subject:
    """One way to run a model.

    name: a row's.   kind: OURS or PEER.   precision: fp32, fp16, bf16, int8.   model: the file it runs.
    runner, options: what opens it in its process; see `runners.RUNNERS`.
    missing: why it cannot be measured here; "" when it can.
    """

    name: str
    kind: str
    precision: str
    model: Path
    runner: str
    options: tuple[tuple[str, object], ...] = ()
    missing: str = ""


def subjects_of(model, with_peers=True):
    """The Subjects of an ONNX file (with what lies beside it), or of a checkpoint or an engine alone."""
    model = Path(model)
    if model.suffix != ".onnx":
        return [_ours_of_file(model)]
    found = [
        *_onnx_subjects(model),
        *(_ours_of_file(path) for path in sorted(model.parent.glob(f"{model.stem}.*.engine"))),
        *_checkpoint_subjects(model.with_suffix(".pt")),
    ]
    return [*found, *_peers(model)] if with_peers else found


def _onnx_subjects(model):
    files = [model, *(model.with_suffix(f".{p}.onnx") for p in _PRECISIONS)]
    for path in (file for file in files if file.is_file()):
        precision = _precision(path)
        yield _ours("ONNX Runtime", precision, path, "detector", "onnxruntime", engine="onnxruntime")
        if not path.name.endswith(".int8-cpu.onnx"):
            yield _ours("OpenVINO", precision, path, "detector", "openvino", engine="openvino")
        if path == model:
            yield _bf16(model)


def _bf16(model):
    subject = _ours("OpenVINO", "bf16", model, "detector", "openvino", engine="openvino-bf16")
    if subject.missing:
        return subject
    from ..engines.openvino_engine import has_bf16

    return subject if has_bf16() else replace(subject, missing="this CPU has no BF16 instructions")


def _checkpoint_subjects(path):
    missing = "" if path.is_file() else f"no checkpoint {path.name} beside the model"
    cpu = _ours("torch, CPU", "fp32", path, "checkpoint_on_cpu", "torch", missing=missing)
    gpu = _ours("torch, CUDA", "fp16", path, "detector", "cupy", missing=missing or _no_gpu())
    return cpu, gpu


def _ours_of_file(path):
    runtime = "TensorRT-RTX" if path.name.endswith(".rtx.engine") else "TensorRT"
    if path.suffix == ".pt":
        return _ours("torch", "fp32", path, "detector", "torch")
    package = "tensorrt_rtx" if runtime == "TensorRT-RTX" else "tensorrt"
    return _ours(runtime, _precision(path), path, "detector", package, missing=_no_gpu())


def _peers(model):
    checkpoint = model.with_suffix(".pt")
    no_checkpoint = "" if checkpoint.is_file() else f"no checkpoint {checkpoint.name} beside the model"
    for name, path, package, runner, missing in (
        ("OpenCV DNN", model, "cv2", "opencv", ""),
        ("OpenVINO, as it comes", model, "openvino", "openvino", ""),
        ("torch eager", checkpoint, "torch", "torch", no_checkpoint),
        ("torch.compile", checkpoint, "torch", "torch_compile", no_checkpoint),
        ("torchvision eager", checkpoint, "torchvision", "torchvision", no_checkpoint),
    ):
        yield Subject(name, PEER, "fp32", path, runner, (), _not_installed(package) or missing)


def _ours(name, precision, path, runner, package, missing="", **options):
    missing = missing or _not_installed(package)
    return Subject(name, OURS, precision, path, runner, tuple(options.items()), missing)


def _not_installed(package):
    return "" if find_spec(package) else f"{package} is not installed"


def _no_gpu():
    try:
        gpu_info()
    except OSError as error:
        return str(error)
    return ""


def _precision(path):
    """fp32 unless the name says otherwise: M.int8.onnx, M.fp16.engine, M.int8-cpu.onnx, M.fp16.rtx.engine."""
    parts = path.name.split(".")
    found = next((part for part in parts[1:] if part in (*_PRECISIONS, "fp32")), "fp32")
    return found.removesuffix("-cpu")
