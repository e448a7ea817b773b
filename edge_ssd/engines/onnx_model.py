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
    if spec.input.dtype == "uint8":
        if dtype != np.uint8:
            raise ValueError(f"{path}: input {name!r}: the spec's input.dtype is uint8, got {dtype}")
        dtype = np.dtype(np.float32)  # of a batch, before it is rounded
    elif dtype not in _READABLE:
        advice = '; put "dtype": "uint8" into the spec\'s input' if dtype == np.uint8 else ""
        raise ValueError(f"{path}: input {name!r}: expected float32 or float16, got {dtype}{advice}")
    wanted = fed_shape(spec)
    if not spec.input.batch_axis:
        shape = [1, *shape]
    given = tuple(shape[1:])
    if len(given) != 3 or any(isinstance(g, int) and g != w for g, w in zip(given, wanted)):
        raise ValueError(
            f"{path}: input {name!r} is {list(inputs[name][1])}, the spec says "
            f"({'B, ' if spec.input.batch_axis else ''}{', '.join(map(str, wanted))}); see input.layout and batch_axis"
        )
    return dtype, shape[0] if isinstance(shape[0], int) else 0


def check_outputs(path: StrPath, spec: SsdSpec, names: Collection[str]) -> None:
    """Raises ValueError when the model lacks an output of the SsdSpec. names: those it has."""
    for key in ("loc", "conf"):
        for name in getattr(spec.outputs, f"{key}_names"):
            if name not in names:
                raise ValueError(
                    f"{path}: the spec's outputs.{key} is {name!r}, the model has {_listed(names)}"
                )


def fed_shape(spec: SsdSpec) -> tuple[int, int, int]:
    """The shape of one image, as the model's input has it."""
    height, width = spec.input.size
    return (height, width, 3) if spec.input.layout == "nhwc" else (3, height, width)


def takes_batches(spec: SsdSpec) -> bool:
    """Whether the model's input is a batch (B, 3, H, W) of float as it is."""
    return (spec.input.layout, spec.input.dtype, spec.input.batch_axis) == ("nchw", "float", True)


def as_fed(batch: np.ndarray, spec: SsdSpec) -> np.ndarray:
    """A batch (B, 3, H, W) as the model's input takes it: the same array where that is so already."""
    if takes_batches(spec):
        return batch
    if spec.input.dtype == "uint8":
        batch = np.clip(np.rint(batch), 0, 255).astype(np.uint8)
    if spec.input.layout == "nhwc":
        batch = batch.transpose(0, 2, 3, 1)
    return np.ascontiguousarray(batch if spec.input.batch_axis else batch[0])


def heads_of(values: Sequence[np.ndarray], spec: SsdSpec, count: int) -> tuple[np.ndarray, np.ndarray]:
    """`loc` and `conf` of the first `count` images.   values: of the outputs `spec.outputs.names`, in this order.

    Several outputs of a head become one. Raises ValueError for one that does not fit.
    """
    if not spec.input.batch_axis:
        values = [value[None] for value in values]
    outputs, split = spec.outputs, len(spec.outputs.loc_names)
    loc = _joined(values[:split], outputs.loc_names, spec.loc_columns, spec, spec.loc_layout)
    conf = _joined(values[split:], outputs.conf_names, spec.num_columns, spec, spec.conf_layout)
    return loc[:count], conf[:count]


def _joined(
    values: Sequence[np.ndarray], names: Sequence[str], columns: int, spec: SsdSpec, layout: str
) -> np.ndarray:
    """One output of those of the levels: (B, P, columns), or (B, columns, P) of transposed ones."""
    if len(values) == 1:
        return values[0]
    levels, is_transposed = spec.priors.levels, layout == "column_prior"
    counts = [level.count for level in levels] if len(levels) == len(values) else [0] * len(values)
    parts = [_level(*of, columns, is_transposed) for of in zip(values, names, counts)]
    joined = np.concatenate(parts, axis=1)
    return joined.transpose(0, 2, 1) if is_transposed else joined


def _level(value: np.ndarray, name: str, count: int, columns: int, is_transposed: bool) -> np.ndarray:
    """(B, priors, columns) of one level.   count: of its priors, 0 where it is not known."""
    sides = [side for side in value.shape[1:] if side != 1] or [1]
    channels = sides[0] if is_transposed else sides[-1]
    is_turned = value.ndim == 3 and len(sides) == 2 and channels != columns
    if is_turned or channels % columns or (count and value[0].size != count * columns):
        wanted = f"{count} priors of " if count else ""
        raise ValueError(
            f"output {name!r} is {value.shape}; expected {wanted}{columns} columns; see loc_layout"
        )
    if is_transposed:
        value = value.reshape(len(value), channels, -1).transpose(0, 2, 1)
    return value.reshape(len(value), -1, columns)


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
