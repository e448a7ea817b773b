"""Two reports of the same machine: what got slower."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from .report import row_name

_STAGES = ("preprocess", "infer", "postprocess", "frame")


class Change(NamedTuple):
    """One figure of one row in both reports. ratio: after by before, of a frame rate.   is_noise: the two spreads of
    turns overlap.   stages: {stage: median milliseconds after by before}."""

    model: str
    row: str
    before: float
    after: float
    ratio: float
    is_noise: bool
    stages: dict[str, float]


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[Change]:
    """Changes of all rows that both reports measured, slowest first. Raises ValueError when there is none.

    before, after: reports as `read_report` gives them.
    """
    old, new = _rows(before), _rows(after)
    found = [_change(key, old[key], new[key]) for key in old if key in new]
    if not found:
        raise ValueError("the two reports have no row in common")
    return sorted(found, key=lambda change: change.ratio)


def lost_rows(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Names of rows that were measured before and are not any more."""
    kept = _rows(after)
    return [f"{model}: {row}" for model, row in _rows(before) if (model, row) not in kept]


def slower(found: Sequence[Change], threshold: float) -> list[Change]:
    """Those of the Changes whose frame rate fell by more than `threshold` (0.1: a tenth), beyond the noise."""
    return [change for change in found if change.ratio < 1 - threshold and not change.is_noise]


def comparable(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    """Sentences on why the figures may not be comparable; empty when nothing speaks against it."""
    for key in ("cpu", "cores", "gpu", "power_mode", "clock_governor"):
        if before["machine"][key] != after["machine"][key]:
            yield f"{key}: {before['machine'][key]!r} before, {after['machine'][key]!r} after"
    for key in ("source", "image_size", "threads", "score_threshold"):
        if before["settings"][key] != after["settings"][key]:
            yield f"{key}: {before['settings'][key]!r} before, {after['settings'][key]!r} after"
    for when, report in (("before", before), ("after", after)):
        for model in report["models"]:
            for remark in model["machine_was"]["remarks"]:
                yield f"{when}, {model['name']}: {remark}"


def _rows(report: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (model["name"], row_name(row)): row
        for model in report["models"]
        for row in model["rows"]
        if row["status"] == "ok"
    }


def _change(key: tuple[str, str], old: dict[str, Any], new: dict[str, Any]) -> Change:
    stages = {
        stage: new["stage_ms"][stage]["p50"] / old["stage_ms"][stage]["p50"]
        for stage in _STAGES
        if stage in old["stage_ms"] and stage in new["stage_ms"] and old["stage_ms"][stage]["p50"]
    }
    before, after = old["fps"], new["fps"]
    overlap = before["low"] <= after["high"] and after["low"] <= before["high"]
    return Change(
        *key, before["median"], after["median"], after["median"] / before["median"], overlap, stages
    )
