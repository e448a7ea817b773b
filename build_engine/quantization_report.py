"""The quantization report of an INT8 build: what was measured, on which images, and what was done about it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx
import onnxruntime

from ..datasets import open_dataset
from ..detector import Detector
from ..evaluation import evaluate
from ..files import StrPath, replacing
from ..machine.cpu import cpu_name, usable_cores
from ..spec import SsdSpec
from .calibration import Table
from .options import BuildOptions
from .sensitivity import Layer
from .times import time_files

FORMAT = "edge_ssd-receipt/1"

# Of the time above; less may be noise.
_SLOWER = 1.05


class Evaluator:
    """AP of ONNX files on the images of one data set.

    address, split: of the data set.   threads: of the CPU, 0: all cores.   progress: whether to show a bar.
    Raises ValueError when the data set has nothing to find.
    """

    def __init__(self, address: str, split: str = "", threads: int = 0, progress: bool = True) -> None:
        self.dataset = open_dataset(address, split)
        self._threads, self._progress = threads, progress

    def __call__(self, path: StrPath) -> dict[str, Any]:
        """The report of `evaluate` on a model file, with the thresholds of its spec."""
        with Detector.load(
            path, score_threshold=None, threads=self._threads, engine="onnxruntime"
        ) as detector:
            report = evaluate(detector.detect, self.dataset, detector.class_names, self._progress)
        if report["AP"] is None:
            raise ValueError(
                f"{self.dataset.address}: no box to find in {report['images']} images; AP has no value"
            )
        return report


def row(precision: str, path: StrPath, report: Mapping[str, Any], reference_ap: float) -> dict[str, Any]:
    """One precision of the report; AP in points, 0..100.

    report: of Evaluator.   reference_ap: AP of FP32, 0..1.
    """
    return {
        "precision": precision,
        "file": Path(path).name,
        "bytes": Path(path).stat().st_size,
        "AP": 100 * report["AP"],
        "AP50": 100 * report["AP50"],
        "drop": 100 * (reference_ap - report["AP"]),
        "classes": {
            name: None if values["AP"] is None else 100 * values["AP"]
            for name, values in report["classes"].items()
        },
        "times_ms": {},
        "not_recommended": [],
    }


def add_times(
    rows: Sequence[dict[str, Any]], paths: Sequence[Path], spec: SsdSpec, runtime: str, threads: int = 0
) -> None:
    """Fills in the times of each row, and the engines in which it is more than 5 % slower than the row above it.

    paths: of the rows' files, in the same order.   runtime: of the build.
    """
    for engine, by_path in time_files(paths, spec, runtime, threads).items():
        above = None
        for entry, path in zip(rows, paths):
            if path not in by_path:
                continue
            spent_ms = entry["times_ms"][engine] = by_path[path]
            if above is not None and spent_ms > _SLOWER * above:
                entry["not_recommended"].append(engine)
            above = spent_ms


def compose(
    rows: Sequence[dict[str, Any]],
    table: Table,
    layers: Sequence[Layer],
    search: Sequence[tuple[int, float]],
    kept: Sequence[str],
    options: BuildOptions,
) -> dict[str, Any]:
    """The report as a dictionary that JSON can hold.

    rows: of `row`.   table: the calibration Table.   layers: Layers.   search: [(number kept, loss)].
    kept: names of the convolutions that stay FP16.   options: BuildOptions.
    """
    last, budget = rows[-1], options.max_drop
    holds = budget is None or last["drop"] <= budget
    return {
        "format": FORMAT,
        "model": Path(options.model).name,
        "source_sha256": table.onnx_sha256,
        "command": options.command(),
        "data": {"address": options.data, "split": options.split},
        "calibration": {
            "address": table.data,
            "images": table.images,
            "method": table.method,
            "sha256": table.sha256,
        },
        "max_drop": budget,
        "holds": holds,
        "verdict": _verdict(last, budget, holds, kept, layers),
        "precisions": rows,
        "kept_fp16": list(kept),
        "layers": [{**asdict(layer), "kept": layer.name in kept} for layer in layers],
        "search": [{"kept": count, "drop": loss} for count, loss in search],
        "machine": {
            "cpu": cpu_name(),
            "cores": usable_cores(),
            "onnxruntime": onnxruntime.__version__,
            "onnx": onnx.__version__,
        },
    }


def _verdict(
    last: dict[str, Any], budget: float | None, holds: bool, kept: Sequence[str], layers: Sequence[Layer]
) -> str:
    lost = f"INT8 loses {last['drop']:.2f} AP points"
    if last["drop"] < 0:
        lost = f"INT8 gains {-last['drop']:.2f} AP points"
    beside = (
        f"with {len(kept)} of {len(layers)} convolutions kept in FP16"
        if kept
        else "with every convolution in INT8"
    )
    if budget is None:
        return f"{lost} {beside}; no budget was given."
    if holds:
        return f"{lost} {beside}; the budget of {budget:g} holds."
    if len(kept) == len(layers):
        return (
            f"{lost} even {beside}; the budget of {budget:g} cannot hold. "
            "What is lost is not lost by the convolutions: look at FP16, and at the calibration images."
        )
    return f"{lost} {beside}; the budget of {budget:g} does not hold."


def write(report: dict[str, Any], path: StrPath) -> Path:
    """Writes F.report.json and the page F.report.html beside it, each as a whole or not at all.

    path: of the .json file. Returns the path of the page.
    """
    from .report_html import page

    path = Path(path)
    for target, text in (
        (path, json.dumps(report, indent=2, ensure_ascii=False) + "\n"),
        (path.with_suffix(".html"), page(report)),
    ):
        with replacing(target) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return path.with_suffix(".html")
