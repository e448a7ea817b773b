"""Calibration images: a folder of them, or a data set."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from ..backends import cpu_steps
from ..datasets import open_dataset
from ..files import IMAGE_SUFFIXES, StrPath
from ..files.image import read_image
from ..sources.address import without_login
from ..spec import SsdSpec

FEW_IMAGES = 16

_log = logging.getLogger(__name__)


class CalibrationImages:
    """Up to `most` images, spread evenly over what is at an address, as network inputs.

    address: a folder of images, a VOC or COCO folder, or demo://?seed=S&frames=N.   split: of a data set.
    quiet: no word about how few there are.

    Iterating gives (1, 3, H, W) float32. Unreadable files are logged and left out; when none is left, or
    there is none at all, ValueError. `used` is how many were given by the latest pass.
    """

    def __init__(
        self, address: StrPath, spec: SsdSpec, most: int, split: str = "", quiet: bool = False
    ) -> None:
        self.address, self.spec, self.used = address, spec, 0
        self._names, self._read = _opened(address, split)
        if not self._names:
            raise ValueError(
                f"{address}: no image to calibrate with; expected {', '.join(IMAGE_SUFFIXES)}, or a data set"
            )
        picked = np.linspace(0, len(self._names) - 1, min(most, len(self._names))).round().astype(int)
        self._indices = picked.tolist()
        if len(self._indices) < FEW_IMAGES and not quiet:
            _log.warning(
                "%s: %d images are few to calibrate with; ranges may be too narrow, %d or more are better",
                address,
                len(self._indices),
                FEW_IMAGES,
            )

    def __len__(self) -> int:
        return len(self._indices)

    def __iter__(self) -> Iterator[np.ndarray]:
        self.used = 0
        for index in self._indices:
            try:
                image = self._read(index)
            except (ValueError, OSError) as error:
                _log.warning("%s: left out", error)
                continue
            self.used += 1
            yield cpu_steps.preprocess(image, self.spec)[0]
        if not self.used:
            raise ValueError(f"{self.address}: none of the {len(self)} calibration images can be read")


def _opened(address: StrPath, split: str) -> tuple[Sequence, Callable[[int], np.ndarray]]:
    """Names of the images at an address, and a function of an index that reads one."""
    folder = Path(str(address))
    is_dataset = str(address).startswith("demo:") or (
        folder.is_dir() and any((folder / name).is_dir() for name in ("Annotations", "annotations"))
    )
    if is_dataset:
        dataset = open_dataset(address, split)
        return range(len(dataset)), dataset.image
    if not folder.is_dir():
        raise FileNotFoundError(f"{without_login(str(address))}: no such folder of calibration images")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    return files, lambda index: read_image(files[index])


def read_some(address: StrPath, most: int, split: str = "") -> list[np.ndarray]:
    """Up to `most` images of an address, evenly spread, as a list of (H, W, 3) uint8 BGR. Errors as above."""
    names, read = _opened(address, split)
    if not names:
        raise ValueError(f"{address}: no image in it; expected {', '.join(IMAGE_SUFFIXES)}, or a data set")
    return [read(int(index)) for index in np.linspace(0, len(names) - 1, min(most, len(names))).round()]
