"""Where in the input each cell of a feature map looks, from the layers alone (no run, no weights).

A default box is best placed over what its cell sees; the paper leaves that as future work (its section 2.2).
A convolution with stride 2 and padding 1 puts the centre of cell 0 half a pixel from the input's edge, not half a
step: after five of them, cells of stride 32 look 15.5 pixels up and left of their boxes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import fx, nn

from ..spec import PriorLevel
from . import ARCHITECTURES
from .mobilenet import SqueezeExcite


@dataclass(frozen=True)
class Field:
    """What the cells of a map see, along one axis, input pixels.

    centre: of cell 0.   step: from one cell to the next.   size: whole field.
    variance: of a uniform kernel's weights over the field, pixels^2.
    """

    centre: float = 0.5
    step: float = 1.0
    size: float = 1.0
    variance: float = 0.0

    @property
    def effective(self) -> float:
        """Width that holds 95 % of the influence, as if it were Gaussian (arXiv:1701.04128): 4 deviations."""
        return min(self.size, 4 * math.sqrt(self.variance))

    def after(self, kernel: int, stride: int, padding: int, dilation: int = 1) -> Field:
        """The Field behind a convolution or pooling."""
        reach = dilation * (kernel - 1)
        return Field(
            self.centre + (reach / 2 - padding) * self.step,
            self.step * stride,
            self.size + reach * self.step,
            self.variance + (kernel**2 - 1) / 12 * (dilation * self.step) ** 2,
        )


def receptive_fields(arch: str, finest_stride: int | None = None) -> list[Field]:
    """The Field of each feature map of the base of `arch` (see `build_model`), finest first.

    Squeeze-and-excite gates, which see the whole input, are left out.
    """
    architecture = ARCHITECTURES[arch]
    with torch.device("meta"):
        base = architecture.base(finest_stride or architecture.finest_strides[0])
    return _Walk(base).fields()


class _Tracer(fx.Tracer):
    """Takes a gate for one layer."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, SqueezeExcite) or super().is_leaf_module(m, module_qualified_name)


class _Walk:
    """Goes through a network's graph with a Field in place of a tensor."""

    def __init__(self, base: nn.Module) -> None:
        self.modules = dict(base.named_modules())
        self.graph = _Tracer().trace(base)

    def fields(self) -> list[Field]:
        """The Field of every map that the base returns."""
        found = {}
        for node in self.graph.nodes:
            if node.op == "output":
                return [found[item] for item in node.args[0]]
            if node.op == "placeholder":
                found[node] = Field()
            elif node.op == "call_module":
                found[node] = _through(self.modules[node.target], found[node.args[0]])
            else:
                found[node] = _joined([found[n] for n in node.all_input_nodes if found.get(n)])
        raise AssertionError("a graph ends with its output")


def _through(module: nn.Module, field: Field) -> Field:
    if not isinstance(module, (nn.Conv2d, nn.MaxPool2d)):
        return field
    kernel, stride, padding, dilation = (
        value if isinstance(value, int) else int(value[0])
        for value in (module.kernel_size, module.stride, module.padding, module.dilation)
    )
    return field.after(kernel, stride, padding, dilation)


def _joined(fields: Sequence[Field]) -> Field | None:
    """Of a sum or product: the widest; None for parameters and shapes, which see nothing."""
    if not fields:
        return None
    widest = max(fields, key=lambda field: field.size)
    return replace(widest, variance=sum(field.variance for field in fields) / len(fields))


def alignment_text(levels: Iterable[PriorLevel], fields: Iterable[Field]) -> str:
    """Each level's boxes beside its receptive field, as a table for people.

    levels: tuple of PriorLevel.   fields: list of Field.
    """
    lines = [
        f"{'map':>9} {'step':>7} {'boxes, sqrt(area)':>18} {'field':>6} {'effective':>9} {'centres off':>16}"
    ]
    for level, field in zip(levels, fields):
        scales = [math.sqrt(w * h) for w, h in level.sizes]
        off = level.offset * level.step[0] - field.centre
        cells = f"{level.feature_size[0]} x {level.feature_size[1]}"
        boxes = f"{min(scales):.0f} to {max(scales):.0f}"
        lines.append(
            f"{cells:>9} {level.step[0]:7.1f} {boxes:>18} {field.size:6.0f} {field.effective:9.0f} "
            f"{off:7.1f} px {off / level.step[0]:4.0%}"
        )
    return "\n".join(lines)


def aligned(levels: Iterable[PriorLevel], fields: Iterable[Field]) -> tuple[PriorLevel, ...]:
    """The levels with the boxes of every cell centred on what the cell sees.

    levels: tuple of PriorLevel.   fields: list of Field, one for each.
    """
    return tuple(
        replace(level, step=(field.step, field.step), offset=field.centre / field.step)
        for level, field in zip(levels, fields)
    )
