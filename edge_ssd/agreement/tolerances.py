"""What "the same result" means in each precision: the one table for `verify`, `bench` and the tests."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ..files import StrPath


class Tolerance(NamedTuple):
    """What one precision may cost.

    head: largest ||found - wanted|| / ||wanted|| of loc and of conf. A wrong input or a wrong network is off by 1.
    iou, score: lowest IoU and largest score difference of two detections that are the same one.
    lost: share of the detections that may have no counterpart in a variant that agrees with its model.
    lost_timed: the same for a benchmark, which asks another question: is this the same network at all, so that its
        speed means something? It takes two images, on which one box turned over by NMS is a large share, and
        looks for a counterpart of IoU SAME_IOU whatever its score, for peers round and resize in their own ways.
    """

    head: float
    iou: float
    score: float
    lost: float
    lost_timed: float


TOLERANCES = {
    # Another order of summation in 24 bits: the CPU's engines give the same to 1e-5, and deeper networks need room.
    # Nothing may be lost but, in a benchmark, a peer's box whose overlap is the threshold but for rounding.
    "fp32": Tolerance(head=1e-3, iou=0.99, score=1e-3, lost=0.0, lost_timed=0.02),
    # What TensorRT computes float32 layers in by itself: products of 11 bits as in FP16, so boxes change places in
    # NMS as there, but sums and tensors of 24, so the heads lie between. From the formats; not measured.
    "tf32": Tolerance(head=1e-2, iou=0.75, score=3e-2, lost=0.02, lost_timed=0.02),
    # 11 bits: the demo model's heads are 1.4e-3 off. Two boxes of one object may have equal scores and change places
    # in NMS; they overlap by 0.75 and more.
    "fp16": Tolerance(head=2e-2, iou=0.75, score=3e-2, lost=0.02, lost_timed=0.1),
    # 8 bits: with every tensor rounded to them the demo model's heads are 1.4e-2 off, ten times as much as in FP16.
    "bf16": Tolerance(head=5e-2, iou=0.75, score=6e-2, lost=0.05, lost_timed=0.1),
    # Cuts off what calibration left out, or rounds coarsely where it left out nothing: with the ranges of minmax a
    # face detector's loc is 0.5 off, in priors that find nothing, and 3 of 71 detections are lost. So the heads must
    # only be nearer than a wrong network's, and the detections decide.
    "int8": Tolerance(head=0.9, iou=0.50, score=0.5, lost=0.15, lost_timed=0.4),
}

# `verify`, before and after the network.
PIXEL_LEVELS = 0.02  # of 0..255, divided by std: how far batches of the CPU and of the kernels may be apart
ROWS = 1e-4  # of normalised corners and scores; the kernels compute what the reference does
SURE_SCORE = 0.5  # detections from here on are looked for in the other variant,
SCORE_OF_OTHER = 0.25  # where they may have lost some of it

# `bench`: of detections alone whose score is above the threshold by SCORE_MARGIN: the others may fall below it.
SCORE_MARGIN = 0.2
SAME_IOU = 0.5  # as COCO and VOC count a box as found


def tolerance_of(precision: str, path: StrPath) -> Tolerance:
    """The Tolerance of a model file in a precision.

    precision: fp32, fp16, bf16 or int8.   path: of the file; TensorRT computes an FP32 engine in TF32.
    """
    is_tf32 = precision == "fp32" and Path(path).suffix == ".engine"
    return TOLERANCES["tf32" if is_tf32 else precision]
