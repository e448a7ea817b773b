"""Detector: frames in, detections out, whatever the device."""

from __future__ import annotations

from collections import Counter, deque
from typing import NamedTuple

from .detections import Detections
from .frames import Frame, now_ns
from .loading import load_backend
from .options import DetectorOptions


class FrameCopies(NamedTuple):
    """How often the pixels of a frame were copied on their way from the source to the network's input.

    cpu: by the CPU.   bus: over the bus into the GPU's own memory.
    """

    cpu: int
    bus: int


class Detector:
    """An SSD that is ready to run. Not thread-safe: one per thread.

        detector = Detector.load("ssd300.onnx")
        detections = detector.detect(frame)

    timing_ms: milliseconds of preprocess, infer and postprocess of the latest detections.
    copies: FrameCopies of their frames.
    """

    def __init__(self, backend):
        self._backend = backend
        self.timing_ms = {}
        self.copies = FrameCopies(0, 0)

    @classmethod
    def load(
        cls,
        path,
        score_threshold=0.5,
        classes=None,
        iou_threshold=None,
        top_k=None,
        max_detections=None,
        threads=0,
        memory="auto",
        wait="auto",
        rebuild=False,
        engine="auto",
        in_flight=1,
        precision="auto",
        trust_engine=False,
        trust_checkpoint=False,
    ):
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
        trust_checkpoint: a checkpoint from elsewhere is read with a torch before 2.10, too, in which a file can
        do what it likes.

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
    def spec(self):
        """The model's SsdSpec, with the thresholds in force."""
        return self._backend.spec

    @property
    def class_names(self):
        """Names of the labels, a tuple; background is not among them."""
        return self.spec.class_names

    @property
    def description(self):
        """The engine and the device, for a report."""
        return self._backend.description

    @property
    def precision(self):
        """What most of the network is computed in: "fp32", "bf16", "fp16" or "int8"."""
        return self._backend.precision

    @property
    def depth(self):
        """Frames in flight, between `submit` and `collect`, that keep the device or the cores busy."""
        return self._backend.depth

    @property
    def allocate(self):
        """For `open_source(..., allocate=detector.allocate)`: memory that the GPU reads frames from without a
        copy of the CPU's; None on the CPU."""
        return self._backend.allocate

    def detect(self, frame):
        """Detections in one frame, boxes in its own pixels.

        frame: a Frame, or a (H, W, 3) uint8 BGR array as OpenCV has it; on the GPU also one that lies
        there (PyTorch, CuPy, jetson-utils, DLPack), which is read in place.
        Raises ValueError for an image that is neither, and when the network gives NaN or Inf.
        """
        return self.collect(self.submit(frame))

    def submit(self, frame):
        """Starts on a frame and returns a ticket for `collect`, so that the next can be prepared meanwhile.

        Up to `depth` frames may be in flight; a frame may not be changed before it is collected. With a depth
        of 1, on the CPU, this does the work. Raises ValueError for what is no frame, RuntimeError for one too
        many on a GPU.
        """
        return self._submit([_as_frame(frame)])

    def is_done(self, ticket):
        """Whether `collect` would give the detections of a ticket, or raise, without a wait."""
        return self._backend.is_done(ticket[1])

    def collect(self, ticket):
        """The Detections of a ticket; waits for them. Raises ValueError as `detect` does."""
        return self._collect(ticket)[0]

    def detect_all(self, frames, next_is_there=lambda: True):
        """The Detections of each frame of an iterable, in order, with up to `depth` frames in flight.

        next_is_there: tells whether the iterable gives its next frame, or its end, without a wait. A result is
        not held back for a frame that has not come, nor a frame for a result: what is there first goes on.
        Raises as `detect` does.
        """
        tickets = deque()
        for frame in frames:
            tickets.append(self.submit(frame))
            while tickets and not (len(tickets) < self.depth and self._is_next(next_is_there, tickets[0])):
                yield self.collect(tickets.popleft())
        while tickets:
            yield self.collect(tickets.popleft())

    def _is_next(self, next_is_there, ticket):
        """Whether the next frame is there before the result of the ticket; waits for one of them."""
        while not (is_there := next_is_there()) and not self.is_done(ticket):
            self._backend.pause()
        return is_there

    def detect_batch(self, frames):
        """Detections of several images, in as few calls of the network as the model allows.

        frames: list of what `detect` takes, of any sizes. Returns a list of Detections in the same order.
        """
        frames = [_as_frame(frame) for frame in frames]
        at_once = self._backend.max_batch or max(1, len(frames))
        parts = [frames[start : start + at_once] for start in range(0, len(frames), at_once)]
        detections, tickets = [], deque()
        spent_ms = Counter()
        while parts or tickets:
            if parts and len(tickets) < self.depth:
                tickets.append(self._submit(parts.pop(0)))
                continue
            detections += self._collect(tickets.popleft())
            spent_ms.update(self.timing_ms)
        self.timing_ms = dict(spent_ms) or self.timing_ms
        return detections

    def _submit(self, frames):
        return frames, self._backend.submit(frames)

    def _collect(self, ticket):
        frames, pending = ticket
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

    def close(self):
        """Frees the engine; the detector cannot be used afterwards."""
        self._backend.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def _as_frame(frame):
    if isinstance(frame, Frame):
        return frame
    if not any(
        hasattr(frame, name) for name in ("__array_interface__", "__cuda_array_interface__", "__dlpack__")
    ):
        raise TypeError(f"frame: expected a Frame or a (H, W, 3) uint8 BGR array, got {type(frame).__name__}")
    return Frame(frame, timestamp_ns=now_ns())
