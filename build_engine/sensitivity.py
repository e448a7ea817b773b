"""Which convolutions are to blame for what INT8 loses, and the fewest to keep in FP16 for a budget."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from .fp16 import norm_islands
from .graph import Graph, attribute
from .int8 import quantisable

FIRST, HEAD, DEPTHWISE, SQUEEZE, AFTER_NORM, OTHER = KINDS = (
    "first",
    "head",
    "depthwise",
    "squeeze-excite",
    "after L2 norm",
    "other",
)
# (loc, conf) of each image.
_Heads = Sequence[Sequence[np.ndarray]]
_POOLS = ("ReduceMean", "GlobalAveragePool")


@dataclass(frozen=True)
class Layer:
    """One convolution.

    name: of the node.   kind: of KINDS, the usual suspects first.
    gain: by how much the error of the heads falls when this one alone is not quantised, as a share of the
    error of full INT8; below 0 when the error grows.
    """

    name: str
    kind: str
    gain: float


def kind_of_layers(graph: Graph) -> dict[str, str]:
    """{name of a convolution: its kind}, in the order in which the kinds are suspected."""
    norms = set(norm_islands(graph))
    found = {}
    for node in quantisable(graph):
        made_by = _behind(graph, node)
        if node.input[0] not in graph.producer:
            kind = FIRST
        elif any(maker.name in norms for maker in made_by):
            kind = AFTER_NORM
        elif _is_last(graph, node):
            kind = HEAD
        elif attribute(node, "group", 1) > 1:
            kind = DEPTHWISE
        elif any(maker.op_type in _POOLS for maker in made_by):
            kind = SQUEEZE
        else:
            kind = OTHER
        found[node.name] = kind
    return dict(sorted(found.items(), key=lambda entry: KINDS.index(entry[1])))


def _behind(graph: Graph, node: NodeProto, steps: int = 5) -> list[NodeProto]:
    """The nodes that lead to the first input of a convolution, up to the next full-size convolution."""
    found: list[NodeProto] = []
    while len(found) < steps:
        maker = graph.producer.get(node.input[0])
        if maker is None:
            break
        found.append(maker)
        node = maker
    convs = [i for i, maker in enumerate(found) if maker.op_type == "Conv"]
    # Squeeze and excite has two convolutions in a row: one may lie between a pool and the other.
    return found[: convs[1]] if len(convs) > 1 else found


def _is_last(graph: Graph, node: NodeProto) -> bool:
    """Whether no convolution follows on any way to the outputs."""
    front, seen = list(node.output), set()
    while front:
        for reader in graph.consumers[front.pop()]:
            if reader.op_type == "Conv":
                return False
            if reader.name not in seen:
                seen.add(reader.name)
                front.extend(reader.output)
    return True


def measure(
    kinds: Mapping[str, str],
    heads_of: Callable[[tuple[str, ...] | None], _Heads],
    progress: Callable[[Iterable[str]], Iterable[str]] = iter,
) -> tuple[list[Layer], float]:
    """The Layers, the most to blame first, and the error of full INT8.

    kinds: {name: kind}.   progress: wraps the iteration over names.
    heads_of: function of the names that are kept in float, giving the outputs on some images as a list of
    (loc, conf); of None, those of the float model.

    The error is the distance of the heads from the float model's, over their size: 0.01 is one percent.
    """
    wanted = heads_of(None)
    full = _error(wanted, heads_of(()))
    layers = []
    for name in progress(list(kinds)):
        error = _error(wanted, heads_of((name,)))
        layers.append(Layer(name, kinds[name], (full - error) / full if full else 0.0))
    return sorted(layers, key=lambda layer: -layer.gain), full


def _error(wanted: _Heads, found: _Heads) -> float:
    """Mean over the two heads of |found - wanted| / |wanted|, in the sense of Euclid."""
    shares = []
    for column in range(2):
        apart = sum(
            float(np.square(f[column] - w[column], dtype=np.float64).sum()) for w, f in zip(wanted, found)
        )
        size = sum(float(np.square(w[column], dtype=np.float64).sum()) for w in wanted)
        shares.append((apart / size) ** 0.5 if size else 0.0)
    return sum(shares) / 2


def fewest_kept(
    layers: Sequence[Layer], loss_of: Callable[[tuple[str, ...]], float], budget: float
) -> tuple[tuple[str, ...], list[tuple[int, float]]]:
    """The shortest head of `layers` whose loss, when it is kept in float, is within the budget.

    layers: Layers, most to blame first.   loss_of: function of the names kept, AP points lost.
    The number is doubled until the budget holds, then halved in between.

    Returns the names (all of them when not even that helps), and [(number kept, loss)] as tried.
    """
    names = [layer.name for layer in layers]
    tried: list[tuple[int, float]] = []

    def holds(count: int) -> bool:
        tried.append((count, loss_of(tuple(names[:count]))))
        return tried[-1][1] <= budget

    low, high = -1, 0  # budget known to fail at, to be tried
    while not holds(high):
        if high == len(names):
            return tuple(names), tried
        low, high = high, min(len(names), max(1, 2 * high))
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle
    return tuple(names[:high]), tried
