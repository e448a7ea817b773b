"""What the kernels need to know of a spec, in plain numbers."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..kernels import PostprocessSettings, preprocess_constants
from ..spec import SsdSpec


def postprocess_settings(
    spec: SsdSpec, labels: Iterable[int] | np.ndarray | None = None
) -> PostprocessSettings:
    """The PostprocessSettings of a SsdSpec.

    labels: (K,) indices into class_names to look for; all when None.
    Raises ValueError for limits that are beyond the kernels', and for what they do not take.
    """
    _check_taken(spec)
    wanted = range(len(spec.class_names)) if labels is None else sorted(int(label) for label in labels)
    background = spec.background_index
    limits = spec.postprocess
    return PostprocessSettings(
        num_columns=spec.num_columns,
        columns=tuple(label + (background is not None and label >= background) for label in wanted),
        labels=tuple(wanted),
        activation=spec.score_activation,
        score_threshold=float(spec.postprocess.score_threshold),  # type: ignore[arg-type]  # as checked
        iou_threshold=limits.iou_threshold,
        top_k=limits.top_k,
        max_detections=limits.max_detections,
        variance=spec.variance,
        y_first=spec.loc_order == "cycxhw",
        clip=limits.clip_boxes == "before_nms",
    )


def _check_taken(spec: SsdSpec) -> None:
    """Raises ValueError for a key of the spec that the GPU's path does not take."""
    plain = {
        "box_coding": spec.box_coding == "center_size",
        "keypoints": not spec.keypoints,
        "loc_layout": spec.loc_layout == "prior_column",
        "conf_layout": spec.conf_layout == "prior_column",
        "input.layout": spec.input.layout == "nchw",
        "input.dtype": spec.input.dtype == "float",
        "input.batch_axis": spec.input.batch_axis,
        "outputs": len(spec.outputs.names) == 2,
    }
    for key, is_plain in plain.items():
        if not is_plain:
            raise ValueError(f"{spec.name}: {key}: a GPU takes the default alone; run the .onnx on the CPU")
    if isinstance(spec.score_thresholds, tuple):
        raise ValueError(
            f"{spec.name}: postprocess.score_threshold: a GPU takes one for all classes; "
            "give one (--score-threshold), or run the .onnx on the CPU"
        )


def input_constants(spec: SsdSpec) -> np.ndarray:
    """The `constants` of the preprocess kernel, (61,) float32, of a SsdSpec."""
    return preprocess_constants(spec.input.mean, spec.input.std, spec.input.pad_value)
