"""What a training run can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..options import PRECISIONS
from .augmentation import AUGMENTATIONS
from .schedule import SCHEDULES

OPTIMIZERS = ("sgd", "adamw")


@dataclass(frozen=True)
class TrainOptions:
    """The numbers of a run; the defaults train ssd320_resnet16 from scratch.

    The paper's: optimizer sgd, lr 1e-3, weight_decay 5e-4, schedule step, background_iou 0.5.

    epochs: of epoch_images images each (0: the whole data set).   batch: images of a step.
    optimizer: sgd (with `momentum`) or adamw.   lr: peak learning rate; see `schedule.learning_rate`.
    warmup: steps over which it rises.
    weight_decay: of convolutions, not of biases and norms.   clip_norm: largest norm of the gradient.
    ema: decay of the averaged weights; 0 keeps none.   augmentation: see `augmentation.AUGMENTATIONS`.
    background_iou: a prior whose IoU with an object is between this and 0.5 is neither background nor a
        match. The paper's value is 0.5, with which hard negative mining finds the near misses of the same
        objects; 0.4 learned a little faster with the default boxes of ssd320_resnet16 (AP50 0.18 against
        0.155 after 15,000 frames), and several times as fast with sparser ones.
    priors: set of default boxes, see `networks.levels`, or a spec that has them.
    precision: of the convolutions; auto is bf16 where the processor computes in it.
    workers: processes that load images; 0 loads in the loop's own.
    threads: of torch on the CPU, 0: one per core.   val_every: epochs between two validations.
    patience: validations without a better AP (epochs without a lower loss, where there is no validation) after which
        the run stops; 0: never.   tensorboard: write losses, scores and pictures for TensorBoard too.
    batch is that of each process where torchrun started several.
    """

    epochs: int = 60
    epoch_images: int = 0
    batch: int = 16
    optimizer: str = "adamw"
    lr: float = 2e-3
    momentum: float = 0.9
    weight_decay: float = 0.02
    warmup: int = 300
    schedule: str = "cosine"
    clip_norm: float = 10.0
    ema: float = 0.998
    augmentation: str = "ssd"
    background_iou: float = 0.4
    priors: str = "coco"
    precision: str = "auto"
    workers: int = 2
    threads: int = 0
    val_every: int = 1
    patience: int = 0
    tensorboard: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            if not getattr(self, name) >= least:
                raise ValueError(f"{name}: expected at least {least}, got {getattr(self, name)}")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}: expected one of {', '.join(choices)}, got {getattr(self, name)!r}")
        if not 0 <= self.background_iou <= 0.5:
            raise ValueError(f"background_iou: expected a number from 0 to 0.5, got {self.background_iou}")
        if not 0 <= self.ema < 1 or not 0 <= self.momentum < 1:
            raise ValueError(
                f"ema, momentum: expected numbers from 0 to below 1, got {self.ema}, {self.momentum}"
            )


_LEAST = {
    "epochs": 1,
    "epoch_images": 0,
    "batch": 1,
    "lr": 0,
    "weight_decay": 0,
    "warmup": 0,
    "clip_norm": 0,
    "workers": 0,
    "threads": 0,
    "val_every": 1,
    "patience": 0,
    "seed": 0,
}
_CHOICES = {
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "augmentation": tuple(AUGMENTATIONS),
    "precision": PRECISIONS,
}


@dataclass(frozen=True)
class RunOptions:
    """Where a run takes its data and its start from, and where it writes.

    data, split, val, val_split: see `edge_ssd.datasets.open_dataset`; no validation when `val` is empty.
    arch: see `networks.ARCHITECTURES`.   out: folder of the run.
    input_size: side of the network's square input, or "HEIGHTxWIDTH"; finest_stride, neck: see
    `networks.build_model`; empty and 0 take the architecture's own.
    resume: checkpoint of the run to go on with; whatever is empty is then as it was in that run.
    weights: checkpoint of the same network to start from, of any input size and classes, a file of plain weights,
    such as torchvision's, or the name of what `edge-ssd pull` has fetched.   base_weights: torchvision's
    classifier; see `base_weights`.   trust_checkpoint: as `trusted` of `networks.checkpoint.load_checkpoint`.
    """

    data: str = ""
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
    trust_checkpoint: bool = False

    def __post_init__(self) -> None:
        for name in ("data", "arch", "out"):
            if not getattr(self, name) and not self.resume:
                raise ValueError(f"{name}: missing; a new run needs --{name}")

    @property
    def folder(self) -> Path:
        """Path of the run's folder."""
        return Path(self.out) if self.out else Path(self.resume).parent
