"""Which outputs of a model are its heads, and how they are laid out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .network import Network
from .options import DraftOptions

# Names of outputs that say what they hold, where the shapes leave it open.
_LOC_NAME = re.compile(r"loc|box|reg|delta|offset", re.IGNORECASE)

# Of the input, how far boxes may lie outside when they are shares of it, and not pixels.
_MOST_SHARE = 4.0


@dataclass(frozen=True)
class _Part:
    """One output of one level: its name, and how its rows come about.

    count: of priors.   columns: of a row.
    kind: "rows", "columns" (transposed) or "map" (boxes * columns, rows, cols).
    """

    name: str
    count: int
    columns: int
    kind: str

    def rows(self, array: np.ndarray) -> np.ndarray:
        """(count, columns) of the first image."""
        if self.kind == "rows":
            return array.reshape(self.count, self.columns)
        if self.kind == "columns":
            return array.reshape(self.columns, self.count).T
        channels, height, width = array.shape
        boxes = array.reshape(channels // self.columns, self.columns, height, width)
        return boxes.transpose(2, 3, 0, 1).reshape(-1, self.columns)


@dataclass(frozen=True)
class Heads:
    """The outputs with offsets and class scores, each whole or in parts, one for each level.

    loc_values, conf_values: (P, 4) and (P, C) of each noise.   loc_layout, conf_layout: as a spec has them.
    """

    loc: tuple[str, ...]
    conf: tuple[str, ...]
    loc_values: list[np.ndarray]
    conf_values: list[np.ndarray]
    loc_layout: str
    conf_layout: str

    @property
    def count(self) -> int:
        """P."""
        return len(self.loc_values[0])

    @property
    def columns(self) -> int:
        """C."""
        return self.conf_values[0].shape[1]


def find_heads(network: Network, options: DraftOptions) -> Heads:
    """The Heads of a network. Raises ValueError where the user has to say which they are, or they are none."""
    shapes = ", ".join(f"{name} {array.shape}" for name, array in network.outputs.items()) or "none of floats"
    named = {key: _given(network, key, getattr(options, key), shapes) for key in ("loc", "conf")}
    found = _maps(network, named) or _levels(network, named)
    loc, conf = found or _single(network, named, shapes)
    if [part.count for part in loc] != [part.count for part in conf] or len(
        {part.columns for part in conf}
    ) != 1:
        raise ValueError(
            f"{network.path}: these are no heads of the same priors: {shapes}; see --loc and --conf"
        )
    return Heads(
        tuple(part.name for part in loc),
        tuple(part.name for part in conf),
        [_joined(network, run, loc) for run in network.runs],
        [_joined(network, run, conf) for run in network.runs],
        _layout(loc),
        _layout(conf),
    )


def _given(network: Network, key: str, text: str, shapes: str) -> tuple[str, ...]:
    names = tuple(filter(None, text.split(","))) if text not in network.outputs else (text,)
    for name in names:
        if name not in network.outputs:
            raise ValueError(f"--{key}: no output {name!r}; the model has {shapes}")
    return names


def _joined(network: Network, run: dict[str, np.ndarray], parts: Sequence[_Part]) -> np.ndarray:
    return np.concatenate([part.rows(network.first(run[part.name])) for part in parts])


def _layout(parts: Sequence[_Part]) -> str:
    return "prior_column" if parts[0].kind == "rows" else "column_prior"


def _single(
    network: Network, named: dict[str, tuple[str, ...]], shapes: str
) -> tuple[list[_Part], list[_Part]]:
    """One output of each kind. With four classes or columns, conf looks like loc: then the user has to say."""
    sides = {name: network.sides(name) for name in network.outputs}
    loc = named["loc"] or tuple(
        n for n, s in sides.items() if 4 in (s[-1:] + s[:1]) and n not in named["conf"]
    )
    if len(loc) > 1 and not named["loc"]:  # 4 in the last place is the usual one
        loc = tuple(n for n in loc if sides[n][-1] == 4) or loc
    if len(loc) != 1:
        raise ValueError(f"which output holds the offsets? Give --loc and --conf; the model has {shapes}")
    _check_batch(network, loc[0])
    count = network.first(network.outputs[loc[0]]).size // 4
    conf = named["conf"] or tuple(n for n in sides if n != loc[0] and _fits(network, n, count))
    if len(conf) != 1:
        raise ValueError(f"which output holds the class scores? Give --conf; the model has {shapes}")
    _check_batch(network, conf[0])
    size = network.first(network.outputs[conf[0]]).size
    if not count or not size or size % count:
        raise ValueError(
            f"{network.path}: these are no heads of {count} priors: {shapes}; see --loc and --conf"
        )
    return [_part(network, loc[0], count, 4)], [_part(network, conf[0], count, size // count)]


def _part(network: Network, name: str, count: int, columns: int) -> _Part:
    transposed = network.sides(name) == (columns, count) and columns != count
    return _Part(name, count, columns, "columns" if transposed else "rows")


def _fits(network: Network, name: str, count: int) -> bool:
    shape = network.outputs[name].shape
    if len(shape) == 2 and shape[0] == count > 1:  # without an axis of the batch, which is said later
        return True
    size = network.first(network.outputs[name]).size
    return count > 0 and size > 0 and size % count == 0


def _check_batch(network: Network, name: str) -> None:
    shape = network.outputs[name].shape
    if network.batch_axis and len(shape) == 2 and shape[0] != network.batch:
        raise ValueError(
            f"{network.path}: output {name!r}: {shape} has no batch axis; export it as (1, {shape[0]}, {shape[1]})"
        )
    if any(run[name].shape != shape for run in network.runs):
        raise ValueError(
            f"{network.path}: output {name!r} changes its shape with the image, from {shape} on: it holds finished "
            "detections. Export raw offsets and scores, without NMS"
        )


def _levels(network: Network, named: dict[str, tuple[str, ...]]) -> tuple[list[_Part], list[_Part]] | None:
    """Several outputs (P, 4), and as many (P, C); the largest first, as priors go from small boxes to large ones."""
    sides = {n: s for n in network.outputs if len(s := network.sides(n)) == 2}
    loc = named["loc"] or tuple(n for n, s in sides.items() if s[1] == 4 and n not in named["conf"])
    conf = named["conf"] or tuple(n for n, s in sides.items() if n not in loc)
    if len(loc) < 2 or len(loc) != len(conf) or not all(n in sides for n in (*loc, *conf)):
        return None
    parts = []
    for names, is_given in ((loc, named["loc"]), (conf, named["conf"])):
        of_output = [_Part(name, *sides[name], "rows") for name in names]
        parts.append(of_output if is_given else sorted(of_output, key=lambda part: -part.count))
    return (parts[0], parts[1]) if all(part.columns == 4 for part in parts[0]) else None


def _maps(network: Network, named: dict[str, tuple[str, ...]]) -> tuple[list[_Part], list[_Part]] | None:
    """Outputs of convolutions as they come, (boxes * 4, rows, columns) and (boxes * C, rows, columns)."""
    sides = {n: network.sides(n, keep_ones=True) for n in network.outputs}
    maps = {n: s for n, s in sides.items() if len(s) == 3 and 1 not in s[:1] and s[0] * s[1] * s[2] > 4}
    loc = named["loc"] or tuple(n for n, s in maps.items() if s[0] % 4 == 0 and _LOC_NAME.search(n))
    conf = named["conf"] or tuple(n for n in maps if n not in loc)
    if not loc or len(loc) != len(conf) or not all(n in maps for n in (*loc, *conf)):
        return None
    if not named["loc"]:
        loc = tuple(sorted(loc, key=lambda n: -maps[n][1] * maps[n][2]))
    if not named["conf"]:
        conf = tuple(sorted(conf, key=lambda n: -maps[n][1] * maps[n][2]))
    loc_parts, conf_parts = [], []
    for a, b in zip(loc, conf):
        boxes = maps[a][0] // 4
        if maps[a][1:] != maps[b][1:] or not boxes or maps[a][0] % 4 or maps[b][0] % boxes:
            return None
        count = boxes * maps[a][1] * maps[a][2]
        loc_parts.append(_Part(a, count, 4, "map"))
        conf_parts.append(_Part(b, count, maps[b][0] // boxes, "map"))
    return loc_parts, conf_parts


def are_boxes(values: list[np.ndarray]) -> bool:
    """Whether "offsets" are finished boxes: x1 < x2 and y1 < y2 for every prior, whatever the image.

    Offsets of a trained network are centers and sizes, of either sign: half of them would fail, in each of the images.
    """
    return all(bool((v[:, 0] < v[:, 2]).all() and (v[:, 1] < v[:, 3]).all()) for v in values)


def are_in_pixels(values: list[np.ndarray]) -> bool:
    """Whether finished boxes are in pixels, and not shares of the input."""
    return any(float(np.median(np.abs(v[:, 2:]))) > _MOST_SHARE for v in values)
