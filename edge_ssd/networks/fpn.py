"""A feature pyramid (arXiv:1612.03144, section 3) between a base and the heads of an SSD."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from .layers import conv_norm, kaiming_init


class PyramidNeck(nn.Module):
    """Adds to every map what the coarser ones know; an SSD's finest map is otherwise the least deep.

    channels: of the base's maps, finest first.   width: channels of every map that comes out.
    depthwise: the 3 x 3 convolution after the sum works on each channel alone, as SSDLite's heads do.
    """

    def __init__(self, channels: Sequence[int], width: int, depthwise: bool) -> None:
        super().__init__()
        self.lateral = nn.ModuleList([conv_norm(c, width, 1) for c in channels])
        groups = width if depthwise else 1
        self.smooth = nn.ModuleList(
            [conv_norm(width, width, 3, groups=groups, activation=nn.ReLU) for _ in channels]
        )
        self.out_channels = (width,) * len(channels)
        kaiming_init(self)

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """List of (B, channels, H, W), finest first -> list of (B, width, H, W) of the same sizes."""
        sums: list[torch.Tensor] = []
        for lateral, x in zip(reversed(self.lateral), reversed(maps)):
            x = lateral(x)
            if sums:
                # The size and not a factor of 2: maps may be odd, 19 from 10. Nearest, as the paper has it.
                x = x + F.interpolate(sums[-1], size=x.shape[2:], mode="nearest")
            sums.append(x)
        return [smooth(x) for smooth, x in zip(self.smooth, reversed(sums))]
