"""Networks of random weights to time, and an input that makes every default box of theirs say the same."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..boxes import encode_boxes
from ..files import StrPath
from ..spec import SsdSpec

if TYPE_CHECKING:
    from ..networks.ssd import Ssd

# Columns of conf, background included, by architecture: those of COCO in each.
COLUMNS = {"ssdlite320_mobilenet_v3_large": 91, "ssd300_vgg16": 81, "ssd512_vgg16": 81}

# Some ten thousand scores of SSD300 then pass its threshold; with QUIET more, two hundred, as of a trained one.
_BACKGROUND_BIAS, QUIET = 6, 20


def random_network(arch: str) -> tuple[Ssd, SsdSpec]:
    """An `Ssd` with random weights, in evaluation mode, and its SsdSpec.

    arch: of COLUMNS. Untrained but for the bias of background, which is the first thing
    that training raises: without it all classes of all priors are nearly alike, which no image makes a
    trained network say. The same weights every time. Raises ImportError without torch.
    """
    import torch

    from ..networks import build_model

    columns = COLUMNS[arch]
    torch.manual_seed(0)
    model = build_model(arch, columns).eval()
    raise_background(model, _BACKGROUND_BIAS)
    return model, model.spec([f"class {i}" for i in range(1, columns)])


def raise_background(network: Ssd, amount: float) -> None:
    """Adds `amount` to the background logit of every default box, in place, also in a network that is prepared for
    inference or lies on a GPU: the bias of the last convolution of each predictor."""
    for predictor in network.head.classification_head.module_list:
        bias = [values for name, values in predictor.named_parameters() if name.endswith("bias")][-1]
        bias.data.view(-1, network.num_classes)[:, 0] += amount


def offsets_to_one_place(priors: np.ndarray) -> np.ndarray:
    """loc with which every prior decodes to the same box, so that NMS has to look at every candidate.

    priors: (P, 4) float32 cx cy w h. Returns (P, 4) float32, for the variance (0.1, 0.2).
    """
    box = np.tile(np.array([[0.4, 0.4, 0.6, 0.6]], np.float32), (len(priors), 1))
    return encode_boxes(box, priors, (0.1, 0.2))


def save_random_network(arch: str, folder: StrPath) -> Path:
    """The same as ONNX file and as checkpoint, each with its spec, in `folder`: path of the .onnx file."""
    from ..networks.checkpoint import save_checkpoint
    from ..training.export_onnx import export_onnx

    network, spec = random_network(arch)
    path = Path(folder) / f"{arch}.onnx"
    save_checkpoint(path.with_suffix(".pt"), network, spec)
    export_onnx(network, spec, path)
    return path
