"""The CPU backend: the reference before and after an engine."""

from __future__ import annotations

import numpy as np

from .. import reference
from ..priors import make_priors
from .heads import arrange_heads


class CpuBackend:
    """Pixels to rows on the CPU, in three steps.

    engine: see `edge_ssd.engines`.   spec: SsdSpec.   labels: (K,) foreground classes to look for, or None.

    Runs the network once on zeros, so that an output that does not fit the spec is refused here
    (ValueError) and the first frame is not the slow one.
    """

    def __init__(self, engine, spec, labels=None):
        self.engine, self.spec, self.labels = engine, spec, labels
        self.priors = make_priors(spec)
        self._batch = np.zeros((1, 3, *spec.input.size), engine.input_dtype)
        self.infer(self._batch)

    def preprocess(self, frame):
        """Frame -> batch (1, 3, H, W) in the engine's dtype, valid until the next call; ResizePlan."""
        return reference.preprocess(
            frame.image,
            self.spec,
            frame.pixel_format,
            frame.color_matrix,
            frame.color_range,
            out=self._batch[0],
        )

    def infer(self, batch):
        """(B, 3, H, W) -> loc (B, P, 4), conf (B, P, C) float32, valid until the next call."""
        return arrange_heads(*self.engine.infer(batch), self.spec, len(self.priors))

    def postprocess(self, loc, conf):
        """loc (P, 4), conf (P, C) of one image -> rows (max_detections, 6), counts (2,); see `reference`."""
        return reference.postprocess(loc, conf, self.priors, self.spec, self.labels)

    def close(self):
        """Frees the engine."""
        self.engine.close()
