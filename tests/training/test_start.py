"""How a run begins: weights of other classes and sizes, and of ImageNet classifiers."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch.nn import functional as F  # noqa: E402

from edge_ssd import cli  # noqa: E402
from edge_ssd.networks import build_model  # noqa: E402
from edge_ssd.networks.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402
from edge_ssd.networks.layers import conv_norm  # noqa: E402
from edge_ssd.networks.mobilenet import STEM, InvertedResidual, mobilenet_v3_large  # noqa: E402
from edge_ssd.training.base_weights import load_base_weights  # noqa: E402
from edge_ssd.training.options import TrainOptions  # noqa: E402
from edge_ssd.training.published import PUBLISHED  # noqa: E402
from edge_ssd.training.run import RunOptions  # noqa: E402
from edge_ssd.training.start import _class_layers, _read_start, new_model, resumed_model, start_from  # noqa: E402

pytestmark = pytest.mark.torch

DATA = "demo://?seed=1&frames=8&scene=1&size=96x96"
SHORT = ["--epochs", "1", "--batch", "4", "--workers", "0", "--threads", "1", "--lr", "0", "--ema", "0"]
# torchvision's constants of a classifier's input, and an image of one colour in 0..255.
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
COLOR = np.array([200.0, 30.0, 90.0])


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_heads_of_other_classes_are_made_anew_and_the_rest_is_taken():
    source = build_model("ssd320_resnet16", 9, input_size=96)
    target = build_model("ssd320_resnet16", 3, input_size=128)
    before = target.state_dict()["head.classification_head.module_list.0.weight"].clone()
    text = start_from(target, source.state_dict(), "a.pt")
    state = target.state_dict()
    assert text.endswith("tensors taken; new: head.classification_head")
    for name, tensor in source.state_dict().items():
        if not name.startswith("head.classification_head"):
            assert torch.equal(state[name], tensor), name
    assert torch.equal(state["head.classification_head.module_list.0.weight"], before)


def test_a_neck_and_other_boxes_are_new():
    source = build_model("ssd320_resnet16", 3, input_size=96)
    target = build_model("ssd320_resnet16", 3, input_size=96, neck="fpn", priors=[[[9, 9]]] * 5)
    text = start_from(target, source.state_dict(), "a.pt")
    assert text.endswith("new: head.classification_head, head.regression_head, neck")


def test_a_finer_map_leaves_the_base_as_it_is():
    source = build_model("ssdlite320_mobilenet_v3_large", 3)
    target = build_model("ssdlite320_mobilenet_v3_large", 3, finest_stride=8)
    text = start_from(target, source.state_dict(), "a.pt")
    assert "new: head.classification_head, head.regression_head; not used: backbone.extra.2" in text


def test_weights_of_another_network_are_refused():
    target = build_model("ssd320_resnet16", 3, input_size=96)
    with pytest.raises(ValueError, match=r"a\.pt: holds no weights of ssd320_resnet16"):
        start_from(target, {"conv1.weight": torch.zeros(3)}, "a.pt")
    state = {**target.state_dict(), "backbone.stem.0.weight": torch.zeros(8, 3, 3, 3)}
    with pytest.raises(ValueError, match=r"backbone\.stem\.0\.weight: .* expects shape \(16, 3, 3, 3\)"):
        start_from(target, state, "a.pt")


@pytest.mark.parametrize("arch", ["ssd320_resnet16", "ssdlite320_mobilenet_v3_large"])
def test_classes_that_are_in_both_keep_their_rows_and_the_others_are_new(arch, tmp_path):
    # Training keeps the weights in another order of memory; the numbers are the same.
    source = build_model(arch, 4, input_size=96).to(memory_format=torch.channels_last)
    target = build_model(arch, 4, input_size=96)
    images = torch.rand(2, 3, 96, 96)
    for model in (source, target):
        torch.manual_seed(1)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    save_checkpoint(tmp_path / "a.pt", source, source.spec(["disc", "square", "star"]))
    weights, names = _read_start(tmp_path / "a.pt")
    text = start_from(target, weights, "a.pt", names, ("square", "zebra", "disc"))
    assert text.endswith("tensors taken; classes taken: square, disc; new: zebra")
    with torch.no_grad():
        old, new = source.eval()(images)[1], target.eval()(images)[1]
        # Background, square and disc are what they were, wherever they stand now.
        torch.testing.assert_close(new[..., [0, 1, 3]], old[..., [0, 2, 1]], rtol=1e-3, atol=1e-4)
    layer = next(_class_layers(target))
    rows, first = (state[layer].unflatten(0, (-1, 4)) for state in (target.state_dict(), before))
    assert torch.equal(rows[:, 2], first[:, 2])


def test_heads_of_as_many_but_other_classes_are_made_anew():
    source, target = (build_model("ssd320_resnet16", 3, input_size=96) for _ in range(2))
    before = [target.state_dict()[name].clone() for name in _class_layers(target)]
    text = start_from(target, source.state_dict(), "a.pt", ("disc", "square"), ("cat", "dog"))
    assert text.endswith("tensors taken; new: head.classification_head")
    for name, tensor in zip(_class_layers(target), before):
        assert torch.equal(target.state_dict()[name], tensor)


def test_heads_of_the_same_classes_are_taken_whole_and_those_without_names_by_number():
    source, target = (build_model("ssd320_resnet16", 3, input_size=96) for _ in range(2))
    text = start_from(target, source.state_dict(), "a.pt", ("cat", "dog"), ("cat", "dog"))
    assert text.endswith("tensors taken; classes taken: cat, dog")
    assert all(torch.equal(target.state_dict()[name], t) for name, t in source.state_dict().items())
    assert "by their number" in start_from(target, source.state_dict(), "a.pth", (), ("cat", "dog"))


def test_rows_of_heads_for_another_count_of_boxes_are_new():
    source = build_model("ssd320_resnet16", 3, input_size=96)
    target = build_model("ssd320_resnet16", 4, input_size=96, priors=[[[9, 9]]] * 5)
    text = start_from(target, source.state_dict(), "a.pt", ("a", "b"), ("a", "b", "c"))
    assert text.endswith("new: head.classification_head, head.regression_head")


def test_pulled_weights_are_known_by_name_and_their_people_stay(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("EDGE_SSD_CACHE", str(tmp_path))
    run = RunOptions(
        data=DATA,
        arch="ssdlite320_mobilenet_v3_large",
        out="x",
        input_size="96",
        weights="ssdlite320-coco",
    )
    with pytest.raises(FileNotFoundError, match="not on this machine yet; edge-ssd pull ssdlite320-coco"):
        new_model(run, TrainOptions(), ("person", "zebra crossing"))
    source = build_model("ssdlite320_mobilenet_v3_large", 91)
    torch.save(source.state_dict(), tmp_path / PUBLISHED["ssdlite320-coco"].file)
    model, _ = new_model(run, TrainOptions(), ("person", "zebra crossing"))
    assert "classes taken: person; new: zebra crossing" in capsys.readouterr().err
    layer = next(_class_layers(model))
    old, new = source.state_dict()[layer], model.state_dict()[layer]
    assert torch.equal(new.unflatten(0, (-1, 3))[:, :2], old.unflatten(0, (-1, 91))[:, :2])


GIVEN = {"arch": "ssd320_resnet16", "input_size": "96x96", "finest_stride": 8, "neck": "none"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"arch": "ssd300_vgg16"}, "arch: a.pt holds ssd320_resnet16, got ssd300_vgg16; leave --arch out"),
        ({"input_size": "192"}, "input_size: a.pt holds 96x96, got 192x192; leave --input-size out"),
        ({"finest_stride": 4}, "finest_stride: a.pt holds 8, got 4; leave --finest-stride out"),
        ({"neck": "fpn"}, "neck: a.pt holds none, got fpn; leave --neck out"),
        ({"priors": "even"}, "priors: a.pt holds coco, got even; leave --priors out"),
    ],
)
def test_another_network_than_that_of_the_run_to_resume_is_refused(given, message):
    model = build_model("ssd320_resnet16", 3, input_size=96)
    content = {"arch": model.arch, "options": model.options, "spec": model.spec(["a", "b"]).to_json()}
    priors = given.get("priors", "")
    wanted = {name: value for name, value in given.items() if name != "priors"}
    run = RunOptions(data=DATA, resume="a.pt", **{**GIVEN, **wanted})
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        resumed_model(run, content, ("a", "b"), priors)
    same, _ = resumed_model(RunOptions(data=DATA, resume="a.pt", **GIVEN), content, ("a", "b"), "coco")
    assert same.options == model.options


def test_fitted_boxes_of_the_run_to_resume_are_known_by_what_they_are(tmp_path):
    model = build_model("ssd320_resnet16", 3, input_size=96, neck="fpn", priors=[[[9, 9]]] * 5)
    spec = model.spec(["a", "b"])
    content = {"arch": model.arch, "options": model.options, "spec": spec.to_json()}
    spec.save(tmp_path / "same.json")
    replace(spec, priors=build_model("ssd320_resnet16", 3, input_size=96).spec(["a", "b"]).priors).save(
        tmp_path / "other.json"
    )
    run = RunOptions(data=DATA, resume="a.pt", neck="fpn")
    resumed_model(run, content, ("a", "b"), str(tmp_path / "same.json"))
    for priors in ("coco", str(tmp_path / "other.json")):
        with pytest.raises(ValueError, match=r"priors: a\.pt holds boxes of a file, got "):
            resumed_model(run, content, ("a", "b"), priors)


def test_train_says_what_is_new_and_goes_on_from_the_rest(tmp_path, capsys):
    source = build_model("ssd320_resnet16", 4, input_size=128)
    save_checkpoint(tmp_path / "a.pt", source, source.spec(["x", "y", "z"]))
    command = ["train", "--data", DATA, "--arch", "ssd320_resnet16", "--input-size", "96", *SHORT]
    assert cli.main([*command, "--weights", str(tmp_path / "a.pt"), "--out", str(tmp_path / "run")]) == 0
    assert "tensors taken; new: head.classification_head" in capsys.readouterr().err
    content = load_checkpoint(tmp_path / "run" / "last.pt")
    name = "backbone.stem.0.weight"
    assert torch.equal(content["model"][name], source.state_dict()[name])
    assert json.loads(content["spec"])["input"]["height"] == 96


class Classifier(torch.nn.Module):
    """MobileNetV3-Large as torchvision's classifier names its layers, with random batch norms."""

    def __init__(self):
        super().__init__()
        layers, channels = [conv_norm(3, STEM, 3, stride=2, activation=torch.nn.Hardswish)], STEM
        for block in mobilenet_v3_large(reduced_tail=False):
            layers.append(InvertedResidual(channels, block))
            channels = block.out
        layers.append(conv_norm(channels, 6 * channels, 1, activation=torch.nn.Hardswish))
        self.features = torch.nn.Sequential(*layers)
        for module in self.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
                torch.nn.init.uniform_(module.running_var, 0.5, 2)


