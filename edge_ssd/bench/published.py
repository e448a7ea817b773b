"""What has been published of detectors on a Titan X, to set measured figures beside."""

from __future__ import annotations

from typing import NamedTuple

TITAN_X = "Titan X (Maxwell)"


class Published(NamedTuple):
    """One detector as its authors published it.

    voc_map: mean AP on VOC2007 test, 0..1.   fps: on the Titan X; None where it was not published for that
    GPU.   batch: images at a time, None where the paper does not say.   source: where it stands.
    """

    name: str
    voc_map: float
    fps: float | None
    batch: int | None
    source: str


PUBLISHED = (
    Published("R-CNN (VGG16)", 0.585, None, None, "its paper; 47 s an image on a K40"),
    Published("SPP-net", 0.592, None, None, "its paper"),
    Published("Fast R-CNN (VGG16)", 0.700, None, None, "its paper"),
    Published("Faster R-CNN (VGG16)", 0.732, 7, 1, "SSD's authors"),
    Published("R-FCN (ResNet-101)", 0.795, None, None, "its paper"),
    Published("YOLO", 0.634, 45, 1, "SSD's authors"),
    Published("Fast YOLO", 0.527, 155, 1, "SSD's authors"),
    Published("SSD300, early abstract", 0.721, 58, 1, "arXiv 1512.02325 v1"),
    Published("SSD500, early abstract", 0.751, 23, 1, "arXiv 1512.02325 v1"),
    Published("SSD300", 0.743, 46, 1, "ECCV paper"),
    Published("SSD300", 0.743, 59, 8, "ECCV paper"),
    Published("SSD512", 0.768, 19, 1, "ECCV paper"),
    Published("SSD512", 0.768, 22, 8, "ECCV paper"),
    Published("SSD300, later augmentation", 0.772, 46, 1, "the authors' README"),
    Published("SSD512, later augmentation", 0.798, 19, 1, "the authors' README"),
)

# Of the network alone: milliseconds at the 90th percentile, INT8, single stream.
MLPERF_ORIN = "SSD-MobileNet-v1 300 on an AGX Orin, MLPerf v2.0, network alone in INT8: 0.474 ms (p90)"


def baselines(num_priors):
    """FPS on the Titan X that a network of the paper is compared with, by its number of default boxes.

    8732: SSD300, 58, 46, 59 (early abstract; published, batch 1; batch 8).   24564: SSD512, 19, 22.   Others:
    (), they are no network of the paper's.
    """
    return {8732: (58, 46, 59), 24564: (19, 22)}.get(num_priors, ())
