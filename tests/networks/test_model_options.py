"""Networks of other sizes, maps, necks and default boxes than the usual ones."""

from __future__ import annotations

import re

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from edge_ssd.networks import ARCHITECTURES, build_model, parse_input_size  # noqa: E402
from edge_ssd.networks.fpn import PyramidNeck  # noqa: E402
from edge_ssd.networks.receptive_field import Field, aligned, receptive_fields  # noqa: E402
from edge_ssd.priors import make_priors  # noqa: E402

pytestmark = pytest.mark.torch

NAMES = ["a", "b"]


def outputs(model):
    with torch.inference_mode():
        return model.eval()(torch.zeros(1, 3, *model.layout.input_size))


@pytest.mark.parametrize(
    ("arch", "options", "maps"),
    [
        ("ssd300_vgg16", {"finest_stride": 4}, [75, 38, 19, 10, 5, 3, 1]),
        ("ssd300_vgg16", {"input_size": 320, "neck": "fpn"}, [40, 20, 10, 5, 3, 1]),
        ("ssdlite320_mobilenet_v3_large", {"input_size": 192, "finest_stride": 8}, [24, 12, 6, 3, 2]),
        ("ssdlite320_mobilenet_v3_large", {"input_size": 96, "finest_stride": 4}, [24, 12, 6, 3, 2, 1]),
        ("ssdlite320_mobilenet_v3_large", {"input_size": 224, "neck": "fpn"}, [14, 7, 4, 2, 1, 1]),
        ("ssd320_resnet16", {"input_size": 96, "finest_stride": 4, "neck": "fpn"}, [24, 12, 6, 3, 2, 1]),
    ],
)
@pytest.mark.parametrize("priors", ["coco", "even"])
def test_heads_have_a_row_for_each_default_box(arch, options, maps, priors):
    model = build_model(arch, 3, **options, priors=priors)
    spec = model.spec(NAMES)
    loc, conf = outputs(model)
    assert [level.feature_size for level in spec.priors.levels] == [(side, side) for side in maps]
    assert loc.shape == (1, len(make_priors(spec)), 4)
    assert conf.shape == (1, len(make_priors(spec)), 3)


def test_input_need_not_be_square():
    model = build_model("ssd320_resnet16", 3, input_size=(96, 160))
    spec = model.spec(NAMES)
    assert spec.input.size == (96, 160)
    assert spec.priors.levels[0].feature_size == (12, 20)
    assert outputs(model)[0].shape[1] == len(make_priors(spec))


def test_default_boxes_grow_with_the_input():
    usual = build_model("ssd300_vgg16", 2).spec(["a"]).priors.levels
    larger = build_model("ssd300_vgg16", 2, input_size=600).spec(["a"]).priors.levels
    assert larger[1].sizes[0] == pytest.approx([2 * side for side in usual[1].sizes[0]])


def test_a_map_of_stride_4_has_smaller_boxes_than_the_next():
    for arch in ARCHITECTURES:
        first, second = build_model(arch, 2, finest_stride=4).spec(["a"]).priors.levels[:2]
        assert max(map(max, first.sizes)) < max(map(max, second.sizes)), arch
        assert min(map(min, first.sizes)) < min(map(min, second.sizes)), arch


def test_boxes_given_by_size_are_those_of_the_spec():
    sizes = [[[10, 20]], [[30, 30], [40, 20]], [[60, 60]], [[90, 90]], [[96, 96]]]
    model = build_model("ssd320_resnet16", 3, input_size=96, priors=sizes)
    spec = model.spec(NAMES)
    assert [[list(size) for size in level.sizes] for level in spec.priors.levels] == sizes
    assert outputs(model)[1].shape == (1, len(make_priors(spec)), 3)
    again = build_model("ssd320_resnet16", 3, **model.options)
    assert again.spec(NAMES) == spec


