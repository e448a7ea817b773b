"""Several processes that train one network: `torchrun --nproc-per-node 2 -m edge_ssd train ...`.

Each process has its part of every batch; gradients are averaged by DistributedDataParallel, so that two processes with
a batch of 8 do what one with a batch of 16 does (but for batch norms, whose statistics are each process's own).
On GPUs the processes talk through NCCL, one GPU each; on CPUs through Gloo. The NCCL path was never run.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed

# The others wait while the first process validates.
_TIMEOUT = timedelta(hours=3)


@dataclass(frozen=True)
class Processes:
    """rank: which process this is, from 0.   count: how many there are.   device: where this one computes."""

    rank: int
    count: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process validates, writes and talks."""
        return self.rank == 0

    def wrapped(self, model: torch.nn.Module) -> torch.nn.Module:
        """The network whose backward pass averages gradients over the processes; `model` itself for a single one."""
        if self.count == 1:
            return model
        devices = [self.device] if self.device.type == "cuda" else None
        return torch.nn.parallel.DistributedDataParallel(model, device_ids=devices)

    def sum(self, values: Sequence[float]) -> list[float]:
        """The sums of numbers over the processes, list of float."""
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        if self.count > 1:
            distributed.all_reduce(tensor)
        return tensor.tolist()

    def agreed(self, flag: bool) -> bool:
        """What the first process says, in every process; they wait for it."""
        return bool(self.sum([float(flag) if self.is_first else 0.0])[0])


def join_processes() -> Processes:
    """The Processes that torchrun started, this one among them; a single one otherwise."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    on_gpu = torch.cuda.is_available()
    if count == 1:
        return Processes(0, 1, torch.device("cuda" if on_gpu else "cpu"))
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=_TIMEOUT)
    return Processes(distributed.get_rank(), count, device)


def leave_processes() -> None:
    """Ends what `join_processes` began."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
