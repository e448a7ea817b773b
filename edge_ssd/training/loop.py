"""The training loop: epochs, a validation after each, and a checkpoint that a later run goes on from."""

from __future__ import annotations

import copy
import math
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from ..backends.cpu import CpuBackend
from ..datasets import Dataset
from ..detector import Detector
from ..engines.torch_engine import TorchEngine
from ..evaluation import evaluate
from ..files import StrPath
from ..files.only_writer import only_writer
from ..files.terminal import progress_bar, uncleaned
from ..networks.checkpoint import load_weights, save_checkpoint
from ..networks.ssd import Ssd
from ..spec import SsdSpec
from .augmentation import AUGMENTATIONS
from .board import Board
from .data import Batch, RankBatches, RoundSampler, TrainingImages, make_loader, normalise
from .distributed import Processes, join_processes
from .ema import MovingAverage
from .history import epoch_text, is_metrics, plot_history, write_metrics
from .loss import SsdLoss
from .options import TrainOptions
from .schedule import learning_rate


class Trainer:
    """One run: a network, its data and the folder that its checkpoints go to.

    model: Ssd.   spec: its SsdSpec.   train_set, val_set: see `edge_ssd.datasets`; val_set may be None.
    options: TrainOptions.   folder: made when it is not there; holds last.pt, best.pt, metrics.jsonl
    and curve.png.   processes: see `distributed`; of several, the first alone validates and writes.
    origin: a dict of plain types that goes into the checkpoints: where the data came from.

        trainer = Trainer(model, spec, train_set, val_set, options, "runs/a")
        trainer.run()
    """

    def __init__(
        self,
        model: Ssd,
        spec: SsdSpec,
        train_set: Dataset,
        val_set: Dataset | None,
        options: TrainOptions,
        folder: StrPath,
        processes: Processes | None = None,
        origin: Mapping[str, Any] | None = None,
    ) -> None:
        self.processes = processes or join_processes()
        self.spec, self.options, self.val_set = spec, options, val_set
        self.folder = Path(folder)
        self.device = self.processes.device
        # The annotations of Module.to leave out memory_format.
        self.model = model.to(self.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.network = self.processes.wrapped(self.model)
        self.loss = SsdLoss(spec, background_iou=options.background_iou, mean_matches=self._mean_matches).to(
            self.device
        )
        self.optimizer = make_optimizer(self.model, options)
        self.average = MovingAverage(self.model, options.ema) if options.ema else None
        self.train_set = train_set
        epoch_images = options.epoch_images or len(train_set)
        step_images = options.batch * self.processes.count
        if options.batch == 1 and any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
            raise ValueError("batch: expected at least 2; this network normalises over the images of a batch")
        if epoch_images < step_images:
            raise ValueError(
                f"batch: expected at most the {epoch_images} images of an epoch, got {step_images}"
            )
        self.sampler = RoundSampler(len(train_set), epoch_images, options.seed)
        images = TrainingImages(train_set, spec, AUGMENTATIONS[options.augmentation], options.seed)
        batches = RankBatches(self.sampler, options.batch, self.processes.rank, self.processes.count)
        self.loader = make_loader(images, batches, options.workers)
        self.epoch = 0
        self.history: list[dict[str, Any]] = []
        self.origin = origin or {}
        self.board: Board | None = None
        self._is_judged = True  # the last epoch: validated, where that was due
        self.autocast = _autocast(self.device, options.precision)

    def resume(self, checkpoint: Mapping[str, Any], history: Iterable[dict[str, Any]] = ()) -> None:
        """Goes on from the dictionary of `load_checkpoint`.   history: metrics of the epochs so far, list of dict.

        Raises ValueError when it is of another network or optimizer, or holds no run.
        """
        missing = [name for name in ("optimizer", "epoch", "rng", "training") if name not in checkpoint]
        if missing:
            raise ValueError(
                f"resume: the checkpoint holds no run, only weights ({', '.join(missing)} missing)"
            )
        if checkpoint["training"]["optimizer"] != self.options.optimizer:
            raise ValueError(
                f"optimizer: the run to resume has {checkpoint['training']['optimizer']}, got {self.options.optimizer}"
            )
        load_weights(self.model, checkpoint["model"], "resume")
        try:
            self.optimizer.load_state_dict(checkpoint["optimizer"])
            if self.average is not None and checkpoint["ema"] is not None:
                self.average.load(checkpoint["ema"], checkpoint["ema_steps"])
            torch.set_rng_state(checkpoint["rng"])
        except MemoryError:
            raise
        except Exception as error:  # torch trusts these states
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ValueError(f"resume: the state of the run is damaged ({reason})") from None
        self.epoch = checkpoint["epoch"]
        self.history = list(history)
        metrics = checkpoint.get("metrics")  # killed before they were written
        if is_metrics(metrics) and metrics["epoch"] == self.epoch and not _of_epoch(self.history, self.epoch):
            self.history.append(metrics)
        self._is_judged = self.val_set is None or not lacks_validation(checkpoint, self.options, self.history)

    def run(self) -> list[dict[str, Any]]:
        """Trains to the last epoch, or until it gets no better; returns the metrics of every epoch, list of dict,
        empty but in the first of several processes.

        A resumed run first validates its last epoch, where that was due and was not done.
        Raises ValueError when the loss is no longer a number, naming the images of the batch, and when another training
        is writing to the same folder.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.processes.is_first:
            return self._run([])
        with only_writer(
            self.folder / "last.pt", "another training is writing this run", "take another --out"
        ):
            if self.options.tensorboard:
                self.board = Board(self.folder / "tensorboard")
            history = self._run(self.history)
            if self.board:
                self.board.close()
        return history

    def _run(self, history: list[dict[str, Any]]) -> list[dict[str, Any]]:
        stops = False
        if not self._is_judged:
            if self.processes.is_first and history:
                metrics = history.pop()
                self._judge_epoch(metrics, history)
                self._log_epoch(metrics, history)
            stops = self.processes.agreed(self._stops(history))
        while self.epoch < self.options.epochs and not stops:
            metrics = self._train_epoch()
            self.epoch += 1
            if self.processes.is_first:
                self._end_epoch(metrics, history)
            stops = self.processes.agreed(self._stops(history))
        return history

    def _end_epoch(self, metrics: dict[str, Any], history: list[dict[str, Any]]) -> None:
        """Writes what an epoch leaves, and validates; its metrics go to the end of `history`.

        What was trained is written first: whatever goes wrong in a validation, the epoch is not lost, and a resumed run
        validates it. Without validation best.pt comes before last.pt: an epoch that is in last.pt is not judged again.
        """
        if self.val_set is None and self._improves(metrics, history):
            self._save("best.pt", metrics)
        self._save("last.pt", metrics)
        write_metrics(self.folder / "metrics.jsonl", [*history, metrics])
        if self.val_set is not None and is_validated(self.epoch, self.options):
            self._judge_epoch(metrics, history)
        self._log_epoch(metrics, history)

    def _judge_epoch(self, metrics: dict[str, Any], history: Sequence[Mapping[str, Any]]) -> None:
        """Validates the epoch, adds its scores to its metrics, and writes best.pt where it is the best so far."""
        metrics.update(self._validate())
        if self._improves(metrics, history):
            self._save("best.pt", metrics)

    def _log_epoch(self, metrics: dict[str, Any], history: list[dict[str, Any]]) -> None:
        history.append(metrics)
        write_metrics(self.folder / "metrics.jsonl", history)
        plot_history(history, self.folder / "curve.png")
        tqdm.write(epoch_text(metrics, self.options.epochs), file=uncleaned(sys.stderr))
        if self.board:
            self.board.write_metrics(metrics)

    def _stops(self, history: Sequence[Mapping[str, Any]]) -> bool:
        """Whether the last `patience` validations were no better than the best before them."""
        patience = self.options.patience
        if self.val_set is None:
            values = [-m["loss"] for m in history]
        else:
            values = [m["AP"] for m in history if "AP" in m]
            # A run that finds nothing yet has not begun to get worse.
            values = values[next((i for i, ap in enumerate(values) if ap > 0), len(values)) :]
        return 0 < patience < len(values) and max(values[-patience:]) <= max(values[:-patience])

    def _train_epoch(self) -> dict[str, Any]:
        started = time.perf_counter()
        self.model.train()
        self.sampler.epoch = self.epoch
        sums = torch.zeros(2, dtype=torch.float64)
        steps, rate = len(self.loader), 0.0
        bar = progress_bar(
            self.loader,
            desc=f"epoch {self.epoch + 1}/{self.options.epochs}",
            unit="batch",
            leave=False,
            disable=not self.processes.is_first,
        )
        for i, batch in enumerate(bar):
            if i == 0 and self.board:
                self.board.write_matches(batch, self.loss, self.spec, self.epoch + 1)
            rate = self._set_learning_rate(self.epoch * steps + i, self.options.epochs * steps)
            losses = self.step(batch)
            sums += torch.tensor(losses, dtype=torch.float64)
            bar.set_postfix(loss=f"{sum(losses):.3f}", lr=f"{rate:.4f}", refresh=False)
        seconds = time.perf_counter() - started
        loc, conf = (sums / steps).tolist()
        return {
            "epoch": self.epoch + 1,
            "loss": loc + conf,
            "loss_loc": loc,
            "loss_conf": conf,
            "lr": rate,
            "images_per_s": steps * self.options.batch * self.processes.count / seconds,
            "train_s": seconds,
        }

    def step(self, batch: Batch) -> tuple[float, ...]:
        """One step; returns (loc, conf) losses of the whole batch, numbers.

        Raises ValueError when the loss or its gradient is no number, before the weights are touched.
        """
        images = normalise(batch.images.to(self.device, non_blocking=True), self.spec)
        with self.autocast:
            loc, conf = self.network(images)
        losses = self.loss(loc, conf, batch.targets.to(self.device))
        total = losses.loc + losses.conf
        values = losses.loc.item(), losses.conf.item()
        # The mean over the processes is the loss of the whole batch, and no number in all of them when in one.
        means = [value / self.processes.count for value in self.processes.sum(values)]
        if not math.isfinite(sum(means)):
            raise ValueError(self._not_a_number("loss", "loc {:g}, conf {:g}".format(*values), batch))
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.options.clip_norm or math.inf).item()
        if not math.isfinite(norm):
            raise ValueError(self._not_a_number("gradient", f"a norm of {norm:g}", batch))
        self.optimizer.step()
        if self.average is not None:
            self.average.update()
        return tuple(means)

    def _mean_matches(self, matches: int) -> float:
        """The matches of a batch, as their mean over the processes; at least 1 where there are none at all."""
        return max(1.0, self.processes.sum([matches])[0]) / self.processes.count

    def _not_a_number(self, what: str, found: str, batch: Batch) -> str:
        names = ", ".join(self.train_set.image_name(i) for i in batch.indices)
        return (
            f"{what}: expected finite numbers, got {found} in epoch {self.epoch + 1}; "
            f"lower --lr (now {self.options.lr:g}), or look at the batch's images: {names}"
        )

    def _set_learning_rate(self, step: int, total: int) -> float:
        options = self.options
        # Of a short run a tenth at most, or a small data set would never see the rate fall.
        warmup = min(options.warmup, total // 10)
        rate = learning_rate(step, total, options.lr, warmup, options.schedule)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def _validate(self) -> dict[str, Any]:
        """The scores on the validation set; none without one."""
        if self.val_set is None:
            return {}
        started = time.perf_counter()
        network = copy.deepcopy(self.model)
        if self.average is not None:
            network.load_state_dict(self.average.state)
        detector = Detector(CpuBackend(TorchEngine(network), self.spec))
        report = evaluate(detector, self.val_set, progress=True)
        if self.board:
            self.board.write_detections(detector, self.val_set, self.epoch)
        names = ("AP", "AP50", "VOC_AP50_area")
        # Nothing to find has no AP; a run goes on with 0.
        scores = {name: report[name] or 0.0 for name in names}
        return {**scores, "val_s": time.perf_counter() - started}

    def _improves(self, metrics: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> bool:
        """Whether best.pt is to be this epoch: the best AP, or the lowest loss in a run without validation."""
        if self.val_set is None:
            return metrics["loss"] <= min((m["loss"] for m in history), default=math.inf)
        return "AP" in metrics and metrics["AP"] >= max((m["AP"] for m in history if "AP" in m), default=0)

    def _save(self, name: str, metrics: Mapping[str, Any]) -> None:
        state = {
            "ema": self.average.state if self.average else None,
            "ema_steps": self.average.steps if self.average else 0,
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "metrics": dict(metrics),
            "rng": torch.get_rng_state(),
            "training": asdict(self.options),
            "origin": self.origin,
        }
        save_checkpoint(self.folder / name, self.model, self.spec, **state)


def lacks_validation(
    checkpoint: Mapping[str, Any], options: TrainOptions, history: Iterable[Mapping[str, Any]]
) -> bool:
    """Whether the epoch of a checkpoint was to be validated and has no AP: its run was killed before that was done.

    checkpoint: of a run with validation.   options: of the run that goes on.   history: metrics of the epochs so far.
    """
    epoch = checkpoint["epoch"]
    was_last = epoch == checkpoint["training"].get("epochs")
    is_due = epoch > 0 and (was_last or is_validated(epoch, options))
    return is_due and not any("AP" in metrics for metrics in _of_epoch(history, epoch))


def is_validated(epoch: int, options: TrainOptions) -> bool:
    """Whether a run validates after this epoch, counted from 1."""
    return epoch % options.val_every == 0 or epoch == options.epochs


def _of_epoch(history: Iterable[Mapping[str, Any]], epoch: int) -> list[Mapping[str, Any]]:
    return [metrics for metrics in history if metrics["epoch"] == epoch]


def make_optimizer(model: nn.Module, options: TrainOptions) -> torch.optim.Optimizer:
    """SGD with momentum or AdamW; no weight decay on biases, norms and scales, which have one dimension."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": options.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    if options.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=options.lr)
    return torch.optim.SGD(groups, lr=options.lr, momentum=options.momentum)


def _autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    if precision == "auto":
        precision = "bf16" if _computes_bf16(device) else "fp32"
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def _computes_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Without the instructions, oneDNN converts back and forth and is slower than in float32.
    # There is no public way to ask for them.
    has_instructions = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return torch.backends.mkldnn.is_available() and has_instructions()
