"""A training run from the addresses of its data: what `edge-ssd train` does."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..datasets import Dataset, open_dataset
from ..evaluation.report import load_coco_scorer
from ..files.terminal import one_line
from ..networks.checkpoint import load_checkpoint
from .distributed import leave_processes
from .history import read_metrics
from .loop import Trainer, lacks_validation
from .options import RunOptions, TrainOptions
from .start import new_model, resumed_model

# Fields of RunOptions that a checkpoint keeps.
_ORIGIN = ("data", "split", "val", "val_split")


def train(run: RunOptions, given: Mapping[str, Any] | None = None) -> tuple[Path, list[dict[str, Any]]]:
    """Trains, or goes on with training.

    run: RunOptions.   given: fields of TrainOptions that differ from the defaults, or from those of the
    run that is resumed.

    Of several processes (see `distributed`) each calls it, with the same arguments.

    Returns the run's folder and the metrics of every epoch, list of dict, empty but in the first process.
    Raises ValueError, FileNotFoundError and OSError, each in one line.
    """
    checkpoint = load_checkpoint(run.resume, run.trust_checkpoint) if run.resume else None
    options = _train_options(checkpoint, given or {})
    history: list[dict[str, Any]] = []
    if checkpoint:
        run = _with_origin(run, checkpoint)
        history = read_metrics(Path(run.resume).with_name("metrics.jsonl"), checkpoint.get("epoch", 0))
        _check_resumed(run, checkpoint, options, history)
    elif (run.folder / "last.pt").exists():
        raise ValueError(
            f"out: {run.folder} holds a run already. Go on with it: edge-ssd train --resume {run.folder / 'last.pt'}, "
            "or take another --out"
        )
    if options.threads:
        torch.set_num_threads(options.threads)
    train_set, val_set = _open_data(run)
    torch.manual_seed(options.seed)
    if checkpoint:
        priors = (given or {}).get("priors", "")
        model, spec = resumed_model(run, checkpoint, train_set.class_names, priors)
    else:
        model, spec = new_model(run, options, train_set.class_names)
    try:
        origin = {name: getattr(run, name) for name in _ORIGIN}
        trainer = Trainer(model, spec, train_set, val_set, options, run.folder, origin=origin)
        if checkpoint:
            trainer.resume(checkpoint, history)
        return run.folder, trainer.run()
    finally:
        leave_processes()


def _with_origin(run: RunOptions, checkpoint: Mapping[str, Any]) -> RunOptions:
    """The RunOptions with the data of the run to resume where none are given."""
    stored = checkpoint.get("origin", {})
    if run.data and run.data != stored.get("data", run.data):
        stored = {}  # other data: their lists are others, too
    return replace(
        run, **{name: stored[name] for name in _ORIGIN if name in stored and not getattr(run, name)}
    )


def _check_resumed(
    run: RunOptions,
    checkpoint: Mapping[str, Any],
    options: TrainOptions,
    history: Sequence[Mapping[str, Any]],
) -> None:
    if not run.data:
        raise ValueError("data: missing; this checkpoint does not say what it was trained on: --data D")
    is_done = checkpoint.get("epoch", 0) >= options.epochs
    if is_done and not (
        run.val and "training" in checkpoint and lacks_validation(checkpoint, options, history)
    ):
        raise ValueError(f"epochs: the run has {checkpoint['epoch']} already; --epochs is how many in all")
    if not run.val and any("AP" in metrics for metrics in history):
        raise ValueError("val: the run chose its best.pt by AP; without --val it would be chosen by the loss")


def _open_data(run: RunOptions) -> tuple[Dataset, Dataset | None]:
    """The data sets to train on and, or None, to validate on, checked."""
    train_set = open_dataset(run.data, run.split)
    _say_remarks(train_set)
    if not run.val:
        return train_set, None
    load_coco_scorer()  # what is missing is said before the first epoch
    val_set = open_dataset(run.val, run.val_split, train_set.class_names)
    _say_remarks(val_set)
    names, val_names = ({s.image_name(i) for i in range(len(s))} for s in (train_set, val_set))
    if common := names & val_names:
        raise ValueError(
            f"val: {len(common)} of its {len(val_names)} images are trained on, such as {min(common)}; "
            "give --split and --val-split, or other data"
        )
    return train_set, val_set


def _say_remarks(dataset: Dataset) -> None:
    """Raises ValueError for what is wrong with a data set; prints what only people can judge."""
    for remark in dataset.check() or ():
        if os.environ.get("RANK", "0") == "0":  # torchrun's name for one of several processes
            print(f"remark: {one_line(remark)}", file=sys.stderr)


def _train_options(checkpoint: Mapping[str, Any] | None, given: Mapping[str, Any]) -> TrainOptions:
    stored = checkpoint.get("training", {}) if checkpoint else {}
    try:
        options = TrainOptions(**stored)
    except TypeError as error:
        raise ValueError(f"resume: the run was made by another version of edge_ssd ({error})") from None
    return replace(options, **given)
