"""Images that are in a data set twice, or in two splits of it: what is trained on must not be scored.

The difference hash is computed here and not by the package imagehash, for three reasons. It is ten lines beside
OpenCV, which has decoded the image already; imagehash takes Pillow images, and brings Pillow, SciPy and PyWavelets
with it. Bits alone do not do: pictures that share them by chance are told apart by the grey cells that the bits come
from, which imagehash does not give. And pairs are found by one matrix product over all hashes, where imagehash
compares one pair at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from ..dataset import Dataset, Finding

# A picture as 8 rows of 9 grey cells; a bit for each neighbour to the right that is darker ("difference hash").
_CELLS = (9, 8)
# Two pictures look alike when at most this many of their 64 bits differ and their cells differ by
# less than this many levels on average; saving one as a JPEG again changes less.
_BITS, _LEVELS = 3, 3.0
# Images whose bits are compared with all others in one go: bounds the memory.
_ROWS = 1024


@dataclass(frozen=True)
class ImageHashes:
    """What N images are recognised by.

    indices: (N,) int64, of the data set.   digests: tuple of N SHA-256 of their pixels.
    cells: (N, 8, 9) uint8 grey thumbnails.
    """

    indices: np.ndarray
    digests: tuple[str, ...]
    cells: np.ndarray

    @property
    def bits(self) -> np.ndarray:
        """(N, 64) float32, -1 or 1."""
        darker = self.cells[:, :, :-1] > self.cells[:, :, 1:]
        return darker.reshape(-1, 64).astype(np.float32) * 2 - 1


def hash_images(dataset: Dataset, indices: Iterable[int] | None = None) -> tuple[ImageHashes, list[Finding]]:
    """The ImageHashes of a data set, and what could not be read: list of (index, text).

    Every image is decoded. indices: to go over, such as a progress bar.
    """
    hashed, digests, cells = [], [], []
    problems: list[Finding] = []
    for index in range(len(dataset)) if indices is None else indices:
        try:
            image = dataset.image(index)
        except (ValueError, OSError) as error:
            problems.append((index, str(error.__cause__ or error)))  # without the advice to run this check
            continue
        hashed.append(index)
        digest = hashlib.sha256(str(image.shape).encode())
        digest.update(np.ascontiguousarray(image).data)  # no copy of it: an image may have 300 MB
        digests.append(digest.hexdigest())
        grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        cells.append(cv2.resize(grey, _CELLS, interpolation=cv2.INTER_AREA))
    shape = (len(cells), *_CELLS[::-1])
    cells = np.array(cells, np.uint8).reshape(shape)
    return ImageHashes(np.array(hashed, np.int64), tuple(digests), cells), problems


def identical(hashes: ImageHashes, others: ImageHashes | None = None) -> list[tuple[int, int]]:
    """Pairs of images with the same pixels: list of (index, index of the first such one).

    others: ImageHashes of another data set, in which the second index then is; of `hashes` itself when None.
    """
    first, pairs = {}, []
    if others is not None:
        for index, digest in zip(others.indices.tolist(), others.digests):
            first.setdefault(digest, index)
    for index, digest in zip(hashes.indices.tolist(), hashes.digests):
        if digest in first:
            pairs.append((index, first[digest]))
        elif others is None:
            first[digest] = index
    return pairs


def look_alikes(hashes: ImageHashes, others: ImageHashes | None = None) -> list[tuple[int, int]]:
    """Pairs of images that look alike without being identical: list of (index, index of one that it resembles most).

    others: as in `identical`. Pictures without any structure, such as black ones, resemble nothing.
    """
    bits, other = hashes.bits, hashes if others is None else others
    other_bits, pairs = other.bits, []
    for start in range(0, len(bits), _ROWS):
        differing = (64 - bits[start : start + _ROWS] @ other_bits.T) / 2
        if others is None:  # each pair once, the later image first
            differing[np.arange(start, start + len(differing))[:, None] <= np.arange(len(other_bits))] = 64
        for row, column in zip(*np.nonzero(differing <= _BITS)):
            if hashes.digests[start + row] == other.digests[column]:
                differing[row, column] = 64
        for row in np.flatnonzero(differing.min(axis=1, initial=64) <= _BITS):
            column = int(differing[row].argmin())
            if _cells_agree(hashes.cells[start + row], other.cells[column]):
                pairs.append((int(hashes.indices[start + row]), int(other.indices[column])))
    return pairs


def _cells_agree(first: np.ndarray, second: np.ndarray) -> bool:
    if np.ptp(first) < 8:  # levels; less than that is noise
        return False
    return bool(np.abs(first.astype(int) - second).mean() < _LEVELS)
