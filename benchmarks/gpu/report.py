"""gpu-check's rows as JSON, Markdown and a picture."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict

from edge_ssd.files import replacing, write_text

from . import pipeline
from .cases import SECTION as KERNELS
from .device import SECTION as DEVICE
from .records import value_of
from .targets import SSD300, TARGETS

NAME = "gpu_check"

_NOTES = {
    KERNELS: "Microseconds of one launch inside a CUDA graph. floor: the bytes it has to move, at the bandwidth of "
    "the copy above. from_cache: with inputs that the L2 cache still holds, as when the network has just written them.",
    pipeline.SECTION: "1280 x 720 BGR frames in page-locked memory to rows in the host's memory; random weights. "
    "Throughput with two batches in flight, latency with one. of_network: median of the turns' ratios.",
}


def write_report(records, folder):
    """Writes gpu_check.json, .md and .png into `folder`; without Matplotlib, no picture. Returns the Markdown."""
    write_text(folder / f"{NAME}.json", json.dumps(as_json(records), indent=1) + "\n")
    text = markdown(records)
    write_text(folder / f"{NAME}.md", text)
    with suppress(ImportError):
        plot(records, folder / f"{NAME}.png")
    return text


def as_json(records):
    """{"targets": rows of `target_rows` as dicts, "records": all Records as dicts}."""
    columns = ("name", "wanted", "measured", "reached")
    targets = [dict(zip(columns, row)) for row in target_rows(records)]
    return {"targets": targets, "records": [asdict(record) for record in records]}


def target_rows(records):
    """(name, wanted, measured, reached) as texts, one for each Target."""
    rows = []
    for target in TARGETS:
        value = target.measured(records)
        reached = "not measured" if value is None else ("yes" if target.is_reached(value) else "no")
        rows.append((target.name, f"{target.relation} {target.wanted:g}", shown(value), reached))
    return rows


def markdown(records):
    """The whole report: facts, targets, then a table for each section."""
    name = value_of(records, DEVICE, "GPU", "name") or "no GPU"
    parts = [
        f"# edge_ssd on {name}\n",
        table(("figure", "wanted", "measured", "reached"), target_rows(records)),
    ]
    for section in dict.fromkeys(record.section for record in records):
        parts.append(f"\n## {section}\n")
        if section in _NOTES:
            parts.append(f"{_NOTES[section]}\n")
        parts += section_tables([record for record in records if record.section == section])
    return "\n".join(parts) + "\n"


def section_tables(records):
    """Markdown of one section: rows with the same columns share a table, what was not measured is a list."""
    groups = {}
    for record in records:
        if record.status == "ok":
            groups.setdefault(tuple(record.values), []).append(record)
    parts = [
        table(("", *columns), [(r.name, *(shown(r.values[c]) for c in columns)) for r in rows]) + "\n"
        for columns, rows in groups.items()
    ]
    rest = [f"- {r.name}: {r.status}, {r.reason}" for r in records if r.status != "ok"]
    return [*parts, *(["\n".join(rest) + "\n"] if rest else [])]


def table(columns, rows):
    """A Markdown table of texts."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def shown(value):
    """A number as a short text; text as it is; what is missing as "-"."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 10000 else f"{value:.0f}"
    return str(value)


def plot(records, path):
    """Two bar charts: kernels over their floors, and frames per second beside the network alone."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(15, 7), layout="constrained")
    kernels = _measured(records, KERNELS, "median_us", "floor_us")
    _bars(left, kernels, (("median_us", "measured"), ("floor_us", "floor")), "us a launch")
    if kernels:
        left.set_xscale("log")
    rigs = _measured(records, pipeline.SECTION, "pipeline_fps", "network_fps")
    _bars(
        right, rigs, (("pipeline_fps", "frame to detections"), ("network_fps", "network alone")), "frames/s"
    )
    if any(r.name.startswith(SSD300) for r in rigs):
        right.set_title("1280x720 frames, random weights")
    figure.suptitle(value_of(records, DEVICE, "GPU", "name") or "")
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
    plt.close(figure)


def _measured(records, section, *columns):
    return [r for r in records if r.section == section and set(columns) <= set(r.values)]


def _bars(axes, records, columns, unit):
    height = 0.8 / len(columns)
    for i, (column, label) in enumerate(columns):
        places = [place + i * height for place in range(len(records))]
        axes.barh(places, [r.values[column] for r in records], height, label=label)
    axes.set_yticks(
        [place + 0.4 - height / 2 for place in range(len(records))], [r.name for r in records], fontsize=8
    )
    axes.invert_yaxis()
    axes.set_xlabel(unit)
    axes.legend()
