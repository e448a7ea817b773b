"""A report as one self-contained page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from ..files.html import facts, page, picture, table
from .plots import pictures
from .report import model_title, ratios, row_name

_HEAD = (
    "engine, precision",
    "FPS",
    "10 to 90 %",
    "network alone",
    "of it",
    "age p50 ms",
    "p90",
    "p95",
    "p99",
    "max",
    "CPU ms",
    "MiB",
)
_DESCRIPTIONS = {
    "fps": "Bars: frames per second of each engine",
    "stages": "Bars: milliseconds of each stage",
    "latency": "Histogram of the age of a frame at its detections",
    "time": "Frames per second over the run",
}


def html_of(report: dict[str, Any]) -> tuple[str, dict[str, bytes]]:
    """(HTML, {file name: PNG}) of a report as `new_report` and `add_model` make it."""
    machine, parts, files = report["machine"], [], {}
    parts.append(f'<p class="verdict{_broken(report)}">{_quiet(report)}</p>')
    if report["settings"]["note"]:
        parts.append(f"<p>{escape(report['settings']['note'])}</p>")
    for model in report["models"]:
        parts.append(f"<h2>{escape(model_title(model))}</h2>")
        parts.append(_rows(model))
        parts += [f"<p><small>{escape(text)}</small></p>" for text in _notes(report, model)]
        for name, png in pictures(model).items():
            files[f"{model['name']}_{name}.png"] = png
            parts.append(picture(png, f"{_DESCRIPTIONS[name]}: {model['name']}"))
    parts.append(f"<h2>Published, on a {escape(report['published']['gpu'])}</h2>")
    parts.append(_published(report))
    parts += ["<h2>Where this comes from</h2>", facts(_origin(report))]
    where = machine["board"] or machine["gpu"] or machine["cpu"]
    return page(f"edge_ssd on {where}", parts), files


def _broken(report: dict[str, Any]) -> str:
    return " broken" if any(model["machine_was"]["remarks"] for model in report["models"]) else ""


def _quiet(report: dict[str, Any]) -> str:
    remarks = [
        f"During {model['name']}: {'; '.join(model['machine_was']['remarks'])}."
        for model in report["models"]
        if model["machine_was"]["remarks"]
    ]
    return escape(" ".join(remarks) or "The machine was quiet, and did not throttle.")


def _rows(model: dict[str, Any]) -> str:
    meters = list(dict.fromkeys(meter for row in model["rows"] for meter in row.get("joules_per_frame", {})))
    head = [
        *_HEAD,
        *(f"J, {escape(meter)}" for meter in meters),
        *(f"x {fps}" for fps in model["titan_x_fps"]),
    ]
    rows = [_cells(row, model, meters) for row in model["rows"] if row["status"] == "ok"]
    missing = [row for row in model["rows"] if row["status"] != "ok"]
    rest = "".join(f"<li>{escape(row_name(row))}: {escape(row['reason'])}</li>" for row in missing)
    return table(head, rows) + (f"<p>Not measured:</p><ul>{rest}</ul>" if rest else "")


def _cells(row: dict[str, Any], model: dict[str, Any], meters: Sequence[str]) -> list[str]:
    age, network = row["stage_ms"]["age"], row["network_fps"]
    name = f"{escape(row_name(row))}<br><small>{escape(row['description'])}</small>"
    fps = row["fps"]
    cells = [name, f"<b>{fps['median']:.1f}</b>", f"{fps['low']:.1f}&nbsp;to&nbsp;{fps['high']:.1f}"]
    cells += [f"{network['median']:.1f}", f"{row['of_network']:.2f}"] if network else ["-", "-"]
    cells += [f"{age[point]:.2f}" for point in ("p50", "p90", "p95", "p99", "max")]
    cells += [
        f"{row['cpu_ms_per_frame']:.1f}",
        f"{row['memory_mib']:.0f}" + (f" + {gpu:.0f} GPU" if (gpu := row["gpu_memory_mib"]) else ""),
    ]
    cells += [f"{row['joules_per_frame'].get(meter, float('nan')):.3f}" for meter in meters]
    return cells + [f"{ratio:.2f}" for ratio in ratios(row, model)]


def _notes(report: dict[str, Any], model: dict[str, Any]) -> Iterator[str]:
    yield (
        "Camera to detections: images in memory, copied once as a camera's driver does, to boxes. Medians of turns "
        'that all rows took in alternation; "of it": of the network\'s own frame rate, turn by turn. Age: '
        "from the moment a frame's pixels were there to its detections; several frames at once come more often, and "
        "later. CPU ms: CPU time of a frame, all cores. MiB: peak of the process, its copy of the images included."
    )
    if model["titan_x_fps"]:
        shown = ", ".join(map(str, model["titan_x_fps"]))
        yield f"x {shown}: frame rate by what the paper reports for this network on a {report['published']['gpu']}."
    elif model["gflops"]:
        yield f"Not a network of the paper's: its rate stands by itself. {report['published']['mlperf']}."


def _published(report: dict[str, Any]) -> str:
    rows = [
        [
            escape(d["name"]),
            f"{100 * d['voc_map']:.1f}",
            "not published" if d["fps"] is None else f"{d['fps']:g}",
            d["batch"] or "-",
            escape(d["source"]),
        ]
        for d in report["published"]["detectors"]
    ]
    head = ("detector", "VOC2007 mAP, %", "FPS", "batch", "from")
    return table(head, rows, ["published"] * len(rows))


def _origin(report: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    machine, settings = report["machine"], report["settings"]
    yield "measured", report["when"]
    for key, value in machine.items():
        if key == "versions":
            value = ", ".join(f"{name} {version}" for name, version in value.items())
        if value not in ("", None):
            yield key.replace("_", " "), value
    for key, value in settings.items():
        if value != "":
            yield key.replace("_", " "), value
    for model in report["models"]:
        was = model["machine_was"]
        others = "unknown" if was["others_share"] is None else f"{was['others_share']:.1%}"
        yield (
            f"machine during {model['name']}",
            f"others took {others} of the CPU time; a fixed piece of work varied by {was['spread']:.1%} and "
            f"slowed down by {was['slowdown']:.1%}",
        )
