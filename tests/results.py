"""Results of a frame for the tests of sinks."""

from __future__ import annotations

import numpy as np

from edge_ssd.detections import Detections
from edge_ssd.frames import Frame
from edge_ssd.sinks import FrameResult

CLASS_NAMES = ("cat", "dog")


def result(image=None, boxes=((10, 20, 30, 40),), scores=None, labels=None, class_names=CLASS_NAMES, **frame):
    """A FrameResult of `boxes` on `image` (48 x 64 black by default); `frame`: fields of the Frame."""
    image = np.zeros((48, 64, 3), np.uint8) if image is None else image
    scores = np.linspace(0.9, 0.6, len(boxes)) if scores is None else scores
    labels = [i % len(class_names) for i in range(len(boxes))] if labels is None else labels
    frame = Frame(image, **frame)
    detections = Detections(np.reshape(boxes, (-1, 4)), scores, labels, frame.image_size, frame.timestamp_ns)
    timing_ms = {"capture": 0.1, "preprocess": 0.4, "infer": 7.9, "postprocess": 0.3, "age": 9.12345}
    return FrameResult(frame, detections, class_names, timing_ms)
