"""MobileNetV3 as the base of SSDLite (arXiv:1905.02244; SSDLite: arXiv:1801.04381, section 6.2)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from .layers import conv_norm, normal_init

STEM = 16
# The strided block whose expansion is the last map of a stride.
STRIDED_BLOCKS = {4: 3, 8: 6, 16: 12}
# Output channels of the extra layers.
EXTRAS = (512, 256, 256, 128)


class Block(NamedTuple):
    """One row of a MobileNetV3 table (the paper's tables 1 and 2)."""

    kernel: int
    expanded: int
    out: int
    squeeze: bool
    activation: type[nn.Module]
    stride: int


def mobilenet_v3_large(reduced_tail: bool) -> tuple[Block, ...]:
    """Table 1. reduced_tail: the last blocks have half the channels, as networks trained for detection
    alone do (section 6.3); False for weights of a classification network."""
    relu, hard = nn.ReLU, nn.Hardswish
    tail = 80 if reduced_tail else 160
    return (
        Block(3, 16, 16, False, relu, 1),
        Block(3, 64, 24, False, relu, 2),
        Block(3, 72, 24, False, relu, 1),
        Block(5, 72, 40, True, relu, 2),
        Block(5, 120, 40, True, relu, 1),
        Block(5, 120, 40, True, relu, 1),
        Block(3, 240, 80, False, hard, 2),
        Block(3, 200, 80, False, hard, 1),
        Block(3, 184, 80, False, hard, 1),
        Block(3, 184, 80, False, hard, 1),
        Block(3, 480, 112, True, hard, 1),
        Block(3, 672, 112, True, hard, 1),
        Block(5, 672, tail, True, hard, 2),
        Block(5, 6 * tail, tail, True, hard, 1),
        Block(5, 6 * tail, tail, True, hard, 1),
    )


class MobileNetBase(nn.Module):
    """MobileNetV3-Large cut before its pooling, with extra layers behind it.

    finest_stride: of the first map, 16, 8 or 4.   reduced_tail: see `mobilenet_v3_large`; the published
    detection weights have it.
    Maps: the expansions of the strided blocks from that stride on, the last convolution of the table, then one
    for each extra layer, half the size each. Parameter names are those of torchvision's
    ssdlite320_mobilenet_v3_large.
    """

    def __init__(self, finest_stride: int = 16, reduced_tail: bool = True) -> None:
        super().__init__()
        blocks = mobilenet_v3_large(reduced_tail)
        stem = conv_norm(3, STEM, 3, stride=2, activation=nn.Hardswish)
        layers, channels = [], STEM
        for block in blocks:
            layers.append(InvertedResidual(channels, block))
            channels = block.out
        last = conv_norm(channels, 6 * channels, 1, activation=nn.Hardswish)
        # torchvision's two parts: cut inside the block that leaves stride 16, behind its expansion.
        cut = STRIDED_BLOCKS[16]
        self.features = nn.Sequential(
            nn.Sequential(stem, *layers[:cut], layers[cut].block[0]),
            nn.Sequential(layers[cut].block[1:], *layers[cut + 1 :], last),
        )
        taps = [STRIDED_BLOCKS[stride] for stride in (4, 8, 16) if stride >= finest_stride]
        self.fine_taps = tuple(tap + 1 for tap in taps[:-1])  # the stem comes first
        # With maps of stride 8 the boxes of five maps cover the whole input.
        extras = EXTRAS if finest_stride == 16 else EXTRAS[:2]
        widths = (6 * channels, *extras)
        self.extra = nn.ModuleList([_extra_block(a, b) for a, b in zip(widths, extras)])
        self.out_channels = (*(blocks[tap].expanded for tap in taps), *widths)
        normal_init(self)

    def forward(self, batch: torch.Tensor) -> list[torch.Tensor]:
        """(B, 3, H, W) -> list of maps, finest first."""
        maps, x = [], batch
        for index, layer in enumerate(self.features[0].children()):
            if isinstance(layer, InvertedResidual) and index in self.fine_taps:
                x = layer.block[0](x)
                maps.append(x)
                for part in list(layer.block)[1:]:
                    x = part(x)
            else:
                x = layer(x)
        maps.append(x)
        for block in (self.features[1], *self.extra):
            x = block(x)
            maps.append(x)
        return maps


class InvertedResidual(nn.Module):
    """Expand, filter each channel, weigh the channels, project (MobileNetV3's figure 4)."""

    def __init__(self, in_channels: int, block: Block) -> None:
        super().__init__()
        layers = []
        if block.expanded != in_channels:
            layers.append(conv_norm(in_channels, block.expanded, 1, activation=block.activation))
        layers.append(
            conv_norm(
                block.expanded,
                block.expanded,
                block.kernel,
                stride=block.stride,
                groups=block.expanded,
                activation=block.activation,
            )
        )
        if block.squeeze:
            layers.append(SqueezeExcite(block.expanded, _multiple_of_8(block.expanded // 4)))
        layers.append(conv_norm(block.expanded, block.out, 1))
        self.block = nn.Sequential(*layers)
        self.residual = block.stride == 1 and in_channels == block.out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, H, W) -> (B, out, H / stride, W / stride)."""
        y = self.block(x)
        return x + y if self.residual else y


class SqueezeExcite(nn.Module):
    """Weighs each channel by a gate that sees the mean of all of them (arXiv:1709.01507)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.activation = nn.ReLU()
        self.scale_activation = nn.Hardsigmoid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, channels, H, W) -> the same shape."""
        gate = self.activation(self.fc1(self.avgpool(x)))
        return x * self.scale_activation(self.fc2(gate))


def _extra_block(in_channels: int, out: int) -> nn.Sequential:
    middle = out // 2
    return nn.Sequential(
        conv_norm(in_channels, middle, 1, activation=nn.ReLU6),
        conv_norm(middle, middle, 3, stride=2, groups=middle, activation=nn.ReLU6),
        conv_norm(middle, out, 1, activation=nn.ReLU6),
    )


def _multiple_of_8(channels: int) -> int:
    """The nearest multiple of 8, at least 8, and not more than a tenth below `channels`."""
    rounded = max(8, (channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
