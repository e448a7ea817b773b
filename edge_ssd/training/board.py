"""A run on TensorBoard: losses and AP over the epochs, what the default boxes match, and what is detected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from ..datasets import Dataset
from ..detector import Detector
from ..files import StrPath
from ..files.terminal import short_name
from ..sinks.annotate import class_color
from ..spec import SsdSpec
from .data import Batch, Targets
from .loss import SsdLoss
from .matching import match

# Images of each picture.
_SHOWN = 4


class Board:
    """Writes to the folder `folder`, which `tensorboard --logdir` shows. Raises ImportError naming the extra."""

    def __init__(self, folder: StrPath) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError(
                f"--tensorboard needs the 'tensorboard' package ({error}): pip install edge-ssd[train]"
            ) from None
        self._writer = SummaryWriter(str(folder))

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """The numbers of an epoch; losses and scores in groups of their own."""
        for name, value in metrics.items():
            group = "loss" if name.startswith("loss") else "validation" if "AP" in name else "run"
            if name != "epoch":
                self._writer.add_scalar(f"{group}/{name}", value, metrics["epoch"])
        self._writer.flush()

    def write_matches(self, batch: Batch, loss: SsdLoss, spec: SsdSpec, epoch: int) -> None:
        """The first images of a batch with the default boxes (thin) that are matched to each object (thick)."""
        targets = Targets(*(tensor[:_SHOWN] for tensor in batch.targets))
        corners = loss.corners.cpu()
        matched = match(*targets, corners, *loss.thresholds).numpy()
        pictures = []
        for k, image in enumerate(batch.images[:_SHOWN].numpy()):
            picture = image[..., ::-1].copy() if spec.input.color == "rgb" else image.copy()
            for prior in np.flatnonzero(matched[k] >= 0):
                label = int(targets.labels[k, matched[k, prior]]) - 1
                _draw(picture, corners[prior].numpy(), class_color(label), 1)
            for box, label in zip(targets.boxes[k].numpy(), targets.labels[k].tolist()):
                if label:
                    _draw(picture, box, class_color(label - 1), 2)
            pictures.append(picture[..., ::-1])
        self._writer.add_images("matched priors", np.stack(pictures), epoch, dataformats="NHWC")

    def write_detections(self, detector: Detector, dataset: Dataset, epoch: int) -> None:
        """The first images of a data set with what `detector` finds above a score of 0.3 (thick; truth thin)."""
        for index in range(min(_SHOWN, len(dataset))):
            image = dataset.image(index)
            found, truth = detector.detect(image), dataset.truth(index)
            picture, size = image.copy(), np.array(image.shape[1::-1] * 2)
            for box, label in zip(truth.boxes, truth.labels):
                _draw(picture, box / size, class_color(int(label)), 1)
            for box, score, label in found[found.scores > 0.3]:
                _draw(picture, box / size, class_color(label), 2, f"{dataset.class_names[label]} {score:.2f}")
            name = f"detections/{index}"
            self._writer.add_image(name, picture[..., ::-1].copy(), epoch, dataformats="HWC")

    def close(self) -> None:
        """Writes what is left."""
        self._writer.close()


def _draw(
    picture: np.ndarray, box: np.ndarray, color: tuple[int, int, int], thickness: int, text: str = ""
) -> None:
    """A box with normalised corners onto a BGR picture."""
    height, width = picture.shape[:2]
    x1, y1, x2, y2 = (round(float(v)) for v in np.asarray(box) * (width, height, width, height))
    cv2.rectangle(picture, (x1, y1), (x2, y2), color, thickness)
    if text:
        text = short_name(text).encode("ascii", "replace").decode()
        cv2.putText(
            picture, text, (x1, max(10, y1 - 3)), cv2.FONT_HERSHEY_SIMPLEX, 0.4, color, 1, cv2.LINE_AA
        )
