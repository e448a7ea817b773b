"""The same weights and the same image: torchvision's detections and ours. Skipped where torchvision is missing."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
try:
    from torchvision.models import detection
except (ImportError, RuntimeError) as error:  # RuntimeError: its operators were built for another torch
    pytest.skip(
        f"torchvision cannot be used, and is no dependency: {error}".splitlines()[0], allow_module_level=True
    )

from edge_ssd import reference  # noqa: E402
from edge_ssd.detections import Detections  # noqa: E402
from edge_ssd.networks import build_model  # noqa: E402
from edge_ssd.priors import make_priors  # noqa: E402

pytestmark = pytest.mark.torch

CLASSES = 7


def randomised(arch, batch):
    """torchvision's network with weights that make it find many things in `batch`."""
    torch.manual_seed(1)
    build = getattr(detection, arch)
    model = build(weights=None, weights_backbone=None, num_classes=CLASSES).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):  # or activations die out in an untrained network
                module.weight.uniform_(1.0, 2.0)
                module.running_var.uniform_(0.02, 0.1)
        maps = list(model.backbone(batch).values())
        for head in (model.head.classification_head, model.head.regression_head):
            for layer, x in zip(head.module_list, maps):
                last = layer if isinstance(layer, torch.nn.Conv2d) else layer[-1]
                last.weight.div_(layer(x).std())
    return model


@pytest.mark.parametrize("image_size", [(240, 320), (413, 251)])
@pytest.mark.parametrize("arch", ["ssd300_vgg16", "ssdlite320_mobilenet_v3_large"])
def test_detections_equal_torchvisions(arch, image_size):
    ours = build_model(arch, CLASSES).eval()
    spec = ours.spec([f"class {i}" for i in range(CLASSES - 1)])
    image = np.random.default_rng(0).integers(0, 256, (*image_size, 3), np.uint8)  # BGR
    batch, plan = reference.preprocess(image, spec)
    theirs = randomised(arch, torch.from_numpy(batch))
    ours.load_state_dict(theirs.state_dict())
    with torch.inference_mode():
        expected = theirs([torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1) / 255])[0]
        loc, conf = (output[0].numpy() for output in ours(torch.from_numpy(batch)))
    expected = without_empty_boxes(expected)
    rows, (count, _) = reference.postprocess(loc, conf, make_priors(spec), spec)
    found = Detections.from_rows(rows, count, plan)
    assert count > 50
    assert len(found) == len(expected["scores"])
    # Their resize normalises first, ours afterwards: the last digits differ, and the order of near ties.
    order = expected["scores"].argsort(descending=True, stable=True)
    np.testing.assert_allclose(found.scores, expected["scores"][order], atol=1e-3)
    matched = _nearest(
        found, expected["boxes"].numpy(), expected["labels"].numpy() - 1, expected["scores"].numpy()
    )
    assert matched.mean() > 0.99


def without_empty_boxes(detections):
    """torchvision keeps boxes that lie outside the image, as lines at its edge; `Detections` does not."""
    boxes = detections["boxes"]
    kept = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    return {name: values[kept] for name, values in detections.items()}


def _nearest(found, boxes, labels, scores):
    """For each of ours, whether one of theirs has its label, its score within 1e-3 and its box within 0.05 px."""
    near = np.abs(found.boxes[:, None] - boxes[None]).max(axis=2) < 0.05
    near &= found.labels[:, None] == labels[None]
    near &= np.abs(found.scores[:, None] - scores[None]) < 1e-3
    return near.any(axis=1)
