"""What an ONNX model tells of itself: its input, and what its outputs are on noise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import limits
from ..engines.onnxruntime_engine import INPUT_DTYPES, open_session, run_session
from ..model_files.onnx_file import BadModel
from ..model_files.onnx_wire import Node, read_structure

# Operators that leave a different number of boxes in every image, besides plugins of TensorRT that are named so.
NMS = "NonMaxSuppression"

# What the input may be, by ONNX Runtime's name.
_DTYPES = {**INPUT_DTYPES, "tensor(uint8)": np.dtype(np.uint8)}

# Noise of a network's input: standard deviation and mean. Far beyond 1, sizes that are decoded inside would overflow.
_NOISES = ((1.0, 0.0), (0.3, 0.5), (0.1, 0.0), (0.5, -0.3), (0.2, 0.9))


@dataclass(frozen=True)
class Network:
    """A model's input, and its outputs of floats.

    size: (height, width).   layout, dtype, batch_axis: as a spec's input has them.   batch: images that were fed at
    once.   runs: {name: values} for each noise; the first is normally distributed.
    """

    path: Path
    input_name: str
    size: tuple[int, int]
    layout: str
    dtype: str
    batch_axis: bool
    batch: int
    runs: Sequence[dict[str, np.ndarray]]

    @property
    def outputs(self) -> dict[str, np.ndarray]:
        """The outputs on normally distributed noise."""
        return self.runs[0]

    def first(self, array: np.ndarray) -> np.ndarray:
        """What an output says of the first image."""
        return array[0] if self.batch_axis else array

    def sides(self, name: str, keep_ones: bool = False) -> tuple[int, ...]:
        """The shape of an output behind the axis of the batch, axes of 1 left out."""
        shape = self.first(self.outputs[name]).shape
        return shape if keep_ones else tuple(side for side in shape if side != 1)


class _Entry(NamedTuple):
    """The input as ONNX Runtime tells it, and what follows from its shape."""

    name: str
    dtype: Any
    shape: tuple[int, ...]
    size: tuple[int, int]
    layout: str
    batch_axis: bool


def run_on_noise(path: Path, size: tuple[int, int] | None) -> Network:
    """The Network in a file.   size: (height, width), where the model leaves them open.

    Raises FileNotFoundError, or ValueError for a model that is not whole, gives finished detections, or has another
    input than one of images.
    """
    if path.is_file():
        refuse_nms(path)
    session = open_session(path)
    entry = _input_of(session, path, size)
    names = [output.name for output in session.get_outputs()]
    runs = []
    for noise in _noises(entry):
        values = run_session(session, names, {entry.name: noise}, path)
        runs.append(
            {
                name: value.astype(np.float32)
                for name, value in zip(names, values)
                if isinstance(value, np.ndarray) and value.ndim >= 2 and value.dtype.kind == "f"
            }
        )
    dtype = "uint8" if entry.dtype == np.uint8 else "float"
    batch = entry.shape[0] if entry.batch_axis else 1
    return Network(path, entry.name, entry.size, entry.layout, dtype, entry.batch_axis, batch, runs)


def _noises(entry: _Entry) -> Iterator[np.ndarray]:
    for seed, (spread, middle) in enumerate(_NOISES):
        generator = np.random.default_rng(seed)
        if entry.dtype == np.uint8:
            yield generator.integers(0, 256, entry.shape, np.uint8)
        else:
            yield generator.normal(middle, spread, entry.shape).astype(entry.dtype)


def refuse_nms(path: Path) -> None:
    """Raises ValueError naming the node where the graph itself does what comes after the heads."""
    try:
        nodes = read_structure(path).graph.nodes
    except BadModel:
        return  # whoever opens it says more
    for node in nodes:
        if node.op_type == NMS or "NMS" in node.op_type:
            way_out = ", or cut it off: --out OTHER.json" if node.op_type == NMS else ""
            raise ValueError(
                f"{path}: {_shown(node)} makes finished detections inside the graph; a spec describes raw offsets and "
                f"scores of every prior. Export the model without its post-processing{way_out}"
            )


def has_nms(path: Path) -> bool:
    """Whether the graph holds ONNX's own suppression, which `rewrite` cuts off."""
    try:
        return any(node.op_type == NMS for node in read_structure(path).graph.nodes)
    except BadModel:
        return False


def _shown(node: Node) -> str:
    return f"node {node.name or next(iter(node.outputs), '')!r} ({node.op_type})"


def _input_of(session: Any, path: Path, size: tuple[int, int] | None) -> _Entry:
    entries = session.get_inputs()
    if len(entries) != 1:
        raise ValueError(f"{path}: expected one input, the model has {', '.join(e.name for e in entries)}")
    (entry,) = entries
    shown = f"{path}: input {entry.name!r}"
    dtype = _DTYPES.get(entry.type)
    if dtype is None:
        raise ValueError(f"{shown}: expected float32, float16 or uint8, got {entry.type}")
    sides = [side if isinstance(side, int) else None for side in entry.shape]
    batch_axis = len(sides) != 3
    image = sides[1:] if batch_axis else sides
    if len(image) != 3 or (image[0] not in (3, None) and image[2] != 3):
        raise ValueError(f"{shown} is {entry.shape}; expected (B, 3, H, W) or (B, H, W, 3)")
    is_last = image[2] == 3 and image[0] != 3
    size = _size_of(image[:2] if is_last else image[1:], size, shown, entry.shape)
    shape = (*size, 3) if is_last else (3, *size)
    if batch_axis:
        shape = (sides[0] or 1, *shape)
    return _Entry(entry.name, dtype, shape, size, "nhwc" if is_last else "nchw", batch_axis)


def _size_of(
    sides: Sequence[int | None], given: tuple[int, int] | None, shown: str, shape: Sequence[Any]
) -> tuple[int, int]:
    height, width = sides
    if given is None:
        if height is None or width is None:
            raise ValueError(
                f"{shown} is {shape}, which leaves height and width open; say them with --size HxW, such as 300x300"
            )
        return height, width
    if given[0] * given[1] > limits.MOST_INPUT_PIXELS:
        raise ValueError(
            f"--size: expected at most {limits.MOST_INPUT_PIXELS} pixels, got {given[0]} x {given[1]}"
        )
    if any(side is not None and side != wanted for side, wanted in zip(sides, given)):
        raise ValueError(f"--size: {given[0]}x{given[1]}, {shown} is {shape}")
    return given
