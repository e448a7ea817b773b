"""Layers that more than one base uses."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


class ConvNorm(nn.Sequential):
    """What `conv_norm` makes. In float32 where BF16 on the CPU would be wrong, under autocast, too.

    oneDNN's BF16 gradient of a depthwise kernel is wrong on channels-last maps that are narrower than the stride:
    weights that only ever lie over the padding get what happens to be in memory instead of 0 (torch 2.13, AVX-512
    with BF16: up to 1e38, infinity and NaN). The last map of SSDLite is one column wide
    before a stride of 2 on inputs up to 256 pixels. In float32 the gradient is right.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H / stride, W / stride)."""
        if not (self.training and _has_wrong_gradient(self[0], input)):
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.float())


def _has_wrong_gradient(conv: nn.Module, x: torch.Tensor) -> bool:
    """Whether oneDNN's BF16 gradient of a layer's weights is not to be trusted; see ConvNorm."""
    return (
        torch.is_autocast_enabled("cpu")  # first, so that a traced network has no branch here
        and isinstance(conv, nn.Conv2d)
        and conv.groups > 1
        and x.device.type == "cpu"
        and x.shape[-1] < conv.stride[1]
    )


def conv_norm(
    in_channels: int,
    out_channels: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    activation: type[nn.Module] | None = None,
) -> ConvNorm:
    """Convolution that keeps the size (divided by the stride), batch norm, activation.

    kernel: side, odd, pixels.   activation: class of the activation; None for none.
    The norm's constants are those of torchvision's SSDLite.
    """
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    layers: list[nn.Module] = [conv, nn.BatchNorm2d(out_channels, eps=1e-3, momentum=0.03)]
    if activation is not None:
        layers.append(activation(inplace=True))
    return ConvNorm(*layers)


def xavier_init(module: M) -> M:
    """Xavier weights and zero biases in every convolution of `module`, as the SSD paper's 3 trains new layers."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight)
            _zero_bias(layer)
    return module


def kaiming_init(module: M) -> M:
    """Kaiming weights for ReLU and zero biases in every convolution of `module`."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            _zero_bias(layer)
    return module


def normal_init(module: M) -> M:
    """Normal weights of deviation 0.03 and zero biases in every convolution, as torchvision trains SSDLite."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.03)
            _zero_bias(layer)
    return module


def conv_predictor(in_channels: int, out_channels: int) -> nn.Conv2d:
    """SSD's predictor: one 3 x 3 convolution (the paper's 2.1)."""
    return xavier_init(nn.Conv2d(in_channels, out_channels, 3, padding=1))


def lite_predictor(in_channels: int, out_channels: int) -> nn.Sequential:
    """SSDLite's predictor: depthwise 3 x 3, then 1 x 1 (arXiv:1801.04381, section 6.2)."""
    depthwise = conv_norm(in_channels, in_channels, 3, groups=in_channels, activation=nn.ReLU6)
    return normal_init(nn.Sequential(depthwise, nn.Conv2d(in_channels, out_channels, 1)))


def _zero_bias(layer: nn.Conv2d) -> None:
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
