"""The networks: shapes, names of the parameters, default boxes, and what a torchvision of the same weights finds."""

from __future__ import annotations

import hashlib

import pytest

torch = pytest.importorskip("torch")

from edge_ssd.networks import ARCHITECTURES, build_model  # noqa: E402
from edge_ssd.networks.vgg import l2_normalise  # noqa: E402
from edge_ssd.priors import make_priors  # noqa: E402
from edge_ssd.spec import PriorLevel  # noqa: E402

pytestmark = pytest.mark.torch

# Tensors, and the first 16 digits of the SHA-256 of the sorted lines "name shape" of torchvision 0.28's
# ssd300_vgg16 and ssdlite320_mobilenet_v3_large (91 classes, no weights).
TORCHVISION_NAMES = {
    "ssd300_vgg16": (71, "37b8309da6ce732d"),
    "ssdlite320_mobilenet_v3_large": (476, "f716bcf8374cdea3"),
}
PRIORS = {
    "ssd300_vgg16": 8732,
    "ssd512_vgg16": 24564,
    "ssdlite320_mobilenet_v3_large": 3234,
    "ssd320_resnet16": 14404,
}


def listing(state):
    """Count and digest of the names and shapes in a state dict."""
    lines = sorted(f"{name} {tuple(tensor.shape)}" for name, tensor in state.items())
    return len(lines), hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def names(count):
    return [f"class {i}" for i in range(count)]


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_heads_have_one_row_for_each_prior_of_the_spec(arch):
    model = build_model(arch, 3).eval()
    spec = model.spec(names(2))
    with torch.inference_mode():
        loc, conf = model(torch.zeros(1, 3, *spec.input.size))
    assert len(make_priors(spec)) == PRIORS[arch]
    assert loc.shape == (1, PRIORS[arch], 4)
    assert conf.shape == (1, PRIORS[arch], 3)
    assert torch.isfinite(loc).all()
    assert torch.isfinite(conf).all()


@pytest.mark.parametrize("arch", TORCHVISION_NAMES)
def test_parameter_names_and_shapes_are_torchvisions(arch):
    assert listing(build_model(arch, 91).state_dict()) == TORCHVISION_NAMES[arch]


def test_full_tail_doubles_the_last_blocks_as_classification_weights_need():
    state = build_model("ssdlite320_mobilenet_v3_large", 2, reduced_tail=False).state_dict()
    assert state["backbone.features.1.3.0.weight"].shape == (960, 160, 1, 1)


@pytest.mark.parametrize(
    ("arch", "maps"),
    [
        ("ssd300_vgg16", [38, 19, 10, 5, 3, 1]),
        ("ssd512_vgg16", [64, 32, 16, 8, 4, 2, 1]),
        ("ssdlite320_mobilenet_v3_large", [20, 10, 5, 3, 2, 1]),
        ("ssd320_resnet16", [40, 20, 10, 5, 3]),
    ],
)
def test_feature_maps_have_the_sizes_of_the_spec(arch, maps):
    model = build_model(arch, 2).eval()
    levels = model.spec(names(1)).priors.levels
    with torch.inference_mode():
        found = [x.shape[2:] for x in model.backbone(torch.zeros(1, 3, *model.layout.input_size))]
    assert [level.feature_size for level in levels] == [(side, side) for side in maps]
    assert found == [(side, side) for side in maps]


def test_default_box_wider_than_the_input_is_limited_to_it_only_where_torchvision_does():
    model = build_model("ssd300_vgg16", 2)
    largest = {
        set_: max(max(size) for size in _sizes(model.spec(names(1), priors=set_))) for set_ in ("coco", "voc")
    }
    assert largest["coco"] == 300
    assert largest["voc"] == pytest.approx(264 * 2**0.5)


def _sizes(spec):
    return [size for level in spec.priors.levels for size in level.sizes]


def test_small_network_takes_other_input_sizes():
    model = build_model("ssd320_resnet16", 2, input_size=160).eval()
    spec = model.spec(names(1))
    with torch.inference_mode():
        loc, _ = model(torch.zeros(1, 3, 160, 160))
    assert loc.shape[1] == len(make_priors(spec))
    assert isinstance(spec.priors.levels[0], PriorLevel)


def test_small_network_is_at_most_12_megabytes():
    assert sum(p.numel() for p in build_model("ssd320_resnet16", 9).parameters()) * 4 < 12e6


def test_l2_norm_of_a_pixel_is_one_and_of_an_empty_pixel_zero():
    x = torch.zeros(1, 512, 1, 2)
    x[0, :, 0, 0] = 100.0  # the squares sum to 5e6, beyond float16
    y = l2_normalise(x.half())
    assert y.dtype == torch.float32
    assert y[0, :, 0, 0].norm() == pytest.approx(1)
    assert (y[0, :, 0, 1] == 0).all()


def test_conv4_3_starts_with_scale_20():
    assert (build_model("ssd300_vgg16", 2).backbone.scale_weight == 20).all()


def test_unknown_names_and_options_are_refused():
    with pytest.raises(ValueError, match=r"arch: expected one of ssd300_vgg16, .*, got 'yolo'"):
        build_model("yolo", 3)
    with pytest.raises(ValueError, match="num_classes: expected at least 2"):
        build_model("ssd300_vgg16", 1)
    with pytest.raises(ValueError, match="options: ssd300_vgg16 does not take reduced_tail"):
        build_model("ssd300_vgg16", 3, reduced_tail=True)
    with pytest.raises(ValueError, match="input_size: expected a multiple of 32"):
        build_model("ssd320_resnet16", 3, input_size=100)
    model = build_model("ssd320_resnet16", 3)
    with pytest.raises(ValueError, match="class_names: expected 2 names"):
        model.spec(names(3))
    with pytest.raises(ValueError, match="priors: expected one of coco"):
        model.spec(names(2), priors="voc")
