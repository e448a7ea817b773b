"""A network made ready for inference gives what it gave before."""

from __future__ import annotations

import copy
import logging

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from edge_ssd.engines.torch_network import Convolution, fuse_relu, prepare  # noqa: E402
from edge_ssd.networks import build_model  # noqa: E402

pytestmark = pytest.mark.torch


def with_statistics(network):
    """Gives every batch norm statistics and factors as after training; they are 0 and 1 in a new network."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.running_mean, -0.5, 0.5),
                (module.running_var, 0.5, 2.0),
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -0.5, 0.5),
            ):
                tensor.copy_(low + (high - low) * torch.rand(tensor.shape, generator=generator))
    return network.eval()


def small_network():
    torch.manual_seed(0)
    return with_statistics(build_model("ssd320_resnet16", 3, input_size=96))


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(
    ("arch", "options", "side"),
    [
        ("ssd320_resnet16", {"input_size": 96}, 96),
        ("ssdlite320_mobilenet_v3_large", {}, 320),
        ("ssd300_vgg16", {}, 300),
    ],
)
def test_the_folded_network_gives_what_the_original_gives(arch, options, side):
    torch.manual_seed(0)
    network = with_statistics(build_model(arch, 3, **options))
    folded = prepare(copy.deepcopy(network))
    batch = noise(1, 3, side, side)
    with torch.inference_mode():
        for expected, found in zip(network(batch), folded(batch)):
            assert expected.abs().max() > 0.01
            # Sums in another order; relative to the largest, for the seed's weights give outputs of any size.
            assert (expected - found).abs().max() <= 1e-4 * max(1.0, expected.abs().max())
    kinds = {type(module) for module in folded.modules()}
    assert nn.Conv2d not in kinds
    assert nn.BatchNorm2d not in kinds
    assert not any(p.requires_grad for p in folded.parameters())


def test_every_relu_of_a_vgg_is_part_of_its_convolution():
    network = prepare(build_model("ssd300_vgg16", 3))
    assert not any(isinstance(module, nn.ReLU) for module in network.modules())
    layers = [module for module in network.modules() if isinstance(module, Convolution)]
    assert sum(layer.relu for layer in layers) == 13 + 2 + 8  # VGG's, fc6 and fc7, the extra layers
    assert sum(not layer.relu for layer in layers) == 12  # the predictors


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_batch_norm_is_folded_with_its_own_constants(affine, bias):
    norm = nn.BatchNorm2d(4, eps=1e-3, affine=affine)
    network = with_statistics(nn.Sequential(nn.Conv2d(3, 4, 3, bias=bias), norm)) if affine else None
    if network is None:
        network = nn.Sequential(nn.Conv2d(3, 4, 3, bias=bias), norm).eval()
        norm.running_mean.copy_(noise(4))
        norm.running_var.copy_(noise(4).exp())
    batch = noise(2, 3, 8, 8)
    with torch.inference_mode():
        expected = network(batch)
        torch.testing.assert_close(prepare(copy.deepcopy(network))(batch), expected, atol=1e-5, rtol=1e-5)


def test_what_is_not_next_in_a_sequence_stays_apart():
    """In a module of its own the order of the children says nothing."""

    class Reordered(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.relu = nn.Conv2d(3, 3, 1), nn.ReLU()

        def forward(self, x):
            return self.conv(self.relu(x))

    for network in (Reordered(), nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU6(), nn.ReLU())):
        batch = noise(1, 3, 4, 4)
        expected = network(batch)
        prepared = prepare(network)
        torch.testing.assert_close(prepared(batch), expected)
        assert any(isinstance(module, nn.ReLU) for module in prepared.modules())


@pytest.mark.parametrize("options", [{"padding_mode": "reflect", "padding": 1}, {"padding": "same"}])
def test_convolutions_of_another_kind_are_left_as_they_are(options):
    network = nn.Sequential(nn.Conv2d(3, 4, 3, **options), nn.BatchNorm2d(4), nn.ReLU()).eval()
    batch = noise(1, 3, 8, 8)
    expected = network(batch)
    torch.testing.assert_close(prepare(network)(batch), expected)


def test_weights_are_channels_last_and_half_where_asked():
    network = prepare(small_network(), half=True)
    for layer in network.modules():
        if isinstance(layer, Convolution):
            assert layer.weight.dtype == layer.bias.dtype == torch.float16
            assert layer.weight.is_contiguous(memory_format=torch.channels_last)


def test_a_float32_island_ends_at_the_next_convolution():
    """conv4_3 is normalised in float32: the sum of 512 squares overflows float16."""
    network = prepare(build_model("ssd300_vgg16", 3), half=True).eval()
    maps = [torch.rand(1, channels, 3, 3) for channels in network.backbone.out_channels]  # float32
    with torch.inference_mode():
        loc, conf = network.head(maps)
    assert loc.dtype == conf.dtype == torch.float16
    assert torch.isfinite(loc).all()


@pytest.fixture
def fused_on_the_cpu(monkeypatch):
    """cuDNN's fused operation in the place that torch has it; calls: how often."""

    def convolution_relu(x, weight, bias, stride, padding, dilation, groups):
        calls.append(1)
        return functional.relu(functional.conv2d(x, weight, bias, stride, padding, dilation, groups))

    calls = []
    monkeypatch.setattr(torch, "cudnn_convolution_relu", convolution_relu)
    return calls


def is_fused(network):
    return [
        module.is_fused for module in network.modules() if isinstance(module, Convolution) and module.relu
    ]


def test_the_fused_operation_is_taken_where_it_gives_the_same(fused_on_the_cpu, caplog):
    network = prepare(small_network())
    assert fuse_relu(network, noise(1, 3, 96, 96))
    assert all(is_fused(network))
    assert len(is_fused(network)) == len(fused_on_the_cpu)
    assert caplog.messages == []


@pytest.mark.parametrize("error", [0.2, float("nan")], ids=["departs", "gives NaN"])
def test_a_fused_operation_that_departs_is_dropped_with_one_line(monkeypatch, caplog, error):
    def wrong(x, weight, bias, *geometry):
        return functional.relu(functional.conv2d(x, weight, bias, *geometry)) + error

    monkeypatch.setattr(torch, "cudnn_convolution_relu", wrong)
    network = prepare(small_network())
    batch = noise(1, 3, 96, 96)
    with torch.inference_mode():
        expected = network(batch)
        assert not fuse_relu(network, batch)
        for before, after in zip(expected, network(batch)):
            torch.testing.assert_close(before, after)
    (message,) = caplog.messages
    assert message.startswith("convolution and ReLU stay separate steps: fused, loc is off by ")


def test_a_fused_operation_that_fails_is_dropped_with_one_line(caplog):
    """On the CPU the real one fails: it is cuDNN's."""
    network = prepare(small_network())
    with caplog.at_level(logging.WARNING, "edge_ssd"):
        assert not fuse_relu(network, noise(1, 3, 96, 96))
    assert not any(is_fused(network))
    (message,) = caplog.messages
    assert "cudnn_convolution_relu" in message
    assert "\n" not in message


def test_the_fused_operation_takes_what_the_layer_gives_it():
    """Names and order of the arguments, as torch declares them."""
    arguments = torch.ops.aten.cudnn_convolution_relu.default._schema.arguments
    assert [a.name for a in arguments] == [
        "self",
        "weight",
        "bias",
        "stride",
        "padding",
        "dilation",
        "groups",
    ]
