"""What can be measured of a model on this machine: each engine and precision of ours, and the peers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from ..engines.choice import wanted_precision
from ..files import StrPath
from ..machine.gpu import gpu_info
from ..model_files.manifest import precision_of
from ..model_files.onnx_file import refuse_memory_addresses

OURS, PEER = "edge_ssd", "peer"

# Endings of a derived model's name; see build_engine.
_DERIVED = ("fp16", "int8", "int8-cpu")


@dataclass(frozen=True)
class Candidate:
    """One way to run a model.

    name: a row's.   kind: OURS or PEER.   precision: fp32, fp16, bf16, int8.   model: the file it runs.
    runner, options: what opens it in its process; see `runners.open_runner`.
    missing: why it cannot be measured here; "" when it can.
    """

    name: str
    kind: str
    precision: str
    model: Path
    runner: str
    options: tuple[tuple[str, object], ...] = ()
    missing: str = ""


@dataclass(frozen=True)
class Limits:
    """What is measured of a model, and what its files may do.

    peers: beside this package's engines.   threads: of the CPU; with more than one, ONNX files are run in throughput
    mode, too: a frame for each.   precision: of `engines.choice.PRECISIONS`: of FP32 and BF16 rows these alone.
    trust_engine, trust_checkpoint: see `Detector.load`.
    """

    peers: bool = True
    threads: int = 1
    precision: str = "auto"
    trust_engine: bool = False
    trust_checkpoint: bool = False


def candidates_of(model: StrPath, limits: Limits = Limits()) -> list[Candidate]:
    """The Candidates of an ONNX file (with what lies beside it), or of a checkpoint or an engine alone, as far as the
    Limits let them. Raises ValueError for an ONNX file that `refuse_memory_addresses` refuses."""
    model = Path(model)
    if model.suffix == ".pt":
        found = [*_checkpoint_candidates(model, limits)]
    elif model.suffix == ".engine":
        found = [_engine_candidate(model, limits)]
    else:
        refuse_memory_addresses(model)  # before a peer opens it, too
        found = [
            *_onnx_candidates(model, limits.threads),
            *(
                _engine_candidate(path, limits)
                for path in sorted(model.parent.glob(f"{model.stem}.*.engine"))
            ),
            *_checkpoint_candidates(model.with_suffix(".pt"), limits),
            *(_peers(model, limits) if limits.peers else ()),
        ]
    wanted = wanted_precision(limits.precision)
    unwanted = {"fp32": "bf16", "bf16": "fp32"}.get(wanted)
    return [candidate for candidate in found if candidate.precision != unwanted]


def _onnx_candidates(model: Path, threads: int) -> Iterator[Candidate]:
    for candidate in _onnx_latency_candidates(model):
        yield candidate
        if threads > 1:
            name, options = f"{candidate.name}, throughput", (*candidate.options, ("in_flight", 0))
            yield replace(candidate, name=name, options=options)


def _onnx_latency_candidates(model: Path) -> Iterator[Candidate]:
    files = [model, *(model.with_suffix(f".{p}.onnx") for p in _DERIVED)]
    for path in (file for file in files if file.is_file()):
        precision = precision_of(path)
        is_for_cpu = path.name.endswith(".int8-cpu.onnx")
        name = "ONNX Runtime (int8-cpu)" if is_for_cpu else "ONNX Runtime"
        yield _ours(name, precision, path, "detector", "onnxruntime", engine="onnxruntime", precision="fp32")
        if not is_for_cpu:
            yield _ours(
                "OpenVINO", precision, path, "detector", "openvino", engine="openvino", precision="fp32"
            )
        if path == model:
            yield _bf16(model)


def _bf16(model: Path) -> Candidate:
    candidate = _ours("OpenVINO", "bf16", model, "detector", "openvino", engine="openvino", precision="bf16")
    if candidate.missing:
        return candidate
    from ..engines.openvino_engine import has_bf16

    return candidate if has_bf16() else replace(candidate, missing="this CPU has no BF16 instructions")


def _checkpoint_candidates(path: Path, limits: Limits) -> tuple[Candidate, Candidate]:
    missing = "" if path.is_file() else f"no checkpoint {path.name} beside the model"
    trust = {"trust_checkpoint": limits.trust_checkpoint}
    cpu = _ours("torch, CPU", "fp32", path, "checkpoint_on_cpu", "torch", missing, **trust)
    missing = missing or _not_installed("cupy") or _no_gpu()
    return cpu, _ours("torch, CUDA", "fp16", path, "checkpoint_on_gpu", "torch", missing, **trust)


def _engine_candidate(path: Path, limits: Limits) -> Candidate:
    runtime = "TensorRT-RTX" if path.name.endswith(".rtx.engine") else "TensorRT"
    package = "tensorrt_rtx" if runtime == "TensorRT-RTX" else "tensorrt"
    trust = {"trust_engine": limits.trust_engine}
    return _ours(runtime, precision_of(path), path, "detector", package, _no_gpu(), **trust)


def _peers(model: Path, limits: Limits) -> Iterator[Candidate]:
    checkpoint = model.with_suffix(".pt")
    no_checkpoint = "" if checkpoint.is_file() else f"no checkpoint {checkpoint.name} beside the model"
    for name, path, package, runner, missing, precision in (
        ("OpenCV DNN", model, "cv2", "opencv", "", "fp32"),
        ("OpenVINO, as it comes", model, "openvino", "openvino", "", _precision_of_openvino()),
        ("torch eager", checkpoint, "torch", "torch", no_checkpoint, "fp32"),
        ("torch.compile", checkpoint, "torch", "torch_compile", no_checkpoint, "fp32"),
        ("torchvision eager", checkpoint, "torchvision", "torchvision", no_checkpoint, "fp32"),
    ):
        options = (("trust_checkpoint", limits.trust_checkpoint),) if path == checkpoint else ()
        yield Candidate(name, PEER, precision, path, runner, options, _not_installed(package) or missing)


def _precision_of_openvino() -> str:
    """What it computes float32 layers in when it is not told: BF16 or FP16 where the CPU has instructions for it."""
    if _not_installed("openvino"):
        return "fp32"
    from ..engines.openvino_engine import default_precision

    return {"bf16": "bf16", "f16": "fp16"}.get(default_precision(), "fp32")


def _ours(
    name: str, row_precision: str, path: Path, runner: str, package: str, missing: str = "", **options: object
) -> Candidate:
    missing = missing or _not_installed(package)
    return Candidate(name, OURS, row_precision, path, runner, tuple(options.items()), missing)


def _not_installed(package: str) -> str:
    return "" if find_spec(package) else f"{package} is not installed"


def _no_gpu() -> str:
    try:
        gpu_info()
    except OSError as error:
        return str(error)
    return ""


def float_model(path: Path) -> Path:
    """NAME.onnx for NAME.onnx, NAME.int8.onnx, NAME.fp16.rtx.engine, NAME.pt; NAME may have dots in it."""
    name = path.name.removesuffix(path.suffix).removesuffix(".rtx")
    stem, dot, last = name.rpartition(".")
    return path.with_name(f"{stem if dot and last in (*_DERIVED, 'fp32') else name}.onnx")
