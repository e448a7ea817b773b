"""VGG16 as the base of SSD300 and SSD512 (the paper's sections 2.1 and 3, figure 2)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import nn

from .layers import kaiming_init, xavier_init

# Output channels of VGG16's 3 x 3 convolutions up to conv4_3, and of conv5; "pool": 2 x 2, stride 2.
_UP_TO_CONV4_3 = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool", 512, 512, 512)
_CONV5 = (512, 512, 512)
# Index in `features` of conv3_3's ReLU.
_CONV3_3 = 15

# (kernel, stride, padding)
Geometry = tuple[int, int, int]

# The extra layers: channels of the 1 x 1 and of the second convolution, and that one's Geometry.
_HALVE = (3, 2, 1)
_SHRINK = (3, 1, 0)
SSD300_EXTRAS = ((256, 512, _HALVE), (128, 256, _HALVE), (128, 256, _SHRINK), (128, 256, _SHRINK))
# Maps 64 32 16 8 4 2 1: the last 4 x 4 kernel, padded by 1, goes from 2 x 2 to 1 x 1 (as the authors' SSD512 has it).
SSD512_EXTRAS = (
    (256, 512, _HALVE),
    (128, 256, _HALVE),
    (128, 256, _HALVE),
    (128, 256, _HALVE),
    (128, 256, (4, 1, 1)),
)


class VggBase(nn.Module):
    """VGG16 cut after conv5_3, with fc6 and fc7 as convolutions and extra layers behind them.

    extras: see SSD300_EXTRAS.   Maps: normalised conv4_3, fc7, then one for each extra layer; with a
    finest_stride of 4 instead of 8, conv3_3 before them, normalised too.
    Parameter names are those of torchvision's ssd300_vgg16.
    """

    def __init__(self, extras: Sequence[tuple[int, int, Geometry]], finest_stride: int = 8) -> None:
        super().__init__()
        fine = (256,) if finest_stride == 4 else ()
        self.out_channels = (*fine, 512, 1024, *(out for _, out, _ in extras))
        self.features = nn.Sequential(*_vgg_layers(3, _UP_TO_CONV4_3))
        conv5 = [nn.MaxPool2d(2, 2), *_vgg_layers(512, _CONV5)]
        blocks = [nn.Sequential(*conv5, _atrous_fc())]
        channels = 1024
        for middle, out, geometry in extras:
            blocks.append(_extra_block(channels, middle, out, geometry))
            channels = out
        self.extra = nn.ModuleList(blocks)
        self.scale_weight = _scale(512)
        self.fine_scale_weight = _scale(256) if fine else None

    def forward(self, batch: torch.Tensor) -> list[torch.Tensor]:
        """(B, 3, H, W) -> list of maps, finest first."""
        maps, x = [], batch
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index == _CONV3_3 and self.fine_scale_weight is not None:
                maps.append(_scaled(x, self.fine_scale_weight))  # (B, 256, 75, 75) for SSD300
        maps.append(_scaled(x, self.scale_weight))  # conv4_3: (B, 512, 38, 38)
        for block in self.extra:
            x = block(x)
            maps.append(x)
        return maps


def _scale(channels: int) -> nn.Parameter:
    return nn.Parameter(torch.full((channels,), 20.0))  # the paper's 3.1: initial scale 20


def _scaled(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return l2_normalise(x) * weight.view(1, -1, 1, 1)


def l2_normalise(x: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) -> each pixel's vector divided by its length (ParseNet, used in the paper's 3.1).

    conv4_3 has larger features than the later maps. In float32 whatever autocast says: the sum of 512
    squares overflows float16. An all-zero pixel stays zero.
    """
    x = x.float()
    return x / torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_min(1e-12)


def _vgg_layers(in_channels: int, layout: Iterable[int | str]) -> list[nn.Module]:
    layers = []
    for out in layout:
        if isinstance(out, str):  # "pool"
            # Rounding up makes conv4 38 x 38 for an input of 300, as in Caffe; it changes nothing for even maps.
            layers.append(nn.MaxPool2d(2, 2, ceil_mode=True))
            continue
        layers += [kaiming_init(nn.Conv2d(in_channels, out, 3, padding=1)), nn.ReLU(inplace=True)]
        in_channels = out
    return layers


def _atrous_fc() -> nn.Sequential:
    """pool5 with stride 1, and fc6, fc7 as convolutions; fc6's dilation keeps its field of view (section 3)."""
    return xavier_init(
        nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1),
            nn.Conv2d(512, 1024, 3, padding=6, dilation=6),
            nn.ReLU(inplace=True),
            nn.Conv2d(1024, 1024, 1),
            nn.ReLU(inplace=True),
        )
    )


def _extra_block(in_channels: int, middle: int, out: int, geometry: Geometry) -> nn.Sequential:
    return xavier_init(
        nn.Sequential(
            nn.Conv2d(in_channels, middle, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(middle, out, *geometry),
            nn.ReLU(inplace=True),
        )
    )
