"""ONNX in, plan out: TensorRT compiles what the ONNX file says, nothing is added here.

TensorRT-RTX's builder runs in the tests, for it needs no GPU. Full TensorRT's, which does, has not run here yet: the
tests drive it through stand-ins that have the attributes of each version and no others.
"""

from __future__ import annotations

import fcntl
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..engines.tensorrt_log import take_reason, tensorrt_log
from ..files import StrPath, file_sha256, flush, replacing
from ..machine.gpu import GpuInfo, gpu_info
from ..model_files.manifest import EngineFile, Manifest, manifest_path
from ..spec import SsdSpec
from . import tensorrt_api as api
from .guard import check_room, only_build, stoppable


@dataclass(frozen=True)
class CompileOptions:
    """How an engine is compiled.

    runtime: a key of tensorrt_api.RUNTIMES.   batch: (min, opt, max).   workspace_bytes: 0: TensorRT's own.
    targets: compute capabilities for TensorRT-RTX; empty: the GPU at hand, or all of them without one.
    timing_cache: file to keep tactic timings in, "" for none; TensorRT alone uses one.
    version_compatible, hardware_compatible: larger, slower plans that run on more machines.
    """

    runtime: str = "tensorrt"
    batch: tuple[int, int, int] = (1, 1, 1)
    workspace_bytes: int = 0
    targets: tuple[tuple[int, int], ...] = ()
    timing_cache: str = ""
    version_compatible: bool = False
    hardware_compatible: bool = False

    def __post_init__(self) -> None:
        least, usual, most = self.batch
        if not 1 <= least <= usual <= most:
            raise ValueError(f"batch: expected 1 <= MIN <= OPT <= MAX, got {least} {usual} {most}")
        if self.runtime == "rtx" and (self.version_compatible or self.hardware_compatible):
            raise ValueError(
                "version_compatible, hardware_compatible: TensorRT-RTX has neither; its engines run on the "
                "compute capabilities that they are built for, with the version that built them"
            )
        if self.runtime == "tensorrt" and self.targets:
            raise ValueError(
                "targets: TensorRT builds for the GPU at hand; only --runtime rtx builds for others"
            )


def profiles_of(batch: tuple[int, int, int]) -> tuple[tuple[int, int, int], ...]:
    """The (min, opt, max) of each optimisation profile: batch 1 has one of its own, tuned for it exactly.

    batch: (min, opt, max) asked for.
    """
    least, usual, most = batch
    if least > 1:
        return (batch,)
    if most == 1:
        return ((1, 1, 1),)
    return (1, 1, 1), (2, max(2, usual), most)


@dataclass(frozen=True)
class BuildTarget:
    """What an engine is compiled with, and for what: all that a build asks of this machine, as `find_target` found it.

    options: CompileOptions.   trt: the module tensorrt or tensorrt_rtx.
    gpu: GpuInfo of the GPU at hand; None where TensorRT-RTX builds ahead of time without one.
    targets: compute capabilities that the plan is for; empty: that of `gpu`.
    profiles: (min, opt, max) batch of each optimisation profile.
    """

    options: CompileOptions
    trt: Any
    gpu: GpuInfo | None
    targets: tuple[tuple[int, int], ...]
    profiles: tuple[tuple[int, int, int], ...]


def find_target(
    options: CompileOptions, onnx_path: StrPath, model_batch: int, folder: StrPath
) -> BuildTarget:
    """The BuildTarget of a model on this machine: asked once, before the work that comes first.

    onnx_path: of the model, or of one made of it, which is not larger.
    model_batch: images that it takes at a time, 0 when any; see `model_file.batch_of`.   folder: where the engine goes.

    Raises ImportError without TensorRT; ValueError without the GPU that it needs, and for a batch that the model does
    not take; FileNotFoundError without the folder; OSError or MemoryError when there is no room.
    """
    trt = api.load_tensorrt(options.runtime)
    gpu = _gpu_for(options.runtime)
    targets = _targets(options, gpu)
    if model_batch and options.batch != (model_batch,) * 3:
        raise ValueError(
            f"the model takes {model_batch} images at a time; "
            f"build it with --batch {model_batch} {model_batch} {model_batch}"
        )
    check_room(folder, Path(onnx_path).stat().st_size)
    return BuildTarget(options, trt, gpu, targets, profiles_of(options.batch))