def batch_of(color, size=96):
    return torch.tensor(color, dtype=torch.float32).view(1, 3, 1, 1).expand(1, 3, size, size)


def test_mobilenet_gives_what_the_classifier_gave(tmp_path):
    torch.manual_seed(0)
    classifier = Classifier().eval()
    torch.save({**classifier.state_dict(), "classifier.0.weight": torch.zeros(2, 2)}, tmp_path / "c.pth")
    model = build_model("ssdlite320_mobilenet_v3_large", 3, reduced_tail=False, input_size=96).eval()
    spec = model.spec(["a", "b"])
    assert load_base_weights(model, tmp_path / "c.pth", spec) == "the extra layers and the heads"
    theirs = batch_of((COLOR / 255 - MEAN) / STD)
    ours = batch_of((COLOR - spec.input.mean) / spec.input.std)
    with torch.no_grad():
        # Where no padding reaches, the stem is the same.
        stem = classifier.features[0](theirs)[..., 1:, 1:], model.backbone.features[0][0](ours)[..., 1:, 1:]
        torch.testing.assert_close(stem[1], stem[0], rtol=1e-4, atol=1e-4)
        # Behind the stem, on the same input, every layer is.
        x = torch.rand(1, STEM, 24, 24)
        expected = y = x
        for layer in classifier.features[1:]:
            expected = layer(expected)
        for part in (*model.backbone.features[0][1:], model.backbone.features[1]):
            y = part(y)
        torch.testing.assert_close(y, expected)


