"""The quantization report as one page that needs nothing else: no script, no font, no file beside it.

Its bars are SVG by hand rather than matplotlib's: a build on a Jetson installs the extra `build`, which has no
matplotlib. As part of the page their text can be searched, follows its light and dark colors, and is the same to the
byte in every version of every library, so that a test can hold the committed example to what the code writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from ..files import html

# Bars of the plot; further layers are in the .json file.
_MOST_BARS = 40

_COLORS = {
    "first": "#4c78a8",
    "head": "#f58518",
    "depthwise": "#54a24b",
    "squeeze-excite": "#b279a2",
    "after L2 norm": "#e45756",
    "other": "#9aa0a6",
}


def page(report: dict[str, Any]) -> str:
    """The report of `edge_ssd.build_engine.quantization_report` as HTML text."""
    title = f"INT8 quantization report of {report['model']}"
    parts = [
        f'<p class="verdict{"" if report["holds"] else " broken"}">{escape(report["verdict"])}</p>',
        "<h2>Precision, accuracy, size, time</h2>",
        _precisions(report["precisions"]),
        f"<p><small>AP is COCO's, in points, on {escape(report['data']['address'])}"
        f"{escape(_split(report['data']['split']))}; measured through ONNX Runtime. Times are medians of one image "
        "in the network alone, all files by turns. Not recommended: more than 5 % slower there than the precision "
        "above.</small></p>",
        "<h2>AP of each class</h2>",
        _classes(report["precisions"]),
        "<h2>What each convolution costs in INT8</h2>",
        _plot(report["layers"]),
        _search(report["search"], report["max_drop"]),
        "<h2>Where this comes from</h2>",
        _origin(report),
    ]
    return html.page(title, parts)


def _split(split: str) -> str:
    return f", split {split}" if split else ""


def _precisions(rows: Sequence[dict[str, Any]]) -> str:
    engines = list(dict.fromkeys(engine for row in rows for engine in row["times_ms"]))
    head = [
        "precision",
        "AP",
        "AP50",
        "lost",
        "size",
        *(f'<div class="engine">{escape(e)}</div>' for e in engines),
    ]
    return html.table(
        head,
        [
            [
                f"{row['precision'].upper()}<br><small>{escape(row['file'])}</small>",
                f"{row['AP']:.2f}",
                f"{row['AP50']:.2f}",
                "" if row is rows[0] else f"{row['drop']:.2f}",
                f"{row['bytes'] / 2**20:.1f} MiB",
                *(_time(row, engine) for engine in engines),
            ]
            for row in rows
        ],
    )


def _time(row: dict[str, Any], engine: str) -> str:
    if engine not in row["times_ms"]:
        return "-"
    slow = '<span class="slow">not recommended</span>' if engine in row["not_recommended"] else ""
    return f"{row['times_ms'][engine]:.1f} ms{slow}"


def _classes(rows: Sequence[dict[str, Any]]) -> str:
    names = [name for name, ap in rows[0]["classes"].items() if ap is not None]
    head = ["class", *(row["precision"].upper() for row in rows), "lost by INT8"]
    return html.table(
        head,
        [
            [
                escape(name),
                *(f"{row['classes'][name]:.2f}" for row in rows),
                f"{rows[0]['classes'][name] - rows[-1]['classes'][name]:.2f}",
            ]
            for name in names
        ],
    )


def _plot(layers: Sequence[dict[str, Any]]) -> str:
    """Horizontal bars: by how much the error of the heads falls when one layer alone stays in float."""
    shown = layers[:_MOST_BARS]
    if not shown:
        return "<p>There is no convolution to quantise.</p>"
    left, width, step = 260, 560, 18
    largest = max(max(abs(layer["gain"]) for layer in shown), 1e-9)
    zero = left + (width * 0.25 if min(layer["gain"] for layer in shown) < 0 else 0)
    scale = (left + width - zero) / largest
    height = step * len(shown) + 30
    marks = [
        f'<svg viewBox="0 0 {left + width + 90} {height}" width="{left + width + 90}" role="img" '
        'aria-label="gain of each layer when it is not quantised">'
    ]
    for i, layer in enumerate(shown):
        y, length = 4 + i * step, layer["gain"] * scale
        start = zero + min(0, max(length, left - zero))
        kept = " (kept in FP16)" if layer["kept"] else ""
        label = layer["name"] if len(layer["name"]) <= 34 else "..." + layer["name"][-31:]
        marks.append(
            f'<text x="{left - 8}" y="{y + 12}" text-anchor="end"{_bold(kept)}>{escape(label)}</text>'
            f'<rect x="{start:.1f}" y="{y + 2}" width="{max(min(abs(length), width), 0.5):.1f}" height="{step - 5}" '
            f'fill="{_COLORS[layer["kind"]]}"><title>{escape(layer["name"])}: {escape(layer["kind"])}</title></rect>'
            f'<text x="{max(zero, zero + length) + 6:.1f}" y="{y + 12}"{_bold(kept)}>'
            f"{100 * layer['gain']:.1f} %{kept}</text>"
        )
    marks.append(f'<line x1="{zero}" x2="{zero}" y1="0" y2="{height - 26}" stroke="currentColor"/></svg>')
    kinds = dict.fromkeys(layer["kind"] for layer in shown)
    legend = " ".join(f'<span style="color:{_COLORS[kind]}">&#9632;</span> {escape(kind)}' for kind in kinds)
    rest = "" if len(layers) <= _MOST_BARS else f" The {_MOST_BARS} first of {len(layers)} are shown."
    return (
        f"<p>{legend}</p>\n"
        + "\n".join(marks)
        + "\n<p><small>Share of the error of the raw heads that goes away when "
        f"this convolution alone is not quantised; below zero, the error grows.{rest}</small></p>"
    )


def _bold(kept: str) -> str:
    return ' font-weight="600"' if kept else ""


def _search(search: Sequence[dict[str, Any]], budget: float | None) -> str:
    if budget is None or len(search) < 2:
        return ""
    tried = "; ".join(f"{entry['kept']} kept: {entry['drop']:.2f} points lost" for entry in search)
    return f"<p>Tried, in this order: {escape(tried)}. Budget: {budget:g} points.</p>"


def _origin(report: dict[str, Any]) -> str:
    calibration, machine = report["calibration"], report["machine"]
    entries = {
        "Calibration": f"{calibration['images']} images of {calibration['address']}, {calibration['method']}",
        "Calibration hash": calibration["sha256"],
        "Model hash": report["source_sha256"],
        "Machine": f"{machine['cpu']}, {machine['cores']} cores; ONNX Runtime {machine['onnxruntime']}, "
        f"onnx {machine['onnx']}",
        "Command": report["command"],
    }
    return html.facts(entries.items())