def test_heads_for_one_set_of_boxes_refuse_another():
    model = build_model("ssd320_resnet16", 3, input_size=96, priors=[[[9, 9]]] * 5)
    with pytest.raises(ValueError, match="boxes per cell; 'coco' has 7, 6, 6, 6, 6"):
        model.spec(NAMES, "coco")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_size": 310}, "input_size: expected a multiple of 4 from 300 on, got 310"),
        ({"input_size": 200}, "input_size: expected a multiple of 4 from 300 on, got 200"),
        ({"finest_stride": 2}, "finest_stride: expected one of 8, 4, got 2"),
        ({"neck": "pan"}, "neck: expected one of none, fpn, got 'pan'"),
        ({"priors": "many"}, "priors: expected one of coco, voc, even for ssd300_vgg16, got 'many'"),
        ({"priors": [[[1, 1]]]}, "priors: expected sizes for 6 feature maps, at least one each, got 1"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build_model("ssd300_vgg16", 3, **options)


def test_input_sizes_as_a_user_writes_them():
    assert [parse_input_size(text) for text in ("", "320", "240x320")] == [None, 320, (240, 320)]
    for text in ("big", "1x2x3", "x"):
        with pytest.raises(ValueError, match="input_size: expected a side or HEIGHTxWIDTH"):
            parse_input_size(text)


def test_a_pyramid_hands_what_coarse_maps_know_to_fine_ones_and_not_back():
    neck = PyramidNeck((4, 4), 8, depthwise=False).eval()
    fine, coarse = torch.rand(1, 4, 5, 5), torch.rand(1, 4, 3, 3)
    before = neck([fine, coarse])
    assert [tuple(x.shape) for x in before] == [(1, 8, 5, 5), (1, 8, 3, 3)]
    after = neck([fine, coarse + 1])
    assert not torch.allclose(after[0], before[0])
    torch.testing.assert_close(neck([fine + 1, coarse])[1], before[1])


def test_field_of_two_layers_worked_out_by_hand():
    # 3 x 3 with stride 2 and padding 1 on pixels: cell 0 sees pixels -1, 0, 1, their centre is 0.5; the next 3 x 3
    # sees cells -1, 0, 1, which are pixels -3 to 3.
    field = Field().after(3, 2, 1).after(3, 1, 1)
    assert (field.centre, field.step, field.size) == (0.5, 2, 7)
    assert field.variance == pytest.approx(8 / 12 + 8 / 12 * 4)


@pytest.mark.parametrize("arch", ["ssd320_resnet16", "ssdlite320_mobilenet_v3_large"])
def test_field_is_where_a_gradient_arrives(arch):
    base = build_model(arch, 2).backbone.eval()
    for parameter in base.parameters():
        parameter.data = parameter.data.abs() + 1e-3  # nothing cancels out, no ReLU is at 0
    for module in base.modules():
        if type(module).__name__ == "SqueezeExcite":
            module.forward = lambda x: x  # sees the whole input
    image = torch.ones(1, 3, 320, 320, dtype=torch.float64, requires_grad=True)
    finest, field = base.double()(image)[0], receptive_fields(arch)[0]
    cell = finest.shape[2] // 2
    finest[0, :, cell, cell].sum().backward()
    rows = np.flatnonzero(image.grad[0].abs().sum(dim=(0, 2)).numpy())
    assert rows[-1] + 1 - rows[0] == field.size
    assert (rows[-1] + 1 + rows[0]) / 2 == field.centre + cell * field.step


def test_aligned_boxes_lie_on_what_their_cells_see():
    levels = aligned(
        build_model("ssd320_resnet16", 2).spec(["a"]).priors.levels, receptive_fields("ssd320_resnet16")
    )
    assert [level.offset * level.step[0] for level in levels] == [0.5] * 5
    assert [level.step[0] for level in levels] == [8, 16, 32, 64, 128]


def test_every_network_has_fields_for_its_maps():
    for arch, architecture in ARCHITECTURES.items():
        for stride in architecture.finest_strides:
            maps = build_model(arch, 2, finest_stride=stride).spec(["a"]).priors.levels
            fields = receptive_fields(arch, stride)
            assert fields[0].step == stride
            assert len(fields) == len(maps)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_smallest_input_that_is_taken_gives_maps_with_cells(arch):
    model = build_model(arch, 2, input_size=ARCHITECTURES[arch].smallest)
    assert all(min(level.feature_size) >= 1 for level in model.spec(["a"]).priors.levels)