@pytest.fixture(scope="module")
def vgg16():
    """Random weights of torchvision's vgg16, its classifier's biases numbered."""
    rng = torch.Generator().manual_seed(0)
    channels = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    state = {}
    for i, (index, a, b) in enumerate(
        zip((0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28), channels, channels[1:])
    ):
        state[f"features.{index}.weight"] = torch.randn(b, a, 3, 3, generator=rng) * 0.05
        state[f"features.{index}.bias"] = torch.full((b,), float(i))
    state["classifier.0.weight"] = torch.zeros(4096, 25088)
    state["classifier.0.weight"][8, 2 * 49 + 3 * 7 + 6] = 7.0  # output 8, channel 2, row 3, column 6
    state["classifier.3.weight"] = torch.zeros(4096, 4096)
    state["classifier.3.weight"][4, 12] = 5.0
    state["classifier.0.bias"] = state["classifier.3.bias"] = torch.arange(4096.0)
    return state


def test_vgg_takes_every_fourth_channel_and_third_cell_of_the_classifier(vgg16, tmp_path):
    torch.save(vgg16, tmp_path / "v.pth")
    model = build_model("ssd300_vgg16", 3)
    spec = model.spec(["a", "b"])
    assert load_base_weights(model, tmp_path / "v.pth", spec) == "the extra layers and the heads"
    state = model.backbone.state_dict()
    fc6, fc7 = state["extra.0.7.1.weight"], state["extra.0.7.3.weight"]
    assert torch.nonzero(fc6).tolist() == [[2, 2, 1, 2]]
    assert torch.nonzero(fc7).tolist() == [[1, 3, 0, 0]]
    assert state["extra.0.7.3.bias"].tolist() == list(range(0, 4096, 4))
    assert torch.equal(state["extra.0.5.weight"], vgg16["features.28.weight"])
    assert state["features.21.bias"][0] == 9
    theirs = F.conv2d(
        batch_of((COLOR / 255 - MEAN) / STD, 8), vgg16["features.0.weight"], vgg16["features.0.bias"]
    )
    ours = F.conv2d(
        batch_of(COLOR - spec.input.mean, 8), state["features.0.weight"], state["features.0.bias"]
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_vgg_features_without_a_classifier_are_taken_as_caffes(vgg16, tmp_path):
    nothing = {name: torch.full_like(t, torch.nan) for name, t in vgg16.items() if "classifier" in name}
    torch.save({**vgg16, **nothing}, tmp_path / "v.pth")
    model = build_model("ssd300_vgg16", 3)
    rest = load_base_weights(model, tmp_path / "v.pth", model.spec(["a", "b"]))
    assert rest.startswith("fc6 and fc7 (the file has none)")
    assert torch.equal(model.backbone.state_dict()["features.0.weight"], vgg16["features.0.weight"])


def test_base_weights_that_do_not_fit_are_refused(tmp_path):
    torch.save({"features.0.weight": torch.zeros(2)}, tmp_path / "v.pth")
    model = build_model("ssd300_vgg16", 3)
    with pytest.raises(
        ValueError, match=r"'features\.0\.bias' is missing; expected torchvision's classifier"
    ):
        load_base_weights(model, tmp_path / "v.pth", model.spec(["a", "b"]))
    small = build_model("ssd320_resnet16", 3, input_size=96)
    with pytest.raises(ValueError, match="base_weights: there are none for ssd320_resnet16"):
        load_base_weights(small, tmp_path / "v.pth", small.spec(["a", "b"]))


def test_train_from_a_classifier_has_the_full_tail(tmp_path, capsys):
    torch.save(Classifier().state_dict(), tmp_path / "c.pth")
    command = [
        "train",
        "--data",
        DATA,
        "--arch",
        "ssdlite320_mobilenet_v3_large",
        "--input-size",
        "96",
        *SHORT,
    ]
    assert cli.main([*command, "--base-weights", str(tmp_path / "c.pth"), "--out", str(tmp_path)]) == 0
    assert "c.pth: new: the extra layers and the heads" in capsys.readouterr().err
    assert load_checkpoint(tmp_path / "last.pt")["options"]["reduced_tail"] is False
