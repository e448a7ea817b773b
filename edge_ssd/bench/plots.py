"""The pictures of a report: frame rates against the Titan X, stages, latencies, frame rate over time."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from ..files.plot_file import plain_text
from .report import model_title, row_name

_STAGES = ("capture", "preprocess", "infer", "postprocess")
_OURS, _PEERS, _NETWORK, _PAPER = "#4c78a8", "#9aa0a6", "#c6d4e6", "#e45756"
_STAGE_COLORS = ("#9aa0a6", "#f58518", "#4c78a8", "#54a24b")


def pictures(model: dict[str, Any]) -> dict[str, bytes]:
    """{name: PNG bytes} for one model of a report; {} when nothing of it was measured."""
    rows = [row for row in model["rows"] if row["status"] == "ok"]
    if not rows:
        return {}
    return {
        "fps": _png(_draw_fps, model, rows),
        "stages": _png(_draw_stages, model, rows),
        "latency": _png(_draw_latency, model, rows),
        "time": _png(_draw_time, model, rows),
    }


def _png(draw: Callable[..., None], model: dict[str, Any], rows: list[dict[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    with plain_text():
        figure = Figure(figsize=(10, 1.8 + 0.42 * max(len(rows), 5)), layout="constrained")
        axes = figure.subplots()
        draw(axes, rows, model)
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
        figure.legend(loc="outside lower center", ncols=4, fontsize=8)  # beside the bars, never over them
        figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def _draw_fps(axes: Axes, rows: list[dict[str, Any]], model: dict[str, Any]) -> None:
    """Bars of frames per second, the network alone behind them; lines where the Titan X was."""
    places = range(len(rows))
    alone = [row["network_fps"]["median"] if row["network_fps"] else 0 for row in rows]
    axes.barh(places, alone, 0.8, color=_NETWORK, label="network alone")
    whole = [row["fps"]["median"] for row in rows]
    errors = [
        [row["fps"]["median"] - row["fps"]["low"] for row in rows],
        [row["fps"]["high"] - row["fps"]["median"] for row in rows],
    ]
    colors = [_OURS if row["kind"] == "edge_ssd" else _PEERS for row in rows]
    axes.barh(places, whole, 0.5, color=colors, xerr=errors, label="camera to detections")
    for place, row in zip(places, rows):
        axes.annotate(
            f" {row['fps']['median']:.1f}", (max(alone[place], row["fps"]["high"]), place), va="center"
        )
    for i, fps in enumerate(sorted(model["titan_x_fps"])):
        axes.axvline(fps, color=_PAPER, linestyle="--", linewidth=1)
        raised = 2 + 11 * (i % 2)  # 58 and 59 lie side by side
        axes.annotate(
            f"{fps}",
            (fps, 1.0),
            (0, raised),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            color=_PAPER,
            ha="center",
        )
    axes.margins(x=0.1)  # for the numbers behind the longest bar
    dashes = "; dashed: the paper's, on a Titan X" if model["titan_x_fps"] else ""
    _name_rows(axes, rows)
    axes.set_xlabel(f"frames per second (bars: median, 10th to 90th percentile of the turns{dashes})")
    axes.figure.suptitle(model_title(model))


def _draw_stages(axes: Axes, rows: list[dict[str, Any]], model: dict[str, Any]) -> None:
    """Median milliseconds of each stage, one behind the other."""
    starts = [0.0] * len(rows)
    for stage, color in zip(_STAGES, _STAGE_COLORS):
        widths = [row["stage_ms"].get(stage, {"p50": 0})["p50"] for row in rows]
        axes.barh(range(len(rows)), widths, 0.6, left=starts, color=color, label=stage)
        starts = [start + width for start, width in zip(starts, widths)]
    _name_rows(axes, rows)
    axes.set_xlabel("milliseconds per call (medians of the stages)")


def _draw_latency(axes: Axes, rows: list[dict[str, Any]], model: dict[str, Any]) -> None:
    """How often a frame was how old at its detections, all but the slowest hundredth."""
    for row in rows:
        counts, edges = row["histogram_ms"]["counts"], row["histogram_ms"]["edges"]
        total = sum(counts) or 1
        axes.stairs(
            [count / total for count in counts], edges, label=row_name(row), linestyle=_line_style(row)
        )
    axes.set(
        xlabel="age of a frame at its detections, milliseconds", ylabel="share of the frames", xscale="log"
    )
    _plain_numbers(axes.xaxis)


def _draw_time(axes: Axes, rows: list[dict[str, Any]], model: dict[str, Any]) -> None:
    """Frames per second of each turn."""
    for row in rows:
        seconds, fps = zip(*row["fps_over_time"])
        axes.plot(seconds, fps, marker=".", label=row_name(row), linestyle=_line_style(row))
    axes.set(xlabel="seconds since the start", ylabel="frames per second", yscale="log")
    _plain_numbers(axes.yaxis)


def _plain_numbers(axis: Axis) -> None:
    """20, not 2 x 10^1, on a logarithmic axis."""
    for set_formatter in (axis.set_major_formatter, axis.set_minor_formatter):
        set_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _line_style(row: dict[str, Any]) -> str:
    return "-" if row["kind"] == "edge_ssd" else ":"


def _name_rows(axes: Axes, rows: list[dict[str, Any]]) -> None:
    axes.set_yticks(range(len(rows)), [row_name(row) for row in rows])
    axes.invert_yaxis()
