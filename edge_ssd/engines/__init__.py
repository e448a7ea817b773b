"""Engines: the network alone, batch in, raw heads out."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Engine(Protocol):
    """What a backend asks of an engine.

    input_dtype: float32 or float16, what `infer` takes.   max_batch: images in one call; 0 when any.
    """

    input_dtype: np.dtype
    max_batch: int

    def infer(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(B, 3, H, W) -> the outputs `loc` and `conf` as the network has them, valid until the next call."""

    def close(self) -> None:
        """Frees what the engine holds."""
