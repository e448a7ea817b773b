"""Gradients of depthwise layers in BF16 on the CPU, against float64."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from edge_ssd.networks.layers import conv_norm  # noqa: E402

pytestmark = pytest.mark.torch

CHANNELS = 16


def channels_last(tensor):
    """The same values in the order that a network in channels-last has them in, also where one column is enough."""
    _, channels, height, width = tensor.shape
    strides = (channels * height * width, 1, width * channels, channels)
    return torch.empty_strided(tensor.shape, strides).copy_(tensor)


def poison_free_memory():
    """Fills memory that is given out next with NaN: what is read before it is written shows."""
    _ = [torch.full((1 << power,), torch.nan) for power in range(4, 19) for _ in range(20)]


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize(
    ("size", "stride"), [((1, 1), 2), ((2, 1), 2), ((4, 1), 2), ((1, 2), 3), ((3, 3), 2)]
)
def test_gradient_of_a_map_narrower_than_the_stride_is_right_in_bf16(size, stride, kernel):
    torch.manual_seed(0)
    layer = conv_norm(CHANNELS, CHANNELS, kernel, stride, groups=CHANNELS).to(
        memory_format=torch.channels_last
    )
    images = channels_last(torch.randn(4, CHANNELS, *size))
    weight = layer[0].weight.detach().double().requires_grad_()
    exact = torch.nn.functional.conv2d(
        images.double(), weight, stride=stride, padding=kernel // 2, groups=CHANNELS
    )
    slope = torch.randn(exact.shape)
    exact.backward(slope.double())
    layer[1] = torch.nn.Identity()
    for _ in range(5):
        layer.zero_grad()
        poison_free_memory()
        with torch.autocast("cpu", torch.bfloat16):
            found = layer(images.bfloat16())
        poison_free_memory()
        found.backward(channels_last(slope).to(found.dtype))
        torch.testing.assert_close(layer[0].weight.grad.double(), weight.grad, rtol=0.05, atol=0.05)
