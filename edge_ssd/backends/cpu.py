"""The CPU backend: the reference before and after an engine."""

from __future__ import annotations

import numpy as np

from .. import reference
from ..priors import make_priors
from ..timing import StageTimer
from .batch_result import BatchResult, ImageResult
from .heads import arrange_heads


class CpuBackend:
    """Pixels to rows on the CPU, in three steps.

    engine: see `edge_ssd.engines`.   spec: SsdSpec.   labels: (K,) foreground classes to look for, or None.

    depth: batches in flight that pay, 1: a second one would only wait.   max_batch: images in one call; 0
    when any.   allocate: None, frames may lie anywhere.

    Runs the network once on zeros, so that an output that does not fit the spec is refused here
    (ValueError) and the first frame is not the slow one.
    """

    depth = 1
    allocate = None
    on_gpu = False

    def __init__(self, engine, spec, labels=None):
        self.engine, self.spec, self.labels = engine, spec, labels
        self.priors = make_priors(spec)
        self._batch = np.zeros((1, 3, *spec.input.size), engine.input_dtype)
        self.infer(self._batch)

    @property
    def max_batch(self):
        return self.engine.max_batch

    @property
    def precision(self):
        """What the engine computes in."""
        return self.engine.precision

    @property
    def description(self):
        """Engine and device, for a report."""
        return self.engine.description

    def submit(self, frames):
        """Does the work; returns the ticket, here the result itself. frames: list of Frames."""
        timer = StageTimer()
        with timer("preprocess"):
            if len(frames) == 1:
                batch, *plans = self.preprocess(frames[0])
            else:
                batch = np.empty((len(frames), *self._batch.shape[1:]), self._batch.dtype)
                plans = [self.preprocess(frame, out)[1] for frame, out in zip(frames, batch)]
        with timer("infer"):
            loc, conf = self.infer(batch)
        with timer("postprocess"):
            images = []
            for i, plan in enumerate(plans):
                rows, (count, dropped) = self.postprocess(loc[i], conf[i])
                images.append(ImageResult(rows, int(count), int(dropped), plan))
        return BatchResult(images, timer.latest_ms, self._broken_output(images, loc))

    def is_done(self, ticket):
        """Whether there is nothing to wait for: always."""
        return True

    def collect(self, ticket):
        """The BatchResult of a ticket."""
        return ticket

    def preprocess(self, frame, out=None):
        """Frame -> batch (1, 3, H, W) in the engine's dtype, valid until the next call; ResizePlan.

        out: (3, H, W) to write into instead.   Raises ValueError for a frame that lies on a GPU.
        """
        if frame.is_on_device:
            raise ValueError(
                "image: lies on a GPU, and this model runs on the CPU; pass a copy on the host "
                "(torch: .cpu(), CuPy: asnumpy), or load an .engine"
            )
        return reference.preprocess(
            frame.image,
            self.spec,
            frame.pixel_format,
            frame.color_matrix,
            frame.color_range,
            out=self._batch[0] if out is None else out,
        )

    def infer(self, batch):
        """(B, 3, H, W) -> loc (B, P, 4), conf (B, P, C) float32, valid until the next call."""
        return arrange_heads(*self.engine.infer(batch), self.spec, len(self.priors))

    def postprocess(self, loc, conf):
        """loc (P, 4), conf (P, C) of one image -> rows (max_detections, 6), counts (2,); see `reference`."""
        return reference.postprocess(loc, conf, self.priors, self.spec, self.labels)

    def _broken_output(self, images, loc):
        if not any(image.dropped for image in images):
            return ""
        return self.spec.outputs.conf if np.isfinite(loc).all() else self.spec.outputs.loc

    def close(self):
        """Frees the engine."""
        self.engine.close()
