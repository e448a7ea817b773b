"""Frames of a recording, held in memory and handed out as a camera's driver does."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from ..frames import Frame, now_ns
from ..sources import open_source
from ..sources.address import without_login

_MOST_FRAMES = 48


def load_images(address: str, at_most: int = _MOST_FRAMES) -> list[np.ndarray]:
    """The first images of a source, a list of BGR arrays. Raises ValueError for a live source: how fast that is, its
    camera decides."""
    shown = without_login(address)
    with open_source(address) as source:
        if source.is_live:
            raise ValueError(
                f"{shown}: a benchmark needs a recording; record one: edge-ssd run --output F.mp4"
            )
        images = []
        for frame in source:
            if frame.pixel_format != "bgr8":
                raise ValueError(f"{shown}: expected BGR frames, got {frame.pixel_format}")
            images.append(np.ascontiguousarray(frame.image))
            if len(images) == at_most:
                break
    if not images:
        raise ValueError(f"{shown}: no frame in it")
    return images


class MemorySource:
    """Iterable of Frames: the images again and again, each copied into a buffer as it is taken.

    images: BGR arrays.   count: frames in all.   allocate: of a Detector, or None.
    """

    def __init__(
        self,
        images: Sequence[np.ndarray],
        count: int,
        allocate: Callable[[tuple[int, ...]], np.ndarray | None] | None = None,
    ) -> None:
        self._images, self._count, self._allocate = images, count, allocate

    def __iter__(self):
        for i in range(self._count):
            yield self.frame(i)

    def frame(self, number: int) -> Frame:
        """The Frame of a number."""
        start = time.perf_counter()
        image = self._images[number % len(self._images)]
        buffer = self._allocate(image.shape) if self._allocate else None
        if buffer is None:
            buffer = np.empty_like(image)
        np.copyto(buffer, image)
        capture_ms = (time.perf_counter() - start) * 1e3
        return Frame(buffer, timestamp_ns=now_ns(), sequence=number, capture_ms=capture_ms)
