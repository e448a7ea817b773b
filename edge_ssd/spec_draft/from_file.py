"""What a framework's own description of a model, or another spec, says for the draft."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from .. import limits
from ..files import StrPath, read_text
from ..spec import SsdSpec
from .caffe import options_of_prototxt
from .mmdetection import options_of_config
from .options import DraftOptions
from .tensorflow import options_of_pipeline
from .text_proto import entries, parse_text_proto


def options_from(path: StrPath) -> DraftOptions:
    """The DraftOptions in a file: TensorFlow's pipeline.config, Caffe's deploy.prototxt, MMDetection's config.py, or a
    spec. A Python file is read as text and never run.

    Raises FileNotFoundError, or ValueError naming the file and what of it no spec can hold.
    """
    path = Path(path)
    if path.suffix.lower() == ".json":
        return _options_of_spec(SsdSpec.load(path))
    try:
        content = read_text(path, limits.MOST_DESCRIPTION_BYTES)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file for --from") from None
    try:
        if path.suffix.lower() == ".py":
            return options_of_config(content, path)
        message = parse_text_proto(content)
        if entries(message, "model"):
            return options_of_pipeline(message)
        if entries(message, "layer") or entries(message, "layers"):
            return options_of_prototxt(message)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    raise ValueError(
        f"{path}: expected TensorFlow's pipeline.config, Caffe's deploy.prototxt, MMDetection's config.py or a spec"
    )


def _options_of_spec(spec: SsdSpec) -> DraftOptions:
    """All of a spec but its names: of the model, its input and its outputs."""
    threshold = spec.postprocess.score_threshold
    options = DraftOptions(
        size=spec.input.size,
        color=spec.input.color,
        mean=spec.input.mean,
        std=spec.input.std,
        resize=spec.input.resize,
        classes=spec.class_names,
        box_coding=spec.box_coding,
        activation=spec.score_activation,
        background=-1 if spec.background_index is None else spec.background_index,
        loc_order=spec.loc_order,
        variance=spec.variance,
        iou_threshold=spec.postprocess.iou_threshold,
        score_threshold=threshold if isinstance(threshold, float) else None,
        top_k=spec.postprocess.top_k,
        max_detections=spec.postprocess.max_detections,
    )
    if spec.priors.file:
        return replace(options, priors_file=spec.priors.file)
    return replace(options, priors=spec.priors or None)
