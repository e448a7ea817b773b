"""The two outputs of a network, in whatever shape it gives them, as (B, P, 4) and (B, P, C)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..spec import SsdSpec


def arrange_heads(
    loc: np.ndarray, conf: np.ndarray, spec: SsdSpec, num_priors: int
) -> tuple[np.ndarray, np.ndarray]:
    """loc -> (B, P, 4) and conf -> (B, P, C) float32, views where they are that already.

    Flattened outputs (B, P * 4) and dimensions of 1 between are taken.
    Raises ValueError naming the output, and what in the spec does not fit.
    """
    return (
        _arranged(loc, spec.outputs.loc, num_priors, 4, "4 offsets"),
        _arranged(conf, spec.outputs.conf, num_priors, spec.num_columns, _columns_shown(spec)),
    )


def check_heads(shapes: Mapping[str, tuple[int, ...]], spec: SsdSpec, num_priors: int) -> None:
    """Raises ValueError, as `arrange_heads` does, unless outputs of these shapes fit the spec.

    shapes: of the outputs "loc" and "conf", (B, ...), as an engine's `output_shapes` gives them.
    """
    _check_shape(shapes["loc"], spec.outputs.loc, num_priors, 4, "4 offsets")
    _check_shape(shapes["conf"], spec.outputs.conf, num_priors, spec.num_columns, _columns_shown(spec))


def _columns_shown(spec: SsdSpec) -> str:
    background = "" if spec.background_index is None else " + background"
    return f"{len(spec.class_names)} class_names{background}"


def _arranged(array: np.ndarray, name: str, num_priors: int, columns: int, columns_shown: str) -> np.ndarray:
    _check_shape(array.shape, name, num_priors, columns, columns_shown)
    return array.reshape(len(array), num_priors, columns).astype(np.float32, copy=False)


def _check_shape(
    shape: tuple[int, ...], name: str, num_priors: int, columns: int, columns_shown: str
) -> None:
    sides = [side for side in shape[1:] if side != 1]
    if sides not in ([side for side in (num_priors, columns) if side != 1], [num_priors * columns]):
        raise ValueError(_mismatch(shape, name, sides, num_priors, columns, columns_shown))


def _mismatch(
    shape: tuple[int, ...], name: str, sides: list[int], num_priors: int, columns: int, columns_shown: str
) -> str:
    expected = f"the spec has {num_priors} priors and {columns_shown}, so (B, {num_priors}, {columns})"
    message = f"output {name!r} is {tuple(shape)}; {expected}"
    if sides == [columns, num_priors]:
        return f"{message}. It is transposed: export it as (B, P, {columns})"
    if len(sides) == 2 and sides[0] != num_priors:
        return f"{message}. The model has {sides[0]} priors: compare `priors` with its feature maps"
    if len(sides) == 2:
        return f"{message}. The model has {sides[1]} columns: correct class_names or background_index"
    return message
