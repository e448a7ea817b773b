"""Backends: the three steps of a frame on one kind of device. `load_backend` chooses, by file suffix."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from itertools import repeat
from pathlib import Path

from ..cpu_info import usable_cores
from ..engine_file import EngineMismatch
from ..gpu_info import gpu_info
from ..models import model_path
from ..spec import SsdSpec

log = logging.getLogger("edge_ssd")

_NEEDS = "Running {path} needs the {package!r} package ({error}). {advice}"
_SUFFIXES = (".onnx", ".engine", ".pt", ".zip")
# Each frame at work on the CPU has the network's intermediate results in memory.
_MOST_IN_FLIGHT = 8


def load_backend(path, options):
    """The backend that runs a model: .onnx on the CPU, .engine on the GPU through TensorRT, .pt (a checkpoint)
    through torch, on the GPU where there is one; a .zip is a bundle of one of these. Without a suffix: the name
    of a model that comes with the package.

    options: DetectorOptions.

    Raises FileNotFoundError for a missing file or spec, ValueError for one that does not fit (EngineMismatch
    for an engine of another machine), OSError without the GPU it needs, ImportError with the package to install.
    """
    path = _model_file(path)
    if path.suffix == ".engine":
        return _on_gpu(*_open_engine(path, options), path, options)
    if path.suffix == ".pt":
        opened = _open_checkpoint_on_gpu(path)
        if opened is not None:
            return _on_gpu(*opened, path, options)
        engine, spec = _open_checkpoint(path, options)
        return _on_cpu([engine], spec, path, options)
    engine, spec = _open_onnx(path, options)
    twins = [engine.twin() for _ in range(frames_at_once(options) - 1)]
    return _on_cpu([engine, *twins], spec, path, options)


def _model_file(path):
    path = model_path(path)
    if path.suffix not in _SUFFIXES:
        raise ValueError(
            f"{path}: expected a model file ending in {', '.join(_SUFFIXES[:-1])} or {_SUFFIXES[-1]}"
        )
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such model file")
    if path.suffix == ".zip":
        from ..bundle import open_bundle

        return open_bundle(path)
    return path


def frames_at_once(options):
    """How many frames an ONNX model works on at once: the options' `in_flight`, or what 0 stands for."""
    return options.in_flight or min(options.threads or usable_cores(), _MOST_IN_FLIGHT)


def _on_cpu(engines, spec, path, options):
    spec = options.applied_to(spec)
    labels = options.labels_in(spec)
    try:
        from .cpu import CpuBackend
    except ImportError as error:
        raise _missing(path, "cv2", error, "pip install edge-ssd[cpu] (a Jetson has it)") from error
    try:
        # At once: each runs the network before its first frame.
        with ThreadPoolExecutor(len(engines)) as threads:
            backends = list(threads.map(CpuBackend, engines, repeat(spec), repeat(labels)))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if len(backends) == 1:
        return backends[0]
    from .parallel import ParallelCpuBackend

    return ParallelCpuBackend(backends)


def _on_gpu(engine, spec, path, options):
    spec = options.applied_to(spec)
    labels = options.labels_in(spec)
    from ..kernels.device import Device
    from .cuda import CudaBackend

    try:
        return CudaBackend(engine, spec, labels, Device(), options.memory, options.wait)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _open_onnx(path, options):
    spec = load_spec_of(path)
    engine = options.engine if options.engine != "auto" else fastest_cpu_engine(path)
    if engine == "onnxruntime":
        try:
            from ..engines.onnxruntime_engine import OnnxRuntimeEngine
        except ImportError as error:
            raise _missing(path, "onnxruntime", error, "pip install edge-ssd[cpu]") from error
        return OnnxRuntimeEngine(path, spec, options.threads, frames_at_once(options)), spec
    try:
        from ..engines.openvino_engine import BF16, FP32, OpenVinoEngine
    except ImportError as error:
        raise _missing(path, "openvino", error, "pip install edge-ssd[openvino]") from error
    precision = BF16 if engine == "openvino-bf16" else FP32
    return OpenVinoEngine(path, spec, options.threads, precision, frames_at_once(options)), spec


