"""Post-processing over the sizes of networks and what they say, from quiet to all priors firing.

    python -m benchmarks.postprocess [--out DIR]

Milliseconds of the CPU's fast path, and of the kernels where there is a GPU (in a CUDA graph). "one place": all
priors decode to the same box, so that NMS has to look at every candidate.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from edge_ssd import reference
from edge_ssd.backends import cpu_steps
from edge_ssd.bench.networks import offsets_to_one_place
from edge_ssd.files import replacing, write_text
from edge_ssd.machine.facts import machine_facts
from edge_ssd.priors import make_priors, ssd300_levels, ssd512_levels, ssdlite_levels
from edge_ssd.spec import InputSpec, OutputSpec, PostprocessSpec, PriorSpec, SsdSpec

# Name: side of the input, levels, columns of conf.
NETWORKS = {
    "ssdlite320, 91 columns": (320, ssdlite_levels, 91),
    "ssd300, 21 columns": (300, lambda: ssd300_levels("voc"), 21),
    "ssd300, 81 columns": (300, lambda: ssd300_levels("coco"), 81),
    "ssd512, 81 columns": (512, lambda: ssd512_levels("coco"), 81),
}
_REPEATS = 9


@dataclass(frozen=True)
class Content:
    """What a network says. background: added to its logit.   noise: standard deviation of all logits.
    at_one_place: whether all boxes are the same one."""

    name: str
    background: float
    noise: float
    at_one_place: bool = False


CONTENTS = (
    Content("quiet", 12, 1),
    Content("a tenth fires", 8.7, 1),
    Content("all fire", 0, 0.04),
    Content("all tie", 0, 0),
    Content("all fire, one place", 0, 0.04, at_one_place=True),
)


def main(argv=None):
    """Prints a table; with --out also writes postprocess.json and .png."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.postprocess",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, metavar="DIR")
    arguments = parser.parse_args(argv)
    rows = list(measure(NETWORKS, CONTENTS, kernels_timer()))
    print(f"{'':26s}{'':22s}{'candidates':>11s}{'kept':>6s}{'CPU, ms':>15s}{'kernels, ms':>13s}")
    for row in rows:
        kernels = "-" if row["kernels_ms"] is None else f"{row['kernels_ms']:.4f}"
        print(
            f"{row['network']:26s}{row['content']:22s}{row['candidates']:11d}{row['detections']:6d}"
            f"{row['cpu_ms']:15.2f}{kernels:>13s}"
        )
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        content = {"machine": machine_facts(), "rows": rows}
        write_text(arguments.out / "postprocess.json", json.dumps(content, indent=1) + "\n")
        plot(rows, arguments.out / "postprocess.png")
    return 0


def spec_of(network):
    """The SsdSpec of one of NETWORKS, with the thresholds of evaluation: the most candidates."""
    side, levels, columns = NETWORKS[network]
    return SsdSpec(
        name=network,
        input=InputSpec("image", side, side, "rgb", (127.5,) * 3, (127.5,) * 3),
        outputs=OutputSpec("loc", "conf"),
        class_names=tuple(f"class {i}" for i in range(1, columns)),
        background_index=0,
        score_activation="softmax",
        loc_order="cxcywh",
        variance=(0.1, 0.2),
        priors=PriorSpec(levels=levels()),
        postprocess=PostprocessSpec(0.001, 0.45, 400, 200),
    )


def heads_of(content, priors, columns):
    """loc (P, 4), conf (P, C) float32 of a Content."""
    rng = np.random.default_rng(0)
    loc = offsets_to_one_place(priors) if content.at_one_place else rng.normal(size=(len(priors), 4)) * 0.5
    conf = rng.normal(size=(len(priors), columns)) * content.noise
    conf[:, 0] += content.background
    return loc.astype(np.float32), conf.astype(np.float32)


def measure(networks, contents, kernels_ms=lambda *_: None, repeats=_REPEATS):
    """A dict for each network and content, as they are measured; a bar on standard error.

    kernels_ms: function (spec, priors, loc, conf) -> milliseconds or None.
    """
    cases = [(network, content) for network in networks for content in contents]
    for network, content in tqdm(cases, disable=not sys.stderr.isatty(), leave=False):
        spec = spec_of(network)
        priors = make_priors(spec)
        loc, conf = heads_of(content, priors, spec.num_columns)
        scores = reference.activate(conf, spec.score_activation)[:, 1:]
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            _, counts = cpu_steps.postprocess(loc, conf, priors, spec)
            times.append((time.perf_counter() - start) * 1e3)
        yield {
            "network": network,
            "priors": len(priors),
            "content": content.name,
            "candidates": int((scores > spec.postprocess.score_threshold).sum()),
            "detections": int(counts[0]),
            "cpu_ms": float(np.median(times)),
            "kernels_ms": kernels_ms(spec, priors, loc, conf),
        }


def kernels_timer():
    """function (spec, priors, loc, conf) -> milliseconds of the three launches; None for all without a GPU."""
    try:
        from edge_ssd.kernels.device import Device

        device = Device()
    except (ImportError, OSError) as error:
        print(f"no kernels: {error}", file=sys.stderr)
        return lambda *_: None
    from edge_ssd.backends.settings import postprocess_settings
    from edge_ssd.kernels import Postprocess

    from .gpu.timing import GraphTimer

    timer = GraphTimer(device)

    def kernels_ms(spec, priors, loc, conf):
        step = Postprocess(device, priors, postprocess_settings(spec), 1)
        heads = device.array(loc[None]), device.array(conf[None])
        return timer([lambda: step(*heads)]).median_us / 1e3

    return kernels_ms


def plot(rows, path):
    """Milliseconds by what the network says, a line for each network."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    for network in dict.fromkeys(row["network"] for row in rows):
        for column, line in (("cpu_ms", "-"), ("kernels_ms", "--")):
            own = [row for row in rows if row["network"] == network and row[column] is not None]
            if own:
                label = f"{network}, {column.removesuffix('_ms')}"
                axes.plot(
                    [r["content"] for r in own], [r[column] for r in own], line, marker="o", label=label
                )
    axes.set(ylabel="milliseconds", yscale="log", title="Post-processing, score threshold 0.001, top_k 400")
    axes.grid(alpha=0.3)
    axes.legend()
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


if __name__ == "__main__":
    sys.exit(main())