def compile_engine(
    onnx_path: StrPath,
    spec: SsdSpec,
    out: StrPath,
    target: BuildTarget,
    origin: dict[str, str],
    progress: Callable[[int, int, str], None] | None = None,
) -> Manifest:
    """Compiles an ONNX file to the engine `out`, and writes its manifest beside it.

    target: of `find_target`.   progress: function (done, total, phase), or None.
    origin: what else the manifest says: precision, source, source_sha256, calibration_sha256, command.

    The engine is there as a whole or not at all, also when the build is interrupted (KeyboardInterrupt).
    Returns the Manifest. Raises ValueError for what TensorRT refuses, and when another build writes the same file;
    OSError when the disk is full.
    """
    onnx_path, out = Path(onnx_path), Path(out)
    options, gpu = target.options, target.gpu
    with only_build(out):
        plan = _build(onnx_path, spec, target, progress)
        with replacing(out) as temporary:
            temporary.write_bytes(plan)
            digest, size = file_sha256(temporary), temporary.stat().st_size
            manifest = Manifest(
                flavour=api.RUNTIMES[options.runtime],
                version=target.trt.__version__,
                compute_capability=gpu.compute_capability if gpu else None,
                gpu_name=gpu.name if gpu else "",
                driver=gpu.driver if gpu else "",
                targets=target.targets,
                profiles=target.profiles,
                onnx=onnx_path.name,
                onnx_sha256=file_sha256(onnx_path),
                engine_bytes=size,
                engine_sha256=digest,
                version_compatible=options.version_compatible,
                hardware_compatible=options.hardware_compatible,
                workspace_bytes=options.workspace_bytes,
                **origin,
            )
            # Never an old manifest beside a new plan: in between there is none, which says so itself.
            flush(temporary)  # so that it is not the disk that is waited for in between
            manifest_path(out).unlink(missing_ok=True)
        EngineFile(spec, manifest).save(out)
    return manifest


def _gpu_for(runtime: str) -> GpuInfo | None:
    """The GpuInfo to build for; None where TensorRT-RTX builds ahead of time without one."""
    try:
        return gpu_info()
    except OSError as error:
        if runtime == "rtx":
            return None
        raise ValueError(
            f"Building for 'tensorrt' needs the GPU that the engine will run on: {error}. "
            "TensorRT-RTX (--runtime rtx) builds without one"
        ) from None


def _build(
    onnx_path: Path, spec: SsdSpec, target: BuildTarget, progress: Callable[[int, int, str], None] | None
) -> memoryview:
    """The serialised plan."""
    trt, options = target.trt, target.options
    logger = tensorrt_log(trt)
    logger.errors.clear()  # of an earlier build
    builder = trt.Builder(logger)
    network = api.create_network(trt, builder)
    try:
        # The parser keeps the weights that it read as long as it lives.
        parser = api.parse_onnx(trt, network, logger, onnx_path.read_bytes(), onnx_path.absolute())
        config = builder.create_builder_config()
        api.set_workspace(trt, config, options.workspace_bytes)
        api.set_targets(trt, config, target.targets)
        api.set_flags(trt, config, options.version_compatible, options.hardware_compatible)
        _add_profiles(builder, config, network, spec, target.profiles)
    except ValueError as error:
        raise ValueError(f"{onnx_path}: {error}") from None
    with _timing_cache(config, target), stoppable() as stopped:
        config.progress_monitor = api.progress_monitor(trt, _shown(progress, stopped))
        plan = builder.build_serialized_network(network, config)
    del parser
    if plan is None:
        raise ValueError(f"{onnx_path}: TensorRT could not build it{take_reason(trt)}")
    return memoryview(plan)


def _shown(
    progress: Callable[[int, int, str], None] | None, stopped: Callable[[], bool]
) -> Callable[[int, int, str], bool]:
    def show(done: int, total: int, phase: str) -> bool:
        if progress:
            progress(done, total, phase)
        return not stopped()

    return show


def _targets(options: CompileOptions, gpu: GpuInfo | None) -> tuple[tuple[int, int], ...]:
    if options.runtime != "rtx" or options.targets:
        return options.targets
    if gpu is None:
        return api.RTX_TARGETS
    if gpu.compute_capability not in api.RTX_TARGETS:
        raise ValueError(
            f"TensorRT-RTX does not run on this {gpu.name} (compute capability "
            "{}.{}); use --runtime tensorrt".format(*gpu.compute_capability)
        )
    return (gpu.compute_capability,)


def _add_profiles(
    builder: Any, config: Any, network: Any, spec: SsdSpec, profiles: tuple[tuple[int, int, int], ...]
) -> None:
    if network.get_input(0).shape[0] >= 0:
        return  # a profile is for sizes that are left open (-1)
    for sizes in profiles:
        profile = builder.create_optimization_profile()
        profile.set_shape(spec.input.name, *((size, 3, *spec.input.size) for size in sizes))
        if config.add_optimization_profile(profile) < 0:
            raise ValueError(f"TensorRT refuses the batch sizes {sizes}")


@contextmanager
def _timing_cache(config: Any, target: BuildTarget) -> Iterator[None]:
    """Tactic timings in a file of their own for each (TensorRT version, GPU), locked while in use.

    Has not run on a GPU here; TensorRT-RTX times nothing ahead of time and keeps none.
    """
    options, gpu = target.options, target.gpu
    if not options.timing_cache or gpu is None or options.runtime == "rtx":
        yield
        return
    gpu_name = re.sub(r"\W+", "_", gpu.name)
    path = Path(f"{options.timing_cache}.{target.trt.__version__}.{gpu_name}")
    with Path(f"{path}.lock").open("a") as lock:  # whatever lies there is not emptied
        fcntl.flock(lock, fcntl.LOCK_EX)
        cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
        if cache is None:
            raise ValueError(
                f"{path}: TensorRT cannot read this timing cache; remove it, and it is made anew"
            )
        config.set_timing_cache(cache, ignore_mismatch=False)
        yield
        with replacing(path) as temporary:
            temporary.write_bytes(memoryview(cache.serialize()))
