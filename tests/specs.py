"""Example specs for tests."""

from __future__ import annotations

from dataclasses import replace

from edge_ssd.priors import ssd300_levels
from edge_ssd.spec import InputSpec, OutputSpec, PostprocessSpec, PriorLevel, PriorSpec, SsdSpec


def example_spec(**changes):
    """SSD300 with two classes; `changes` are fields of SsdSpec, or of its input and postprocess parts."""
    spec = SsdSpec(
        name="example",
        input=InputSpec("image", 300, 300, "rgb", (123, 117, 104), (1, 1, 1)),
        outputs=OutputSpec("loc", "conf"),
        class_names=("cat", "dog"),
        background_index=0,
        score_activation="softmax",
        loc_order="cxcywh",
        variance=(0.1, 0.2),
        priors=PriorSpec(levels=ssd300_levels("voc")),
        postprocess=PostprocessSpec(0.01, 0.45, 400, 200),
    )
    for part in ("input", "postprocess"):
        names = set(changes) & set(type(getattr(spec, part)).__dataclass_fields__) - {"name"}
        values = {name: changes.pop(name) for name in names}
        spec = replace(spec, **{part: replace(getattr(spec, part), **values)})
    return replace(spec, **changes)


def grid_spec(rows, columns, **changes):
    """An example spec on a 100 x 100 input whose priors are one square of 20 pixels per cell."""
    level = PriorLevel((rows, columns), (100 / rows, 100 / columns), ((20, 20),))
    return example_spec(**{"height": 100, "width": 100, "priors": PriorSpec(levels=(level,)), **changes})
