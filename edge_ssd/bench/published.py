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


# By number of default boxes: FPS (SSD300: early abstract; published, batch 1; batch 8. SSD512: batch 1; batch 8), and
# 10^9 multiply-adds with 81 columns of conf; 21 of them are a tenth less.
_OF_THE_PAPER: dict[int, tuple[tuple[int, ...], float]] = {
    8732: ((58, 46, 59), 34.4),
    24564: ((19, 22), 98.6),
}
_OTHER_NETWORK = 0.2


def baselines(num_priors: int, gflops: float | None = None) -> tuple[int, ...]:
    """FPS on the Titan X that a network of the paper is compared with: SSD300 and SSD512 with VGG-16.

    num_priors: its default boxes.   gflops: of `giga_multiply_adds`, None where that is not known. Others have as
    many boxes and another backbone; for them, (): their rate stands by itself.
    """
    fps, usual = _OF_THE_PAPER.get(num_priors, ((), 1.0))
    return fps if not gflops or abs(gflops / usual - 1) < _OTHER_NETWORK else ()
