"""The metrics of a run: one JSON line per epoch, and a picture of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from .. import limits
from ..files import StrPath, read_file, replacing
from ..files.json_fields import parse_json
from ..files.plot_file import plot_file

# What the log and the picture show of each epoch, and of those that were validated.
_NUMBERS = ("loss", "loss_loc", "loss_conf", "images_per_s", "train_s")
_SCORES = ("AP", "AP50", "val_s")


def read_metrics(path: Path, before_epoch: int) -> list[dict[str, Any]]:
    """The epochs 1 to `before_epoch` in the file `path`, list of dict; empty when there is no file.

    What a resumed run does again is left out, and so is a line that holds no metrics, such as one that was cut off.
    Raises ValueError for a file that cannot be one of metrics.
    """
    if not path.is_file():
        return []
    epochs = []
    for line in read_file(path, limits.MOST_JSON_BYTES).decode("utf-8", errors="replace").splitlines():
        try:
            metrics = parse_json(line)
        except ValueError:
            continue
        if is_metrics(metrics) and metrics["epoch"] <= before_epoch:
            epochs.append(metrics)
    return epochs


def is_metrics(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether a value is what a run notes of an epoch."""
    return (
        isinstance(value, dict)
        and type(value.get("epoch")) is int
        and all(type(value.get(name)) in (int, float) for name in _NUMBERS)
        and all(type(value[name]) in (int, float) for name in _SCORES if name in value)
        and ("AP" in value) == ("AP50" in value)
    )


def write_metrics(path: StrPath, history: Sequence[Mapping[str, Any]]) -> None:
    """Writes one JSON line per epoch to `path`.   history: the metrics of each."""
    with replacing(path) as temporary:
        temporary.write_text("".join(json.dumps(metrics) + "\n" for metrics in history), encoding="utf-8")


def epoch_text(metrics: Mapping[str, Any], epochs: int) -> str:
    """One line about an epoch, for a log.   metrics: of the epoch.   epochs: of the whole run."""
    text = f"epoch {metrics['epoch']}/{epochs}: loss {metrics['loss']:.3f}"
    if "AP" in metrics:
        text += f", AP {metrics['AP']:.3f}, AP50 {metrics['AP50']:.3f}"
    return f"{text}; {metrics['images_per_s']:.1f} images/s, {metrics['train_s'] + metrics.get('val_s', 0):.0f} s"


def plot_history(history: Sequence[Mapping[str, Any]], path: StrPath) -> None:
    """Draws loss and AP over the epochs into the PNG `path`."""
    with plot_file(path, dpi=100, figsize=(8, 4), layout="tight") as figure:
        loss_axes, ap_axes = figure.subplots(1, 2)
        for name in ("loss", "loss_loc", "loss_conf"):
            loss_axes.plot([m["epoch"] for m in history], [m[name] for m in history], label=name)
        validated = [m for m in history if "AP" in m]
        for name in ("AP", "AP50"):
            ap_axes.plot(
                [m["epoch"] for m in validated], [m[name] for m in validated], label=name, marker="."
            )
        for axes, title in ((loss_axes, "training loss"), (ap_axes, "validation")):
            axes.set(title=title, xlabel="epoch", ylim=(0, None))
            axes.grid(alpha=0.3)
            axes.legend()
