"""The CPU backend: `cpu_steps` before and after an engine."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from ..engines import Engine
from ..engines.layout import interleaved_batch, planar_batch
from ..frames import Frame
from ..priors import make_priors
from ..resize import ResizePlan
from ..spec import SsdSpec
from ..timing import StageTimer
from . import cpu_steps
from .batch_result import BatchResult, ImageResult
from .heads import arrange_heads, priors_in

# As large as most cameras' frames: what a step keeps for the next frame is then large enough.
_WARM_UP_SIZE = (720, 1280)
_WARM_UP_FRAMES, _WARM_UP_S = 5, 0.05


class CpuBackend:
    """Pixels to rows on the CPU, in three steps.

    engine: see `edge_ssd.engines`.   spec: SsdSpec.   labels: (K,) foreground classes to look for, or None.

    in_flight: batches that pay, 1: a second one would only wait.   max_batch: images in one call; 0
    when any.   allocate: None, frames may lie anywhere.

    Runs the network once on zeros, so that an output that does not fit the spec is refused here (ValueError).
    """

    in_flight = 1
    allocate = None
    on_gpu = False

    def __init__(self, engine: Engine, spec: SsdSpec, labels: np.ndarray | None = None) -> None:
        self.engine, self.spec, self.labels = engine, spec, labels
        self.priors = make_priors(spec)
        self._batch = self.new_batch(1)
        loc, conf = engine.infer(self._batch)
        if not spec.priors:  # so many rows as the model has
            self.priors = np.zeros((priors_in(loc, spec), 4), np.float32)
        arrange_heads(loc, conf, spec, len(self.priors))

    @property
    def max_batch(self) -> int:
        """Images in one call; 0 when any."""
        return self.engine.max_batch

    @property
    def precision(self) -> str:
        """What the engine computes in."""
        return self.engine.precision

    @property
    def description(self) -> str:
        """Engine and device, for a report."""
        return self.engine.description

    def submit(self, frames: Sequence[Frame]) -> BatchResult:
        """Does the work; returns the ticket, here the result itself."""
        timer = StageTimer()
        with timer("preprocess"):
            batch = self._batch if len(frames) == 1 else self.new_batch(len(frames))
            plans = [self.preprocess(frame, out)[1] for frame, out in zip(frames, batch)]
        with timer("infer"):
            loc, conf = self.infer(batch)
        with timer("postprocess"):
            images = []
            for i, plan in enumerate(plans):
                rows, (count, dropped) = self.postprocess(loc[i], conf[i])
                images.append(ImageResult(rows, int(count), int(dropped), plan))
        return BatchResult(images, timer.latest_ms, self._broken_output(images, loc))

    def new_batch(self, count: int) -> np.ndarray:
        """(count, 3, H, W) zeros in the engine's dtype, laid out in memory as the engine prefers it."""
        if self.engine.interleaved:
            return interleaved_batch(count, self.spec.input.size, self.spec.input.color)
        return planar_batch(count, self.spec.input.size, self.engine.input_dtype)

    def warm_up(self) -> None:
        """Runs all steps on black frames, so that the first real one takes no longer than those that follow.

        Several of a fast network, whose first runs take twice the time of later ones. In the thread that is to use the
        backend: what steps keep for the next frame is each thread's own.
        """
        black = Frame(np.zeros((*_WARM_UP_SIZE, 3), np.uint8))
        end = time.monotonic() + _WARM_UP_S
        for _ in range(_WARM_UP_FRAMES):
            self.submit([black])
            if time.monotonic() > end:
                break

    def is_done(self, ticket: BatchResult) -> bool:
        """Whether there is nothing to wait for: always."""
        return True

    def pause(self) -> None:
        """Between two looks at `is_done`: nothing, there is nothing to wait for."""

    def collect(self, ticket: BatchResult) -> BatchResult:
        """The BatchResult of a ticket."""
        return ticket

    def preprocess(self, frame: Frame, out: np.ndarray | None = None) -> tuple[np.ndarray, ResizePlan]:
        """Frame -> batch (1, 3, H, W) in the engine's dtype, valid until the next call; ResizePlan.

        out: (3, H, W) to write into instead.   Raises ValueError for a frame that lies on a GPU.
        """
        if frame.is_on_device:
            raise ValueError(
                "image: lies on a GPU, and this model runs on the CPU; pass a copy on the host "
                "(torch: .cpu(), CuPy: asnumpy), or load an .engine"
            )
        return cpu_steps.preprocess(
            frame.image,
            self.spec,
            frame.pixel_format,
            frame.color_matrix,
            frame.color_range,
            out=self._batch[0] if out is None else out,
        )

    def infer(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(B, 3, H, W) -> loc (B, P, 4), conf (B, P, C) float32, valid until the next call."""
        return arrange_heads(*self.engine.infer(batch), self.spec, len(self.priors))

    def postprocess(self, loc: np.ndarray, conf: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """loc (P, 4), conf (P, C) of one image -> rows (max_detections, 6), counts (2,); see `edge_ssd.reference`."""
        return cpu_steps.postprocess(loc, conf, self.priors, self.spec, self.labels)

    def _broken_output(self, images: list[ImageResult], loc: np.ndarray) -> str:
        if not any(image.dropped for image in images):
            return ""
        outputs = self.spec.outputs
        return ", ".join(outputs.conf_names if np.isfinite(loc).all() else outputs.loc_names)

    def close(self) -> None:
        """Frees the engine."""
        self.engine.close()
