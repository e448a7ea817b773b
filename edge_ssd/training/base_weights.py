"""Weights of an ImageNet classifier as the start of a base: torchvision's files of VGG16 and MobileNetV3-Large.

Such a network was trained on (pixel / 255 - mean) / std. The first convolution is changed so that it gives the
same on the input that the detector's spec asks for (but where it reaches over the image's edge).
"""

from __future__ import annotations

import torch

from ..files import StrPath
from ..networks.checkpoint import read_weights
from ..networks.ssd import Ssd
from ..spec import InputSpec, SsdSpec

Weights = dict[str, torch.Tensor]

# torchvision's, RGB, of pixels in 0..1.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# fc6 has 7 x 7 cells, of which the outer and middle ones make a dilated 3 x 3; of its 4096 channels and fc7's, every
# fourth (the paper's section 3; DeepLab's arXiv:1412.7062).
_FC6_CELLS, _FC_CHANNELS = 3, 4


def load_base_weights(model: Ssd, path: StrPath, spec: SsdSpec, trusted: bool = False) -> str:
    """Puts the classifier's weights in the file `path` into the base of `model`; the rest stays as it is.

    model: an ssd300_vgg16 or ssd512_vgg16, or an ssdlite320_mobilenet_v3_large with the full tail.
    spec: the model's, for how its input is normalised.   trusted: as of `load_checkpoint`.

    Returns what was not in the file, as text. Raises FileNotFoundError; ValueError naming the parameter for weights
    of another network, or a network that no such file exists for.
    """
    convert = {"VggBase": _vgg, "MobileNetBase": _mobilenet}.get(type(model.backbone).__name__)
    if convert is None:
        raise ValueError(f"base_weights: there are none for {model.arch}; see edge-ssd train -h")
    state = {
        name: tensor.float()
        for name, tensor in read_weights(path, trusted).items()
        if tensor.is_floating_point()
    }
    try:
        weights, rest = convert(state, spec.input)
    except KeyError as error:
        raise ValueError(
            f"{path}: {error} is missing; expected torchvision's classifier for {model.arch}"
        ) from None
    base = model.backbone.state_dict()
    for name, tensor in weights.items():
        if base[name].shape != tensor.shape:
            raise ValueError(
                f"{path}: {name}: {model.arch} expects shape {tuple(base[name].shape)}, got {tuple(tensor.shape)}"
            )
    model.backbone.load_state_dict(weights, strict=False)
    return rest


def _vgg(state: Weights, input_spec: InputSpec) -> tuple[Weights, str]:
    """State dict of torchvision's vgg16 -> (that of VggBase, what is new as text)."""
    names = {f"features.{i}": f"features.{i}" for i in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21)}
    names |= {f"features.{i}": f"extra.0.{i - 23}" for i in (24, 26, 28)}  # conv5, behind its pooling
    weights = {
        f"{ours}.{kind}": state[f"{theirs}.{kind}"]
        for theirs, ours in names.items()
        for kind in ("weight", "bias")
    }
    fc6, fc7 = state["classifier.0.weight"], state["classifier.3.weight"]
    # torchvision's IMAGENET1K_FEATURES: Caffe's, on pixels in 0..255, no classifier
    if torch.isnan(fc6).any():
        return weights, "fc6 and fc7 (the file has none), the extra layers and the heads"
    fc6 = fc6.view(-1, 512, 7, 7)[::_FC_CHANNELS, :, ::_FC6_CELLS, ::_FC6_CELLS]
    weights |= {
        "extra.0.7.1.weight": fc6.contiguous(),
        "extra.0.7.1.bias": state["classifier.0.bias"][::_FC_CHANNELS],
        "extra.0.7.3.weight": fc7[::_FC_CHANNELS, ::_FC_CHANNELS, None, None].contiguous(),
        "extra.0.7.3.bias": state["classifier.3.bias"][::_FC_CHANNELS],
    }
    weights["features.0.weight"], shift = _on_our_input(weights["features.0.weight"], input_spec)
    weights["features.0.bias"] = weights["features.0.bias"] + shift
    return weights, "the extra layers and the heads"


def _mobilenet(state: Weights, input_spec: InputSpec) -> tuple[Weights, str]:
    """State dict of torchvision's mobilenet_v3_large -> (that of MobileNetBase, what is new as text)."""
    state = {name: tensor for name, tensor in state.items() if name.startswith("features.")}
    state["features.0.0.weight"], shift = _on_our_input(state["features.0.0.weight"], input_spec)
    state["features.0.1.running_mean"] = state["features.0.1.running_mean"] - shift
    return {_mobilenet_name(name): tensor for name, tensor in state.items()}, "the extra layers and the heads"


def _mobilenet_name(name: str) -> str:
    """features.I.... of the classifier -> features.0.... or features.1...., cut inside block 13 (see MobileNetBase)."""
    _, index, rest = name.split(".", 2)
    if int(index) < 13:
        return f"features.0.{index}.{rest}"
    if int(index) > 13:
        return f"features.1.{int(index) - 13}.{rest}"
    _, part, rest = rest.split(".", 2)  # block.J.rest
    return f"features.0.13.{rest}" if part == "0" else f"features.1.0.{part}.{rest}"


def _on_our_input(weight: torch.Tensor, input_spec: InputSpec) -> tuple[torch.Tensor, torch.Tensor]:
    """(O, 3, h, w) of a convolution on the classifier's input -> that on ours, and the (O,) that it lacks."""
    scale = [std / (255 * s) for std, s in zip(input_spec.std, _STD)]
    offset = [(mean / 255 - m) / s for mean, m, s in zip(input_spec.mean, _MEAN, _STD)]
    scale, offset = (torch.tensor(values).view(1, 3, 1, 1) for values in (scale, offset))
    return weight * scale, (weight * offset).sum(dim=(1, 2, 3))
