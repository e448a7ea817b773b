"""What the kernels are timed on: heads of SSD300 by their content, and how a time becomes columns of a row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_ssd.priors import ssd300_levels
from edge_ssd.spec import InputSpec, OutputSpec, PostprocessSpec, PriorSpec, SsdSpec

SECTION, TUNING = "kernels", "block sizes"

CONTENTS = ("quiet", "all fire", "all tie")

_COLUMNS = 81
_MOST_SETS = 96


@dataclass(frozen=True)
class Case:
    """Heads of one content: what post-processing is timed on.

    content: of CONTENTS.   head: float16 or float32.   batch_size: images.
    """

    content: str
    head: str = "float16"
    batch_size: int = 1

    @property
    def name(self):
        return f"8732 x 81 {self.head}, {self.content}, batch {self.batch_size}"


CASES = (
    *(Case(content, head) for content in CONTENTS for head in ("float16", "float32")),
    *(Case(content, batch_size=16) for content in CONTENTS[:2]),
)


def ssd300_spec():
    """An SSD300 with 81 columns, as its network's spec has it."""
    return SsdSpec(
        name="ssd300",
        input=InputSpec("image", 300, 300, "rgb", (123.0, 117.0, 104.0), (1.0, 1.0, 1.0)),
        outputs=OutputSpec("loc", "conf"),
        class_names=tuple(f"class {i}" for i in range(1, _COLUMNS)),
        background_index=0,
        score_activation="softmax",
        loc_order="cxcywh",
        variance=(0.1, 0.2),
        priors=PriorSpec(levels=ssd300_levels("coco")),
        postprocess=PostprocessSpec(0.01, 0.45, 400, 200, "before_nms"),
    )


def heads_of(case, num_priors, columns, seed=0):
    """(loc (B, P, 4), conf (B, P, C)) of a Case, on the host.

    quiet: background far above the rest, some two hundred candidates.   all fire: every class of every prior
    passes the threshold, none of them equal.   all tie: as in an untrained network.
    Offsets of sizes are zero, so that boxes are the same on both devices to the bit, and NMS decides alike.
    """
    rng = np.random.default_rng(seed)
    loc = np.zeros((case.batch_size, num_priors, 4), case.head)
    loc[..., :2] = rng.normal(size=loc[..., :2].shape)
    if case.content == "all tie":
        return loc, np.zeros((case.batch_size, num_priors, columns), case.head)
    conf = rng.normal(scale={"quiet": 1, "all fire": 0.04}[case.content], size=(*loc.shape[:2], columns))
    if case.content == "quiet":
        conf[..., 0] += 8
    return loc, conf.astype(case.head)


def num_sets(nbytes, cache):
    """How many inputs take turns so that each has left the cache when it comes again."""
    return int(np.clip(np.ceil(2 * cache / nbytes), 1, _MOST_SETS))


def timed(timer, work, nbytes, gb_per_s):
    """Columns of a Record: time from memory and from the cache, bytes, floor and how far from it."""
    from_memory, from_cache = timer(work), timer(work[:1])
    values = {**from_memory.as_values(), "from_cache_us": from_cache.median_us, "bytes": nbytes}
    if gb_per_s:
        floor_us = nbytes / gb_per_s / 1e3
        values |= {"floor_us": floor_us, "over_floor": from_memory.median_us / floor_us}
    return values
