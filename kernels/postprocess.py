"""Network outputs to detections on the GPU: three launches over buffers that are made once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .class_nms import MAX_TOP_K, class_nms, kept_per_class
from .merge import MAX_DETECTIONS, merge
from .score_candidates import ACTIVATIONS, num_tiles, score_candidates

if TYPE_CHECKING:
    from .device import Device, DeviceArray


@dataclass(frozen=True)
class PostprocessSettings:
    """What post-processing needs to know of a model, in plain numbers.

    columns: of conf, for each class that is looked for.   labels: of the same classes, ascending.
    num_columns: C.   activation: softmax, sigmoid or none.   variance: (centre, size).
    y_first: loc is dy dx dh dw.   clip: boxes are clipped to 0..1 before NMS.

    Raises ValueError naming what is out of the kernels' range.
    """

    num_columns: int
    columns: tuple[int, ...]
    labels: tuple[int, ...]
    activation: str
    score_threshold: float
    iou_threshold: float
    top_k: int
    max_detections: int
    variance: tuple[float, float]
    y_first: bool = False
    clip: bool = False

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation: expected one of {', '.join(ACTIVATIONS)}, got {self.activation!r}")
        if not 1 <= self.top_k <= MAX_TOP_K:
            raise ValueError(f"top_k: expected 1 to {MAX_TOP_K} on a GPU, got {self.top_k}")
        if not 1 <= self.max_detections <= MAX_DETECTIONS:
            raise ValueError(
                f"max_detections: expected 1 to {MAX_DETECTIONS} on a GPU, got {self.max_detections}"
            )
        if not self.score_threshold >= 0:
            raise ValueError(f"score_threshold: expected at least 0, got {self.score_threshold}")
        if len(self.columns) != len(self.labels) or list(self.labels) != sorted(self.labels):
            raise ValueError("labels: expected one for each column, ascending")
        if not all(0 <= column < self.num_columns for column in self.columns):
            raise ValueError(f"columns: expected 0 to {self.num_columns - 1}, got {self.columns}")


class Postprocess:
    """loc, conf -> rows, counts, for one batch size; see edge_ssd.reference.postprocess.

    device: where to.   priors: (P, 4) float32 on the host.   settings: PostprocessSettings.
    Buffers are allocated here and by nothing later; their sizes depend on P, C and the settings alone.

    rows: (B, max_detections, 6) float32; counts: (B, 2) int32: device arrays, the results of the latest call; made
    here where none are given.   launch: `block` of every kernel, for tuning.
    """

    def __init__(
        self,
        device: Device,
        priors: np.ndarray,
        settings: PostprocessSettings,
        batch_size: int = 1,
        rows: DeviceArray = None,
        counts: DeviceArray = None,
        **launch: int,
    ) -> None:
        self._device, self._settings, self._launch = device, settings, launch
        num_priors, num_classes = len(priors), len(settings.columns)
        tiles, kept = num_tiles(num_priors), kept_per_class(settings.top_k, settings.max_detections)
        self._priors = device.array(np.ascontiguousarray(priors, np.float32))
        self._columns = device.array(np.array(settings.columns, np.int32))
        self._labels = device.array(np.array(settings.labels, np.int32))
        self._fired = device.empty((batch_size, num_classes, tiles), np.uint32)
        self._scores = device.empty((batch_size, num_classes, num_priors), np.float32)
        self._dropped = device.empty((batch_size, tiles), np.int32)
        self._kept_boxes = device.empty((batch_size, num_classes, kept, 4), np.float32)
        self._kept_scores = device.empty((batch_size, num_classes, kept), np.float32)
        self._kept_counts = device.empty((batch_size, num_classes), np.int32)
        self.rows = (
            device.empty((batch_size, settings.max_detections, 6), np.float32) if rows is None else rows
        )
        self.counts = device.empty((batch_size, 2), np.int32) if counts is None else counts
        self._conf_shape = (batch_size, num_priors, settings.num_columns)

    def __call__(self, loc: DeviceArray, conf: DeviceArray) -> tuple[DeviceArray, DeviceArray]:
        """Launches on the current stream; allocates nothing, waits for nothing.

        loc (B, P, 4), conf (B, P, C): float32 or float16 device arrays.
        Returns rows, counts: device arrays, complete when the stream gets there.
        Raises ValueError naming an array that does not fit.
        """
        settings = self._settings
        if tuple(conf.shape) != self._conf_shape:
            raise ValueError(f"conf: expected shape {self._conf_shape}, got {tuple(conf.shape)}")
        score_candidates(
            self._device,
            loc,
            conf,
            self._columns,
            self._fired,
            self._scores,
            self._dropped,
            settings.activation,
            settings.score_threshold,
            **self._launch,
        )
        class_nms(
            self._device,
            self._fired,
            self._scores,
            loc,
            self._priors,
            self._kept_boxes,
            self._kept_scores,
            self._kept_counts,
            settings.top_k,
            settings.iou_threshold,
            settings.variance,
            settings.y_first,
            settings.clip,
            **self._launch,
        )
        merge(
            self._device,
            self._kept_boxes,
            self._kept_scores,
            self._kept_counts,
            self._dropped,
            self._labels,
            self.rows,
            self.counts,
            **self._launch,
        )
        return self.rows, self.counts