def fastest_cpu_engine(path):
    """The one of detector.CPU_ENGINES that runs an ONNX model fastest here, of those that are installed.

    Measured on two cores: float networks take the same time in both; in BF16, where the CPU has it, OpenVINO
    needs half of it. NAME.int8.onnx runs three to five times as fast in OpenVINO (and the demo model's AP is no
    lower than in float there). NAME.int8-cpu.onnx is made for ONNX Runtime.
    """
    installed = {name for name in ("onnxruntime", "openvino") if find_spec(name)}
    is_int8 = {suffix: Path(path).name.endswith(f".{suffix}.onnx") for suffix in ("int8", "int8-cpu")}
    if is_int8["int8"] and "openvino" not in installed:
        log.warning(
            "%s: made for TensorRT and OpenVINO; ONNX Runtime runs it slower than FP32. pip install "
            "edge-ssd[openvino], or edge-ssd build --precision int8 --runtime cpu",
            path,
        )
    # Without asking OpenVINO, whose import takes a third of a second.
    if "openvino" not in installed or ("onnxruntime" in installed and is_int8["int8-cpu"]):
        return "onnxruntime"
    usable = openvino_engines()
    if not usable:
        return "onnxruntime"
    if "openvino-bf16" in usable and not is_int8["int8-cpu"]:
        return "openvino-bf16"
    if "onnxruntime" not in installed or is_int8["int8"]:
        return "openvino"
    return "onnxruntime"


def openvino_engines():
    """Those of detector.CPU_ENGINES that are OpenVINO's and work on this machine, a tuple; () without it."""
    if find_spec("openvino") is None:
        return ()
    try:
        from ..engines.openvino_engine import has_bf16
    except ImportError as error:
        log.warning("OpenVINO is installed and cannot be used: %s", error)
        return ()
    return ("openvino", "openvino-bf16") if has_bf16() else ("openvino",)


def _open_engine(path, options):
    gpu = _gpu_for(path)
    try:
        from ..engines.tensorrt_engine import TensorRtEngine
    except ImportError as error:
        raise _missing(path, "cupy", error, _cupy_advice(gpu)) from error
    try:
        return TensorRtEngine.open(path)
    except EngineMismatch as error:
        if not options.rebuild:
            raise
        log.warning("%s; rebuilding it", error)
    from ..build_engine import rebuild

    rebuild(path)
    return TensorRtEngine.open(path)


def _gpu_for(path):
    try:
        return gpu_info()
    except OSError as error:
        raise OSError(
            f"{path}: an engine runs on a GPU, and there is {error}. The .onnx beside it runs on the CPU"
        ) from None


def _open_checkpoint(path, options):
    try:
        from ..engines.torch_engine import TorchEngine
    except ImportError as error:
        advice = "pip install edge-ssd[train], or export it where torch is: edge-ssd export"
        raise _missing(path, "torch", error, advice) from error
    return TorchEngine.open(path, threads=options.threads)


def _open_checkpoint_on_gpu(path):
    """The engine and the spec of a checkpoint on the GPU; None where it has to run on the CPU."""
    try:
        gpu = gpu_info()
    except OSError:
        return None
    try:
        from ..engines.torch_cuda_engine import TorchCudaEngine
    except ImportError as error:
        log.warning("%s runs on the CPU: %s. For the %s: %s", path, error, gpu.name, _cupy_advice(gpu))
        return None
    try:
        return TorchCudaEngine.open(path)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise
        log.warning("%s runs on the CPU: %s", path, error)
        return None


def _cupy_advice(gpu):
    return f"pip install edge-ssd[cuda{min(max(gpu.cuda[0], 12), 13)}]"


def _missing(path, package, error, advice):
    return ImportError(_NEEDS.format(path=path, package=package, error=error, advice=advice))


def load_spec_of(path):
    """The spec beside a model file: NAME.json for NAME.onnx. FileNotFoundError says how to make one."""
    spec_path = Path(path).with_suffix(".json")
    if not spec_path.is_file():
        raise FileNotFoundError(
            f"{spec_path}: no spec beside {Path(path).name}, so its outputs have no meaning. "
            f"Draft one and fill it in: edge-ssd spec {path}"
        )
    return SsdSpec.load(spec_path)
