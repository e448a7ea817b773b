"""A training run from the addresses of its data: what `edge-ssd train` does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..datasets import open_dataset
from .checkpoint import load_checkpoint
from .distributed import leave_processes
from .loop import Trainer
from .options import TrainOptions
from .start import new_model, resumed_model


@dataclass(frozen=True)
class RunOptions:
    """Where a run takes its data and its start from, and where it writes.

    data, split, val, val_split: see `edge_ssd.datasets.open_dataset`; no validation when `val` is empty.
    arch: see `models.ARCHITECTURES`.   out: folder of the run.
    input_size: side of the network's square input, or "HEIGHTxWIDTH"; finest_stride, neck: see
    `models.build_model`; empty and 0 take the architecture's own.
    resume: checkpoint of the run to go on with; arch, out and the three before may then be empty.
    weights: checkpoint of the same network to start from, of any input size and classes, or a file of plain
    weights, such as torchvision's.   base_weights: torchvision's classifier; see `base_weights`.
    """

    data: str
    split: str = ""
    val: str = ""
    val_split: str = ""
    arch: str = ""
    out: str = ""
    input_size: str = ""
    finest_stride: int = 0
    neck: str = ""
    resume: str = ""
    weights: str = ""
    base_weights: str = ""

    def __post_init__(self):
        for name in ("arch", "out"):
            if not getattr(self, name) and not self.resume:
                raise ValueError(f"{name}: missing; a new run needs --{name}")

    @property
    def folder(self):
        """Path of the run's folder."""
        return Path(self.out) if self.out else Path(self.resume).parent


def train(run, given=None):
    """Trains, or goes on with training.

    run: RunOptions.   given: fields of TrainOptions that differ from the defaults, or from those of the
    run that is resumed.

    Of several processes (see `distributed`) each calls it, with the same arguments.

    Returns the run's folder and the metrics of every epoch, list of dict, empty but in the first process.
    Raises ValueError, FileNotFoundError and OSError, each in one line.
    """
    checkpoint = load_checkpoint(run.resume) if run.resume else None
    options = _train_options(checkpoint, given or {})
    if options.threads:
        torch.set_num_threads(options.threads)
    train_set = open_dataset(run.data, run.split)
    val_set = open_dataset(run.val, run.val_split, train_set.class_names) if run.val else None
    train_set.check()
    if val_set is not None:
        val_set.check()
    torch.manual_seed(options.seed)
    if checkpoint:
        model, spec = resumed_model(run, checkpoint, train_set.class_names)
    else:
        model, spec = new_model(run, options, train_set.class_names)
    try:
        trainer = Trainer(model, spec, train_set, val_set, options, run.folder)
        if checkpoint:
            trainer.resume(checkpoint)
        return run.folder, trainer.run()
    finally:
        leave_processes()


def _train_options(checkpoint, given):
    stored = checkpoint.get("training", {}) if checkpoint else {}
    return replace(TrainOptions(**stored), **given)
