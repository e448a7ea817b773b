"""The two outputs of a network, in whatever shape it gives them, as (B, P, 4) and (B, P, C)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from ..spec import SsdSpec


def arrange_heads(
    loc: np.ndarray, conf: np.ndarray, spec: SsdSpec, num_priors: int
) -> tuple[np.ndarray, np.ndarray]:
    """loc -> (B, P, 4 + 2 K) and conf -> (B, P, C) float32, views where they are that already.

    Flattened outputs (B, P * 4) and dimensions of 1 between are taken; with "column_prior" those that are transposed.
    Raises ValueError naming the output, and what in the spec does not fit.
    """
    return (
        _arranged(loc, spec, "loc", num_priors),
        _arranged(conf, spec, "conf", num_priors),
    )


def check_heads(shapes: Mapping[str, tuple[int, ...]], spec: SsdSpec, num_priors: int) -> None:
    """Raises ValueError, as `arrange_heads` does, unless outputs of these shapes fit the spec.

    shapes: of the outputs "loc" and "conf", (B, ...), as an engine's `output_shapes` gives them.
    """
    for head in ("loc", "conf"):
        _check_shape(shapes[head], spec, head, num_priors)


def priors_in(loc: np.ndarray, spec: SsdSpec) -> int:
    """P of an output `loc` (B, ...), for a box coding without priors."""
    return math.prod(loc.shape[1:]) // spec.loc_columns


def _columns_of(spec: SsdSpec, head: str) -> tuple[int, str]:
    """The columns of a head, and how an error names them."""
    if head == "loc":
        points = f" with {len(spec.keypoints)} keypoints" if spec.keypoints else ""
        return spec.loc_columns, f"{spec.loc_columns} offsets{points}"
    background = "" if spec.background_index is None else " + background"
    return spec.num_columns, f"{len(spec.class_names)} class_names{background}"


def _is_transposed(spec: SsdSpec, head: str) -> bool:
    return getattr(spec, f"{head}_layout") == "column_prior"


def _arranged(array: np.ndarray, spec: SsdSpec, head: str, num_priors: int) -> np.ndarray:
    _check_shape(array.shape, spec, head, num_priors)
    columns, _ = _columns_of(spec, head)
    if _is_transposed(spec, head):
        # Maps (B, boxes * columns, rows, columns of cells) become priors in order of cell, then box.
        channels = next((side for side in array.shape[1:] if side != 1), 1)
        array = np.ascontiguousarray(array.reshape(len(array), channels, -1).transpose(0, 2, 1))
    return array.reshape(len(array), num_priors, columns).astype(np.float32, copy=False)


def _check_shape(shape: tuple[int, ...], spec: SsdSpec, head: str, num_priors: int) -> None:
    columns, columns_shown = _columns_of(spec, head)
    sides = [side for side in shape[1:] if side != 1]
    if _is_transposed(spec, head):
        is_map = len(sides) == 3 and sides[0] % columns == 0 and math.prod(sides) == num_priors * columns
        fits = is_map or sides == [side for side in (columns, num_priors) if side != 1]
    else:
        fits = sides in ([side for side in (num_priors, columns) if side != 1], [num_priors * columns])
    if not fits:
        name = ", ".join(getattr(spec.outputs, f"{head}_names"))
        raise ValueError(_mismatch(shape, name, sides, num_priors, (columns, columns_shown), head, spec))


def _mismatch(
    shape: tuple[int, ...],
    name: str,
    sides: list[int],
    num_priors: int,
    columns_and_text: tuple[int, str],
    head: str,
    spec: SsdSpec,
) -> str:
    columns, columns_shown = columns_and_text
    transposed = _is_transposed(spec, head)
    wanted = (columns, num_priors) if transposed else (num_priors, columns)
    expected = f"the spec has {num_priors} priors and {columns_shown}, so (B, {wanted[0]}, {wanted[1]})"
    message = f"output {name!r} is {tuple(shape)}; {expected}"
    if sides == [num_priors, columns]:
        return f"{message}. It is not transposed: remove {head}_layout from the spec"
    if sides == [columns, num_priors]:
        return (
            f"{message}. It is transposed: export it as (B, P, {columns}), "
            f'or put "{head}_layout": "column_prior" into the spec'
        )
    if transposed:
        sides = sides[::-1]
    if len(sides) == 2 and sides[0] != num_priors:
        return f"{message}. The model has {sides[0]} priors: compare `priors` with its feature maps"
    if len(sides) == 2 and head == "loc":
        return f"{message}. The model has {sides[1]} columns: correct keypoints"
    if len(sides) == 2:
        return f"{message}. The model has {sides[1]} columns: correct class_names or background_index"
    return message
