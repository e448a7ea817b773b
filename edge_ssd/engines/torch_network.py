"""A torch network made ready for inference: batch norm folded away, convolution and ReLU as one step."""

from __future__ import annotations

import logging
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn import functional

log = logging.getLogger("edge_ssd")

# How far the fused path may lie from the plain one, of the largest output: both round to float16, but after
# different steps, which makes some tenths of a percent in twenty layers.
_TOLERANCE = 0.02

# More than the largest layers of an SSD take: its free memory is what the next ones are given.
_POISONED_BYTES = 64 << 20

Network = TypeVar("Network", bound=nn.Module)


class Convolution(nn.Module):
    """A convolution, the batch norm behind it folded in, and the ReLU behind that.

    conv: nn.Conv2d, its padding in numbers.   norm: nn.BatchNorm2d as it is in evaluation, or None.
    relu: whether one follows.
    is_fused: cuDNN does convolution, bias and ReLU in one kernel; see `fuse_relu`.
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d | None = None, relu: bool = False) -> None:
        super().__init__()
        weight, bias = _folded(conv, norm)
        self.weight, self.bias = nn.Parameter(weight, False), nn.Parameter(bias, False)
        # Any, since the padding of an nn.Conv2d may be text, too; that of a plain one is not.
        self.geometry: tuple[Any, ...] = (conv.stride, conv.padding, conv.dilation, conv.groups)
        self.relu = relu
        self.is_fused = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, channels, H, W), cast to the weights' type (a float32 island before it ends here) -> a new map."""
        x = x.to(self.weight.dtype)
        if self.is_fused:
            return torch.cudnn_convolution_relu(x, self.weight, self.bias, *self.geometry)
        x = functional.conv2d(x, self.weight, self.bias, *self.geometry)
        return functional.relu_(x) if self.relu else x


def prepare(network: Network, half: bool = False) -> Network:
    """The network for inference, changed in place: convolutions folded, weights in channels-last order.

    half: weights in float16. What a network computes in float32 of its own accord stays that.
    """
    network.eval().requires_grad_(False)
    _fold_children(network)
    if half:
        network.half()
    # The annotations of Module.to leave out what its documentation has.
    return network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


@torch.inference_mode()
def fuse_relu(network: nn.Module, batch: torch.Tensor) -> bool:
    """Has cuDNN do convolution, bias and ReLU at once, where it gives what the separate steps give.

    network: prepared, on the GPU.   batch: (B, 3, H, W), in the network's dtype, like the real ones.
    Whether it is done; where it fails or departs, the network stays as it was and one line is logged.
    """
    plain = network(batch)
    layers = [module for module in network.modules() if isinstance(module, Convolution) and module.relu]
    _set_fused(layers, True)
    try:
        if batch.is_cuda:
            network(batch)  # algorithms are tried out, which writes every output several times
            _poison_free_memory(batch)
        problem = _departure(plain, network(batch))
    except RuntimeError as error:
        problem = str(error).split("\n")[0]
    if problem:
        _set_fused(layers, False)
        log.warning("convolution and ReLU stay separate steps: %s", problem)
    return not problem


def _poison_free_memory(batch):
    """Has a GPU's next outputs begin as NaN: the fused step is given its own output, not yet written, as an addend
    with the factor 0, and where cuDNN really adds that, what lay there before is in the result."""
    torch.cuda.empty_cache()
    count = _POISONED_BYTES // batch.element_size()
    # In falling sizes, held together: what is free beside the outputs that are still held is filled, too.
    _ = [batch.new_full((count >> i,), float("nan")) for i in range(8)]


def _set_fused(layers, is_fused):
    for layer in layers:
        layer.is_fused = is_fused


def _departure(plain, found):
    """What is wrong with the fused outputs, as text; empty when nothing is."""
    for name, expected, given in zip(("loc", "conf"), plain, found):
        expected, given = expected.float(), given.float()
        limit = _TOLERANCE * float(expected.abs().max())
        largest = float((expected - given).abs().max())
        if not largest <= limit:  # a NaN is one, too
            return f"fused, {name} is off by {largest:.3g}, allowed are {limit:.3g}"
    return ""


def _fold_children(module):
    """Puts a Convolution in the place of every nn.Conv2d, and takes up what follows it in a Sequential."""
    children = dict(module.named_children())
    names = list(children)
    for i, (name, child) in enumerate(children.items()):
        if not _is_plain(child):
            _fold_children(child)
            continue
        # Elsewhere the order of the children says nothing about what is computed after what.
        following = [children[n] for n in names[i + 1 :]] if isinstance(module, nn.Sequential) else []
        norm = following.pop(0) if following and _is_foldable(following[0]) else None
        relu = bool(following) and type(following[0]) is nn.ReLU
        setattr(module, name, Convolution(child, norm, relu))
        for taken in names[i + 1 : i + 1 + (norm is not None) + relu]:
            setattr(module, taken, nn.Identity())  # so that the others keep their places


def _is_plain(module):
    """Whether `Convolution` can stand for it."""
    return (
        type(module) is nn.Conv2d and module.padding_mode == "zeros" and not isinstance(module.padding, str)
    )


def _is_foldable(module):
    """Whether it is a batch norm that is a plain factor and offset in evaluation."""
    return type(module) is nn.BatchNorm2d and module.running_var is not None


def _folded(conv, norm):
    """Weight and bias of a convolution that does its batch norm too, computed in float64."""
    weight = conv.weight.detach().double()
    bias = weight.new_zeros(len(weight)) if conv.bias is None else conv.bias.detach().double()
    if norm is not None:
        scale = (norm.running_var.double() + norm.eps).rsqrt()
        if norm.affine:
            scale = scale * norm.weight.detach().double()
        weight = weight * scale[:, None, None, None]
        bias = (bias - norm.running_mean.double()) * scale
        if norm.affine:
            bias = bias + norm.bias.detach().double()
    return weight.to(conv.weight.dtype), bias.to(conv.weight.dtype)
