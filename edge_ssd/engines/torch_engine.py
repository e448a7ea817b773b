"""The network of a training checkpoint, run by torch: on the CPU, or where a network in training lies."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ..files import StrPath
from ..networks.checkpoint import load_model
from ..spec import SsdSpec
from .torch_network import prepare


class TorchEngine:
    """An `Ssd` as an engine (see `edge_ssd.engines`), on the device that it lies on.

    model: put into evaluation mode.   threads: of torch on the CPU for the whole process, as torch has
    it; 0 leaves them.
    """

    input_dtype = np.dtype(np.float32)
    max_batch = 0
    precision = "fp32"
    interleaved = False

    def __init__(self, model: nn.Module, threads: int = 0) -> None:
        self.model = model.eval()
        self.device = next(model.parameters()).device
        if threads:
            torch.set_num_threads(threads)

    @classmethod
    def open(cls, path: StrPath, threads: int = 0, trusted: bool = False) -> tuple[TorchEngine, SsdSpec]:
        """The engine and the SsdSpec in the checkpoint `path`, on the CPU, batch norm folded away.

        trusted: see `load_checkpoint`.
        Raises FileNotFoundError, or ValueError for a file that is no checkpoint or does not fit its spec.
        """
        model, spec = load_model(path, trusted)
        return cls(prepare(model), threads), spec

    @property
    def description(self) -> str:
        """The engine and the device, for a report."""
        return f"torch {torch.__version__} on {self.device.type}, {torch.get_num_threads()} threads"

    @torch.inference_mode()
    def infer(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(B, 3, H, W) float32 -> loc (B, P, 4), conf (B, P, C) float32."""
        tensor = torch.from_numpy(batch).to(self.device, memory_format=torch.channels_last)
        loc, conf = self.model(tensor)
        return loc.cpu().numpy(), conf.cpu().numpy()

    def close(self) -> None:
        """Nothing is held that the collector does not free."""
