"""What this package sets out to reach on a server GPU (H100, H200), beside what was measured."""

from __future__ import annotations

from dataclasses import dataclass

from edge_ssd.bench.published import baselines

from . import peers, pipeline
from .cases import SECTION as KERNELS
from .cases import Case
from .preprocess import HD
from .records import value_of

SSD300 = "ssd300_vgg16, torch"
_QUIET, _ALL_FIRE = (f"post-processing {Case(content).name}" for content in ("quiet", "all fire"))
_PINNED = f"{SSD300}, pinned"


@dataclass(frozen=True)
class Target:
    """A figure: "at most" or "at least" `wanted`. places: (section, row, column) of what it is computed from;
    compute: of their values, the first one when None."""

    name: str
    relation: str
    wanted: float
    places: tuple[tuple[str, str, str], ...]
    compute: object = None

    def measured(self, records):
        """The value; None when something it needs was not measured."""
        values = [value_of(records, *place) for place in self.places]
        if None in values:
            return None
        return self.compute(*values) if self.compute else values[0]

    def is_reached(self, value):
        """Whether a value is as wanted."""
        return value <= self.wanted if self.relation == "at most" else value >= self.wanted


def _pipeline(column, name=_PINNED):
    return pipeline.SECTION, name, column


def _ratio(first, second):
    return first / second


def _peer(name, column):
    return peers.SECTION, name, column


TARGETS = (
    Target("post-processing, quiet, us", "at most", 25, ((KERNELS, _QUIET, "median_us"),)),
    Target("post-processing, all priors firing, us", "at most", 50, ((KERNELS, _ALL_FIRE, "median_us"),)),
    Target("preprocess of 1280x720, us", "at most", 8, ((KERNELS, HD.name, "median_us"),)),
    Target("SSD300 throughput, of the network alone", "at least", 0.87, (_pipeline("of_network"),)),
    Target(
        "SSD300 latency around network and copy, us",
        "at most",
        150,
        (_pipeline("around_network_and_copy_us"),),
    ),
    Target("SSD300, FPS", "at least", 20 * baselines(8732)[0], (_pipeline("pipeline_fps"),)),
    Target(
        "SSD300 frame rate, of torchvision's eager one",
        "at least",
        10,
        (_pipeline("pipeline_fps"), _peer(peers.EAGER, "frame_p50_us")),
        lambda fps, us: fps * us / 1e6,
    ),
    Target(
        "torch's decode + batched_nms, of our post-processing (quiet)",
        "at least",
        5,
        (_peer(peers.post_name("quiet"), "postprocess_p50_us"), (KERNELS, _QUIET, "median_us")),
        _ratio,
    ),
    Target("allocations over 1,000 frames", "at most", 0, (_pipeline("allocations"),)),
    Target("waits of the host per frame", "at most", 1, (_pipeline("waits_per_frame"),)),
    Target("GPU memory lost over 1,000 frames, bytes", "at most", 0, (_pipeline("free_bytes_lost"),)),
    Target("frames of 1,000 replays with other rows", "at most", 0, (_pipeline("frames_with_other_rows"),)),
    Target(
        "16 cameras in a batch: cost of a frame, of one camera's",
        "at most",
        0.5,
        (_pipeline("of_one_camera", f"{SSD300}, {pipeline.CAMERAS} cameras in a batch"),),
    ),
)
