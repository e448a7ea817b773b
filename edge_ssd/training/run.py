"""A training run from the addresses of its data: what `edge-ssd train` does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..datasets import open_dataset
from ..spec import SsdSpec
from .checkpoint import load_checkpoint, load_weights, read_weights
from .loop import Trainer
from .models import build_model
from .options import TrainOptions


@dataclass(frozen=True)
class RunOptions:
    """Where a run takes its data and its start from, and where it writes.

    data, split, val, val_split: see `edge_ssd.datasets.open_dataset`; no validation when `val` is empty.
    arch: see `models.ARCHITECTURES`.   out: folder of the run.
    resume: checkpoint of the run to go on with; arch and out may then be empty.
    weights: checkpoint of the same network to start from, or a file of plain weights, such as torchvision's.
    """

    data: str
    split: str = ""
    val: str = ""
    val_split: str = ""
    arch: str = ""
    out: str = ""
    resume: str = ""
    weights: str = ""

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

    Returns the run's folder and the metrics of every epoch (list of dict). Raises ValueError,
    FileNotFoundError and OSError, each in one line.
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
        model, spec = _resumed_model(run, checkpoint, train_set.class_names)
    else:
        model = build_model(run.arch, len(train_set.class_names) + 1)
        spec = model.spec(train_set.class_names, options.priors)
    if run.weights:
        load_weights(model, read_weights(run.weights), run.weights)
    trainer = Trainer(model, spec, train_set, val_set, options, run.folder)
    if checkpoint:
        trainer.resume(checkpoint)
    return run.folder, trainer.run()


def _train_options(checkpoint, given):
    stored = checkpoint.get("training", {}) if checkpoint else {}
    return replace(TrainOptions(**stored), **given)


def _resumed_model(run, checkpoint, class_names):
    if run.arch and run.arch != checkpoint["arch"]:
        raise ValueError(f"arch: {run.resume} holds {checkpoint['arch']}, got {run.arch}; leave --arch out")
    spec = SsdSpec.from_json(checkpoint["spec"])
    if spec.class_names != tuple(class_names):
        raise ValueError(
            f"{run.resume} was trained on the classes {', '.join(spec.class_names)}; "
            f"{run.data} has {', '.join(class_names)}"
        )
    return build_model(checkpoint["arch"], spec.num_columns, **checkpoint["options"]), spec
