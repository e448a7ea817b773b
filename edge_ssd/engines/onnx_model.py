"""What the CPU engines share: whether an ONNX model fits its spec, and batches of a fixed size."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from ..files import StrPath
from ..spec import SsdSpec

_READABLE = (np.dtype(np.float32), np.dtype(np.float16))


def check_input(
    path: StrPath, spec: SsdSpec, inputs: dict[str, tuple[Any, Sequence[Any]]]
) -> tuple[np.dtype, int]:
    """(dtype, images in one call; 0 when any) of the model's input.

    inputs: {name: (dtype, shape)} of the model; a dtype that is neither float32 nor float16 may be any text, an axis
    of any length any value but an int. Raises ValueError for what does not fit the SsdSpec.
    """
    name = spec.input.name
    if name not in inputs:
        raise ValueError(f"{path}: the spec's input.name is {name!r}, the model has {_listed(inputs)}")
    if len(inputs) > 1:
        raise ValueError(f"{path}: expected one input, the model has {_listed(inputs)}")
    dtype, shape = inputs[name]
    if dtype not in _READABLE:
        raise ValueError(f"{path}: input {name!r}: expected float32 or float16, got {dtype}")
    wanted = (3, *spec.input.size)
    given = tuple(shape[1:])
    if len(given) != 3 or any(isinstance(g, int) and g != w for g, w in zip(given, wanted)):
        raise ValueError(
            f"{path}: input {name!r} is {list(shape)}, the spec says (B, {', '.join(map(str, wanted))})"
        )
    return dtype, shape[0] if isinstance(shape[0], int) else 0


def check_outputs(path: StrPath, spec: SsdSpec, names: Collection[str]) -> None:
    """Raises ValueError when the model lacks an output of the SsdSpec. names: those it has."""
    for key in ("loc", "conf"):
        name = getattr(spec.outputs, key)
        if name not in names:
            raise ValueError(f"{path}: the spec's outputs.{key} is {name!r}, the model has {_listed(names)}")


def filled_up(batch: np.ndarray, size: int) -> np.ndarray:
    """The batch with black images behind, for a model that takes `size` at a time (0: any number).

    Raises ValueError for more than that.
    """
    count = len(batch)
    if not size or count == size:
        return batch
    if count > size:
        raise ValueError(f"batch: this model takes {size} images at a time, got {count}")
    return np.concatenate([batch, np.zeros((size - count, *batch.shape[1:]), batch.dtype)])


def _listed(names):
    return ", ".join(repr(name) for name in names) or "none"
