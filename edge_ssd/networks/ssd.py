"""The SSD network (arXiv:1512.02325): any base that gives feature maps, and a head on each of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..spec import InputSpec, OutputSpec, PostprocessSpec, PriorLevel, PriorSpec, SsdSpec
from .heads import SsdHead


@dataclass(frozen=True)
class Layout:
    """What an architecture is besides its layers.

    input_size: (height, width), pixels.   mean, std: RGB, on the 0..255 scale.
    levels: default boxes by the name of their sizes.   priors: the name of those that the heads are for.
    """

    arch: str
    input_size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    levels: dict[str, tuple[PriorLevel, ...]]
    priors: str
    postprocess: PostprocessSpec

    @property
    def boxes_per_cell(self) -> tuple[int, ...]:
        """Default boxes of a cell, per feature map."""
        return tuple(len(level.sizes) for level in self.levels[self.priors])


class Ssd(nn.Module):
    """A base network and the heads on its feature maps.

    backbone: (B, 3, H, W) -> list of maps (B, channels, rows, columns), finest first, as many and of the
    sizes that `layout.levels` lists; its `out_channels` gives their channels. Any classification network
    that is cut before its pooling will do, with what is put behind it for the coarser maps.
    head: list of maps -> loc, conf; see `SsdHead`.   num_classes: background included.
    neck: list of maps -> list of maps of the same sizes, between the two; None for none.
    options: what `build_model` was told besides the class count, to build the same network again.
    """

    def __init__(
        self,
        layout: Layout,
        backbone: nn.Module,
        head: SsdHead,
        num_classes: int,
        options: Mapping[str, Any] | None = None,
        neck: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.layout = layout
        self.backbone = backbone
        self.neck = neck
        self.head = head
        self.num_classes = num_classes
        self.options = dict(options or {})

    @property
    def arch(self) -> str:
        """Name of the architecture, as `build_model` knows it."""
        return self.layout.arch

    def forward(self, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 3, H, W), normalised -> loc (B, P, 4) offsets, conf (B, P, C) class logits, column 0 background."""
        maps = self.backbone(batch)
        return self.head(maps if self.neck is None else self.neck(maps))

    def spec(self, class_names: Sequence[str], priors: str = "") -> SsdSpec:
        """The SsdSpec of this network.

        class_names: the foreground classes, in the order of conf's columns 1, 2, ...
        priors: name of a set of default box sizes, see `layout.levels`; those that the heads are for when empty.
        Raises ValueError when the count of names does not fit, no such set exists or it has other boxes per cell.
        """
        if len(class_names) != self.num_classes - 1:
            raise ValueError(
                f"class_names: expected {self.num_classes - 1} names for {self.arch} with "
                f"{self.num_classes} columns (background included), got {len(class_names)}"
            )
        priors = priors or self.layout.priors
        if priors not in self.layout.levels:
            known = ", ".join(self.layout.levels)
            raise ValueError(f"priors: expected one of {known} for {self.arch}, got {priors!r}")
        levels = self.layout.levels[priors]
        counts = tuple(len(level.sizes) for level in levels)
        if counts != self.layout.boxes_per_cell:
            raise ValueError(
                f"priors: the heads of this {self.arch} are for {self.layout.priors!r}, with "
                f"{_listed(self.layout.boxes_per_cell)} boxes per cell; {priors!r} has {_listed(counts)}"
            )
        height, width = self.layout.input_size
        return SsdSpec(
            name=self.arch,
            input=InputSpec("image", height, width, "rgb", self.layout.mean, self.layout.std),
            outputs=OutputSpec("loc", "conf"),
            class_names=tuple(class_names),
            background_index=0,
            score_activation="softmax",
            loc_order="cxcywh",
            variance=(0.1, 0.2),
            priors=PriorSpec(levels),
            postprocess=self.layout.postprocess,
        )


def _listed(counts: Iterable[int]) -> str:
    return ", ".join(map(str, counts))
