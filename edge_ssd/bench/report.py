"""The whole benchmark as one dict: what the JSON holds and the page shows."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from ..files import StrPath, replacing
from ..files.json_fields import read_json
from ..files.terminal import joined, short_name
from ..machine.facts import machine_facts
from ..priors import make_priors
from ..spec import SsdSpec
from .disturbance import Verdict
from .flops import giga_multiply_adds
from .published import MLPERF_ORIN, PUBLISHED, TITAN_X, baselines

SCHEMA = "edge_ssd.bench/1"
SCHEMA_FILE = Path(__file__).with_name("bench.schema.json")


def new_report(settings: dict[str, Any]) -> dict[str, Any]:
    """A report without models. settings: dict of what was asked for."""
    return {
        "schema": SCHEMA,
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine_facts(),
        "settings": settings,
        "models": [],
        "published": {
            "gpu": TITAN_X,
            "detectors": [published._asdict() for published in PUBLISHED],
            "mlperf": MLPERF_ORIN,
        },
    }


def add_model(
    report: dict[str, Any],
    model: StrPath,
    is_random: bool,
    rows: list[dict[str, Any]],
    verdict: Verdict,
    trusted: bool = False,
) -> None:
    """Adds what `measure` gave of one model file (its spec lies beside it, or in it).

    is_random: whether its weights are.   trusted: of a checkpoint, see `load_checkpoint`.
    """
    spec = _spec_of(Path(model), trusted)
    num_priors = len(make_priors(spec))
    gflops = giga_multiply_adds(model) if Path(model).suffix == ".onnx" else None
    report["models"].append(
        {
            "name": Path(model).stem,
            "network": spec.name,
            "file": Path(model).name,
            "random_weights": is_random,
            "input": [spec.input.height, spec.input.width],
            "priors": num_priors,
            "columns": spec.num_columns,
            "gflops": gflops,
            "titan_x_fps": list(baselines(num_priors, gflops)),
            "rows": rows,
            "machine_was": {**verdict._asdict(), "remarks": list(verdict.remarks)},
        }
    )


def write_json(report: dict[str, Any], path: StrPath) -> None:
    """Writes the report as a whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def read_report(path: StrPath) -> dict[str, Any]:
    """A report from a file. Raises FileNotFoundError, or ValueError for another kind of file."""
    report = read_json(path)
    if not isinstance(report, dict) or report.get("schema") != SCHEMA:
        raise ValueError(f"{path}: no report of edge-ssd bench (its schema is not {SCHEMA})")
    return report


def text_of(report: dict[str, Any]) -> str:
    """The report as tables for a terminal."""
    machine = report["machine"]
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores; {machine['gpu'] or 'no GPU'}; commit {machine['commit']}"
    ]
    for model in report["models"]:
        lines += ["", model_title(model)]
        lines.append(
            f"  {'':42s}{'FPS':>9s}{'network':>9s}{'of it':>7s}{'age p50':>9s}{'p99 ms':>9s}  Titan X"
        )
        lines += [_row_text(row, model) for row in model["rows"]]
        lines += [f"  {remark}" for remark in model["machine_was"]["remarks"]]
    return "\n".join(lines)


def model_title(model: dict[str, Any]) -> str:
    """One line about a network."""
    height, width = model["input"]
    network = "" if model["network"] == model["name"] else f" ({short_name(model['network'])})"
    parts = [f"{short_name(model['name'])}{network}", f"{width}x{height}", f"{model['priors']} default boxes"]
    if model["gflops"]:
        parts.append(f"{model['gflops']:.3g} GFLOPs")
    if model["random_weights"]:
        parts.append("random weights")
    return ", ".join(parts)


def row_name(row: dict[str, Any]) -> str:
    """Name, precision and batch of a row."""
    return f"{short_name(row['name'])}, {row['precision']}" + (
        f", batch {row['batch']}" if row["batch"] > 1 else ""
    )


def ratios(row: dict[str, Any], model: dict[str, Any]) -> list[float]:
    """FPS of a row by each Titan X figure of its network."""
    return [row["fps"]["median"] / published for published in model["titan_x_fps"]]


def _row_text(row: dict[str, Any], model: dict[str, Any]) -> str:
    if row["status"] != "ok":
        return f"  {row_name(row):42s} {joined(row['reason'])}"
    network, share = row["network_fps"], row["of_network"]
    age = row["stage_ms"]["age"]
    figures = f"{row['fps']['median']:9.1f}"
    figures += f"{network['median']:9.1f}{share:7.2f}" if network else f"{'-':>9s}{'-':>7s}"
    figures += f"{age['p50']:9.2f}{age['p99']:9.2f}"
    published = ", ".join(
        f"{ratio:.2f}x {fps}" for ratio, fps in zip(ratios(row, model), model["titan_x_fps"])
    )
    return f"  {row_name(row):42s}{figures}  {published}"


def _spec_of(path: Path, trusted: bool) -> SsdSpec:
    if path.suffix == ".pt":
        from ..networks.checkpoint import load_model

        return load_model(path, trusted)[1]
    if path.suffix == ".engine":
        from ..model_files.manifest import read_manifest

        return read_manifest(path).spec
    return SsdSpec.load(path.with_suffix(".json"))
