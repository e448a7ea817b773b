"""Detector: frames in, detections out, whatever the device."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from .backends import Backend
from .backends.one_user import OneUser
from .detections import Detections
from .files import StrPath
from .frames import Frame, now_ns
from .loading import load_backend
from .options import DetectorOptions
from .spec import SsdSpec

# A Frame, a (H, W, 3) uint8 BGR array, or on a GPU an array of PyTorch, CuPy, jetson-utils or DLPack.
ImageLike = Any
# Of `Detector.submit`: the frames, and what the backend knows them by.
Ticket = tuple[list[Frame], Any]


class FrameCopies(NamedTuple):
    """How often the pixels of a frame were copied on their way from the source to the network's input.

    cpu: by the CPU.   bus: over the bus into the GPU's own memory.
    """

    cpu: int
    bus: int


class Detected(NamedTuple):
    """A frame with what was found in it.   timing_ms: milliseconds of preprocess, infer and postprocess."""

    frame: Frame
    detections: Detections
    timing_ms: dict[str, float]


class Detector:
    """An SSD that is ready to run. Not thread-safe: one per thread, in the process that loaded it.

    Threads may hand one on between two calls. A call while another thread is in one, and any call in a forked process,
    raises RuntimeError.

        detector = Detector.load("ssd300.onnx")
        detections = detector.detect(frame)

    timing_ms: milliseconds of preprocess, infer and postprocess of the latest detections.
    copies: FrameCopies of their frames.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._user = OneUser(backend)
        self.timing_ms: dict[str, float] = {}
        self.copies: FrameCopies = FrameCopies(0, 0)

    @classmethod
    def load(
        cls,
        path: StrPath,
        score_threshold: float | None = 0.5,
        classes: Sequence[str] | None = None,
        iou_threshold: float | None = None,
        top_k: int | None = None,
        max_detections: int | None = None,
        threads: int = 0,
        memory: str = "auto",
        wait: str = "auto",
        rebuild: bool = False,
        engine: str = "auto",
        in_flight: int = 1,
        precision: str = "auto",
        trust_engine: bool = False,
        trust_checkpoint: bool = False,
    ) -> Detector:
        """The detector in a model file: NAME.onnx with its spec NAME.json, which runs on the CPU; NAME.engine,
        on a GPU; a training checkpoint .pt, on a GPU where torch has one; a bundle .zip; or the name of a
        model that comes with the package.

        score_threshold: None takes the spec's, which is meant for evaluation.   classes: names to look
        for; all when None.   iou_threshold, top_k, max_detections: the spec's when None.
        threads: CPU threads of the network, one per usable core when 0.
        memory: how a GPU gets at frames in host memory: "mapped" reads them there, "pinned" copies them
        first, "auto" tries out which is faster.   wait: "spin" polls for a result, which takes a core,
        "block" sleeps, "auto" sleeps on a Jetson.
        rebuild: an engine that was built for another machine is built again from the ONNX file beside it.
        engine: what runs an ONNX model, "onnxruntime" or "openvino"; "auto" takes the fastest that is installed.
        precision: what an ONNX model's float layers are computed in, "fp32" or "bf16" (OpenVINO, on CPUs that have
        it); "auto" takes what the environment's EDGE_SSD_PRECISION says, else the faster; see `Detector.precision`.
        in_flight: frames that an ONNX model works on at once, each on its share of the threads: with
        `detect_all`, `detect_batch` or `submit` more frames a second, each of them later. 0: one per thread, at
        most 8. A GPU always has two.
        trust_engine: an engine that was built version-compatible is a program that TensorRT runs; True for one
        whose maker you trust. Never of an engine in a bundle.
        trust_checkpoint: a checkpoint from elsewhere is read with a torch before 2.10, too, where a file can run
        code or corrupt memory.

        Raises FileNotFoundError, ValueError (model, spec or argument does not fit; UnknownClass for a
        class name, EngineMismatch for an engine of another machine), OSError (no GPU for an engine) or
        ImportError (naming what to install).
        """
        options = DetectorOptions(
            score_threshold,
            iou_threshold,
            top_k,
            max_detections,
            classes if isinstance(classes, str) else tuple(classes or ()),
            threads,
            memory,
            wait,
            rebuild,
            engine,
            in_flight,
            precision,
            trust_engine,
            trust_checkpoint,
        )
        return cls(load_backend(path, options))

    @property
    def spec(self) -> SsdSpec:
        """The model's SsdSpec, with the thresholds in force."""
        return self._backend.spec

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the labels, a tuple; background is not among them."""
        return self.spec.class_names

    @property
    def description(self) -> str:
        """The engine and the device, for a report."""
        return self._backend.description

    @property
    def precision(self) -> str:
        """What float layers of the network are computed in: "fp32", "bf16" or "fp16"; quantised ones in INT8."""
        return self._backend.precision

    @property
    def in_flight(self) -> int:
        """Frames between `submit` and `collect` that keep the device or the cores busy: 2 on a GPU; on the CPU one more
        than are worked on at once, or 1 where that is one.
        """
        return self._backend.in_flight

    @property
    def allocate(self) -> Callable[[tuple[int, ...]], np.ndarray | None] | None:
        """For `open_source(..., allocate=detector.allocate)`: memory that the GPU reads frames from without a
        copy of the CPU's; None on the CPU."""
        return self._backend.allocate

    def detect(self, frame: ImageLike) -> Detections:
        """Detections in one frame, boxes in its own pixels.

        frame: a Frame, or a (H, W, 3) uint8 BGR array as OpenCV has it; on the GPU also one that lies
        there (PyTorch, CuPy, jetson-utils, DLPack), which is read in place.
        Raises ValueError for an image that is neither, and when the network gives NaN or Inf.
        """
        return self.collect(self.submit(frame))

    def submit(self, frame: ImageLike) -> Ticket:
        """Starts on a frame and returns a ticket for `collect`, so that the next can be prepared meanwhile.

        Up to `in_flight` frames may be in flight; a frame may not be changed before it is collected. With one, on
        the CPU, this does the work. Raises ValueError for what is no frame, RuntimeError for one too many on a GPU.
        """
        return self._submit([_as_frame(frame)])

    def is_done(self, ticket: Ticket) -> bool:
        """Whether `collect` would give the detections of a ticket, or raise, without a wait."""
        self._user.check_process()
        return self._backend.is_done(ticket[1])

    def collect(self, ticket: Ticket) -> Detections:
        """The Detections of a ticket; waits for them. Raises ValueError as `detect` does."""
        return self._collect(ticket)[0]

    def detect_all(
        self, frames: Iterable[ImageLike], frame_ready: Callable[[], bool] = lambda: True
    ) -> Iterator[Detected]:
        """A Detected for each frame of an iterable, in order, with up to `in_flight` frames on their way.

            for frame, detections, timing_ms in detector.detect_all(open_source("clip.mp4")):
                ...

        Args:
            frames: what `detect` takes.
            frame_ready: tells whether the iterable gives its next frame, or its end, without a wait. A result is
                not held back for a frame that has not come, nor a frame for a result: what is there first goes on.

        Raises as `detect` does.
        """
        waiting = deque()
        for given in frames:
            frame = _as_frame(given)
            waiting.append((frame, self.submit(frame)))
            while waiting and not (
                len(waiting) < self.in_flight and self._is_next(frame_ready, waiting[0][1])
            ):
                yield self._collected(*waiting.popleft())
        while waiting:
            yield self._collected(*waiting.popleft())

    def _collected(self, frame, ticket):
        return Detected(frame, self.collect(ticket), self.timing_ms)

    def _is_next(self, frame_ready, ticket):
        """Whether the next frame is there before the result of the ticket; waits for one of them."""
        while not (is_there := frame_ready()) and not self.is_done(ticket):
            self._backend.pause()
        return is_there

    def detect_batch(self, frames: Sequence[ImageLike]) -> list[Detections]:
        """Detections of several images, in as few calls of the network as the model allows.

        frames: list of what `detect` takes, of any sizes. Returns a list of Detections in the same order.
        """
        frames = [_as_frame(frame) for frame in frames]
        most = self._backend.max_batch or max(1, len(frames))
        parts = [frames[start : start + most] for start in range(0, len(frames), most)]
        detections, tickets = [], deque()
        spent_ms = Counter()
        while parts or tickets:
            if parts and len(tickets) < self.in_flight:
                tickets.append(self._submit(parts.pop(0)))
                continue
            detections += self._collect(tickets.popleft())
            spent_ms.update(self.timing_ms)
        self.timing_ms = dict(spent_ms) or self.timing_ms
        return detections

    def _submit(self, frames: list[Frame]) -> Ticket:
        with self._user:
            return frames, self._backend.submit(frames)

    def _collect(self, ticket: Ticket) -> list[Detections]:
        frames, pending = ticket
        with self._user:
            result = self._backend.collect(pending)
            self.timing_ms = result.timing_ms
            self.copies = FrameCopies(result.cpu_copies, result.bus_copies)
        for frame, image in zip(frames, result.images):
            if image.dropped:
                raise ValueError(
                    f"output {result.broken_output!r} holds NaN or Inf for {image.dropped} of "
                    f"{len(self._backend.priors)} priors ({frame.source or 'image'}); "
                    "the model's weights or its precision are broken"
                )
        return [
            Detections.from_rows(image.rows, image.count, image.plan, frame.timestamp_ns)
            for frame, image in zip(frames, result.images)
        ]

    def close(self) -> None:
        """Frees the engine; the detector cannot be used afterwards. In a forked process there is nothing to free.

        Raises RuntimeError while another thread uses it.
        """
        if not self._user.is_forked:
            with self._user:
                self._backend.close()

    def __enter__(self) -> Detector:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _as_frame(frame: ImageLike) -> Frame:
    if isinstance(frame, Frame):
        return frame
    if not any(
        hasattr(frame, name) for name in ("__array_interface__", "__cuda_array_interface__", "__dlpack__")
    ):
        raise TypeError(f"frame: expected a Frame or a (H, W, 3) uint8 BGR array, got {type(frame).__name__}")
    return Frame(frame, timestamp_ns=now_ns())
