"""Which backend and which engine a model file gets."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import repeat
from pathlib import Path

from .backends import Backend
from .engines.choice import PRECISION_VARIABLE, choose_cpu_engine, resolve_in_flight, wanted_precision
from .files import StrPath
from .machine.gpu import gpu_info
from .model_files.bundle import is_unpacked, open_bundle
from .model_files.manifest import EngineMismatch
from .models import model_path
from .options import DetectorOptions
from .spec import load_spec_of

log = logging.getLogger("edge_ssd")

_NEEDS = "Running {path} needs the {package!r} package ({error}). {advice}"
_SUFFIXES = (".onnx", ".engine", ".pt", ".zip")

# What builds an engine again for this machine: function(path). `edge_ssd.build_engine` stands above this module and
# is handed in, by the package root; empty where nobody did.
_rebuilds: list[Callable[[Path], object]] = []


def register_rebuild(rebuild: Callable[[Path], object]) -> None:
    """Says what builds the engine `path` again from the ONNX file beside it: rebuild(path)."""
    _rebuilds[:] = [rebuild]


def load_backend(path: StrPath, options: DetectorOptions) -> Backend:
    """The backend that runs a model: .onnx on the CPU, .engine on the GPU through TensorRT, .pt (a checkpoint)
    through torch, on the GPU where there is one; a .zip is a bundle of one of these. Without a suffix: the name
    of a model that comes with the package.

    Raises FileNotFoundError for a missing file or spec, ValueError for one that does not fit (EngineMismatch
    for an engine of another machine), OSError without the GPU it needs, ImportError with the package to install.
    """
    path, is_bundled = _model_file(path)
    if options.precision != "auto" and path.suffix != ".onnx":
        log.warning(
            "%s: precision %s is not looked at; it is of ONNX models on the CPU", path, options.precision
        )
    if is_bundled:
        options = replace(options, trust_engine=False)
    if path.suffix == ".engine":
        return _on_gpu(*_open_engine(path, options), path, options)
    if path.suffix == ".pt":
        opened = _open_checkpoint_on_gpu(path, options)
        if opened is not None:
            return _on_gpu(*opened, path, options)
        engine, spec = _open_checkpoint(path, options)
        return _on_cpu([engine], spec, path, options)
    engine, spec = _open_onnx(path, options)
    in_flight = resolve_in_flight(options.in_flight, options.threads)
    return _on_cpu([engine, *(engine.share() for _ in range(in_flight - 1))], spec, path, options)


def _model_file(path: StrPath) -> tuple[Path, bool]:
    """The file to run, and whether it came in a bundle."""
    path = model_path(path)
    if path.suffix not in _SUFFIXES:
        raise ValueError(
            f"{path}: expected a model file ending in {', '.join(_SUFFIXES[:-1])} or {_SUFFIXES[-1]}"
        )
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such model file")
    if path.suffix == ".zip":
        return open_bundle(path), True
    return path, is_unpacked(path)


def _on_cpu(engines, spec, path, options):
    spec = options.applied_to(spec)
    labels = options.labels_in(spec)
    try:
        from .backends.cpu import CpuBackend
    except ImportError as error:
        raise _missing(path, "cv2", error, "pip install edge-ssd[cpu] (a Jetson has it)") from error
    try:
        # At once: each runs the network before its first frame.
        with ThreadPoolExecutor(len(engines)) as threads:
            backends = list(threads.map(CpuBackend, engines, repeat(spec), repeat(labels)))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if len(backends) == 1:
        backends[0].warm_up()
        return backends[0]
    from .backends.parallel import ParallelCpuBackend

    return ParallelCpuBackend(backends)


def _on_gpu(engine, spec, path, options):
    spec = options.applied_to(spec)
    labels = options.labels_in(spec)
    from .backends.cuda import CudaBackend
    from .kernels.device import Device

    try:
        return CudaBackend(engine, spec, labels, Device(), options.memory, options.wait)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _open_onnx(path, options):
    spec = load_spec_of(path)
    engine = choose_cpu_engine(path, options.engine, options.precision)
    if engine.precision == "fp32" and wanted_precision(options.precision) == "bf16":
        log.warning(
            "%s: %s computes in fp32 alone; %s=bf16 is left aside", path, engine.name, PRECISION_VARIABLE
        )
    if options.engine == "auto" and engine.name == "onnxruntime" and path.name.endswith(".int8.onnx"):
        log.warning(
            "%s: made for TensorRT and OpenVINO; ONNX Runtime runs it slower than FP32. pip install "
            "edge-ssd[openvino], or edge-ssd build --precision int8 --runtime cpu",
            path,
        )
    in_flight = resolve_in_flight(options.in_flight, options.threads)
    if engine.name == "onnxruntime":
        try:
            from .engines.onnxruntime_engine import OnnxRuntimeEngine
        except ImportError as error:
            raise _missing(path, "onnxruntime", error, "pip install edge-ssd[cpu]") from error
        return OnnxRuntimeEngine(path, spec, options.threads, in_flight), spec
    try:
        from .engines.openvino_engine import OpenVinoEngine
    except ImportError as error:
        raise _missing(path, "openvino", error, "pip install edge-ssd[openvino]") from error
    return OpenVinoEngine(path, spec, options.threads, engine.precision, in_flight), spec


def _open_engine(path, options):
    gpu = _gpu_for(path)
    try:
        from .engines.tensorrt_engine import TensorRtEngine
    except ImportError as error:
        raise _missing(path, "cupy", error, _cupy_advice(gpu)) from error
    try:
        return TensorRtEngine.open(path, options.trust_engine)
    except EngineMismatch as error:
        if not options.rebuild or not _rebuilds:
            raise
        log.warning("%s; rebuilding it", error)
    _rebuilds[0](path)
    return TensorRtEngine.open(path, options.trust_engine)


def _gpu_for(path):
    try:
        return gpu_info()
    except OSError as error:
        raise OSError(
            f"{path}: an engine runs on a GPU, and there is {error}. The .onnx beside it runs on the CPU"
        ) from None


def _open_checkpoint(path, options):
    try:
        from .engines.torch_engine import TorchEngine
    except ImportError as error:
        advice = "pip install edge-ssd[train], or export it where torch is: edge-ssd export"
        raise _missing(path, "torch", error, advice) from error
    return TorchEngine.open(path, options.threads, options.trust_checkpoint)


def _open_checkpoint_on_gpu(path, options):
    """The engine and the spec of a checkpoint on the GPU; None where it has to run on the CPU."""
    try:
        gpu = gpu_info()
    except OSError:
        return None
    try:
        from .engines.torch_cuda_engine import TorchCudaEngine
    except ImportError as error:
        log.warning("%s runs on the CPU: %s. For the %s: %s", path, error, gpu.name, _cupy_advice(gpu))
        return None
    try:
        return TorchCudaEngine.open(path, trusted=options.trust_checkpoint)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise
        log.warning("%s runs on the CPU: %s", path, error)
        return None


def _cupy_advice(gpu):
    return f"pip install edge-ssd[cuda{min(max(gpu.cuda[0], 12), 13)}]"


def _missing(path, package, error, advice):
    return ImportError(_NEEDS.format(path=path, package=package, error=error, advice=advice))
