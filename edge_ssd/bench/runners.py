"""How one Candidate runs in its own process: a Runner, opened by name."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import Any, Protocol

import numpy as np

from ..detector import Detector
from ..files import StrPath
from ..files.image import use_one_opencv_thread
from ..loading import load_backend
from ..options import DetectorOptions
from ..pipeline import run_pipeline
from .frames import MemorySource


class Runner(Protocol):
    """description: engine and device, and how the rest is done.   in_flight: frames that the CPU works on at once."""

    description: str
    in_flight: int

    def detect(self, image: np.ndarray) -> Any:
        """Detections of a BGR image: boxes (N, 4) x1 y1 x2 y2 in pixels, scores (N,), labels (N,)."""

    def heads(self, blob: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """loc and conf for a (1, 3, H, W) float32 blob; None where they cannot be had."""

    def run_frames(self, images: Sequence[np.ndarray], calls: int) -> list[dict[str, float]]:
        """Milliseconds of each stage of so many frames (or batches).

        "frame": from one result to the next, which is less than the sum where stages overlap.   "age": from
        the moment the pixels (of the first image of a batch) were there to the result.
        """
        ...

    def run_network(self, calls: int) -> None:
        """The network alone, so many times."""


class DetectorRunner:
    """A Detector of this package.   batch: images in one call.   threads: of the CPU, 0: all cores.
    engine, precision, in_flight, trust_engine, trust_checkpoint: see `Detector.load`.
    """

    def __init__(
        self,
        model: StrPath,
        score_threshold: float,
        batch: int = 1,
        threads: int = 0,
        engine: str = "auto",
        precision: str = "auto",
        in_flight: int = 1,
        trust_engine: bool = False,
        trust_checkpoint: bool = False,
    ) -> None:
        options = DetectorOptions(
            score_threshold=score_threshold,
            threads=threads,
            engine=engine,
            precision=precision,
            in_flight=in_flight,
            trust_engine=trust_engine,
            trust_checkpoint=trust_checkpoint,
        )
        use_one_opencv_thread()  # as `edge-ssd run` does
        self._backend, self._batch = self._loaded(model, options), batch
        self._parts = getattr(self._backend, "backends", [self._backend])  # each with an engine of its own
        self.in_flight = len(self._parts)
        self._detector = Detector(self._backend)
        self.description = self._detector.description
        self._network: Callable[[int], None] | None = None

    def _loaded(self, model: StrPath, options: DetectorOptions) -> Any:
        return load_backend(model, options)

    def detect(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See Runner."""
        found = self._detector.detect(image)
        return found.boxes, found.scores, found.labels

    def heads(self, blob: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See Runner."""
        if self._backend.on_gpu:
            from ..kernels.device import Device
            from .gpu_network import heads_of

            return heads_of(Device(), self._backend.engine, blob)
        one = self._parts[0]
        return tuple(values.copy() for values in one.infer(blob.astype(one.engine.input_dtype, copy=False)))

    def run_frames(self, images: Sequence[np.ndarray], calls: int) -> list[dict[str, float]]:
        """See Runner. Through `run_pipeline`, with all that it overlaps."""
        if self._batch > 1:
            return self._run_batches(images, calls)
        times, before = [], time.perf_counter()

        def note(statistics):
            nonlocal before
            now = time.perf_counter()
            times.append({**statistics.latest.timing_ms, "frame": (now - before) * 1e3})
            before = now

        source = MemorySource(images, calls, self._detector.allocate)
        run_pipeline(source, self._detector, [], on_frame=note)
        return times

    def _run_batches(self, images, calls):
        source, times = MemorySource(images, 0, self._detector.allocate), []
        for i in range(calls):
            start = time.perf_counter()
            frames = [source.frame(i * self._batch + k) for k in range(self._batch)]
            self._detector.detect_batch(frames)
            ms = (time.perf_counter() - start) * 1e3
            stages = {"capture": sum(frame.capture_ms for frame in frames), **self._detector.timing_ms}
            times.append({**stages, "age": frames[0].age_ms(), "frame": ms})
        return times

    def run_network(self, calls: int) -> None:
        """See Runner."""
        if self._network is None:
            self._network = self._network_alone()
        self._network(calls)

    def _network_alone(self):
        engines = [part.engine for part in self._parts]
        spec, engine = self._backend.spec, engines[0]
        shape = (self._batch, 3, *spec.input.size)
        noise = np.random.default_rng(0).normal(size=shape).astype(engine.input_dtype)
        if self._backend.on_gpu:
            from .gpu_network import captured_network

            return captured_network(engine, noise)

        batch = self._parts[0].new_batch(self._batch)  # in memory as frames are
        batch[:] = noise
        threads = ThreadPoolExecutor(self.in_flight)

        def run(calls):
            shares = [len(range(i, calls, self.in_flight)) for i in range(self.in_flight)]
            list(threads.map(_infer, engines, repeat(batch), shares))

        return run


def _infer(engine, batch, calls):
    for _ in range(calls):
        engine.infer(batch)


class TorchCpuRunner(DetectorRunner):
    """A checkpoint through this package's torch engine on the CPU, also where there is a GPU."""

    def _loaded(self, model: StrPath, options: DetectorOptions) -> Any:
        from ..backends.cpu import CpuBackend
        from ..engines.torch_engine import TorchEngine

        engine, spec = TorchEngine.open(model, options.threads, options.trust_checkpoint)
        return CpuBackend(engine, options.applied_to(spec))


class TorchCudaRunner(DetectorRunner):
    """A checkpoint through this package's torch engine on the GPU. Raises ValueError where it would run on the CPU."""

    def _loaded(self, model: StrPath, options: DetectorOptions) -> Any:
        backend = super()._loaded(model, options)
        if not backend.on_gpu:
            raise ValueError("torch or CuPy cannot use the GPU here; edge-ssd doctor says what is missing")
        return backend


def open_runner(candidate: Any, **options: Any) -> Runner:
    """The Runner of a Candidate. options: score_threshold, batch, threads."""
    from . import peers

    openers = {
        "detector": DetectorRunner,
        "checkpoint_on_cpu": TorchCpuRunner,
        "checkpoint_on_gpu": TorchCudaRunner,
        "opencv": peers.OpenCvRunner,
        "openvino": peers.OpenVinoRunner,
        "torch": peers.TorchRunner,
        "torch_compile": peers.CompiledTorchRunner,
        "torchvision": peers.TorchvisionRunner,
    }
    return openers[candidate.runner](candidate.model, **options, **dict(candidate.options))
