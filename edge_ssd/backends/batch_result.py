"""What a backend gives back for a batch of frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..resize import ResizePlan


@dataclass(frozen=True)
class ImageResult:
    """Rows of one image.

    rows: (max_detections, 6) float32, as `edge_ssd.reference.postprocess` has them; count of them are used.
    dropped: priors with NaN or Inf.   plan: where the image lies in the network input.
    """

    rows: np.ndarray
    count: int
    dropped: int
    plan: ResizePlan


@dataclass(frozen=True)
class BatchResult:
    """Results of a batch.

    timing_ms: preprocess, infer, postprocess, for the whole batch.
    broken_output: name of the output that holds NaN or Inf, "" when none does.
    cpu_copies, bus_copies: of all frames' pixels, on their way from the source to the device.
    """

    images: list[ImageResult]
    timing_ms: dict[str, float]
    broken_output: str = ""
    cpu_copies: int = 0
    bus_copies: int = 0
