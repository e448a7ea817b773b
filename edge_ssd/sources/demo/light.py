"""The camera of the rendered scenes: light that changes, blur, sensor noise."""

from __future__ import annotations

from statistics import NormalDist

import cv2
import numpy as np

_LIGHT_GRID = (3, 4)  # rows, columns; the light between is interpolated
_LIGHT_ONE = 128  # the grid's value that leaves the image as it is

# The normal distribution's quantile of each byte: a table turns random bytes into sensor noise.
_QUANTILES = np.array([NormalDist().inv_cdf((i + 0.5) / 256) for i in range(256)])


class Camera:
    """How one scene is seen, drawn from `rng`. image_size: (height, width), pixels."""

    def __init__(self, rng: np.random.Generator, image_size: tuple[int, int]) -> None:
        self._size = image_size[1], image_size[0]
        self._gain = rng.uniform(0.6, 1.05) * rng.uniform(0.93, 1.07, 3)  # exposure and colour cast
        self._grid = rng.uniform(0.8, 1.15, (*_LIGHT_GRID, 1))
        self._flicker = rng.uniform(0, 0.15), rng.uniform(0.02, 0.15), rng.uniform(0, 2 * np.pi)
        sigma = np.exp(rng.uniform(np.log(1.0), np.log(10.0)))
        noise = np.rint(sigma * _QUANTILES).astype(np.int64)
        self._brighter = np.clip(noise, 0, 255).astype(np.uint8)
        self._darker = np.clip(-noise, 0, 255).astype(np.uint8)
        self._blur = rng.uniform(0, 1.0) * min(image_size) / 480

    def take(self, image: np.ndarray, time: int, rng: np.random.Generator) -> np.ndarray:
        """The image as the camera sees it at frame `time`: (H, W, 3) uint8. rng: of the frame's noise."""
        image = cv2.multiply(image, self._light(time), scale=1 / _LIGHT_ONE)
        if self._blur > 0.25:  # less moves no pixel by more than a level or two
            side = 3 if self._blur < 0.8 else 5
            image = cv2.GaussianBlur(image, (side, side), self._blur)
        dice = np.frombuffer(rng.bytes(image.size), np.uint8).reshape(image.shape)
        image = cv2.add(image, cv2.LUT(dice, self._brighter))
        return cv2.subtract(image, cv2.LUT(dice, self._darker))

    def _light(self, time: int) -> np.ndarray:
        depth, rate, phase = self._flicker
        gain = self._gain * (1 + depth * np.sin(rate * time + phase))
        # A shadow that wanders: each node of the grid has its own phase.
        nodes = np.arange(self._grid.size).reshape(self._grid.shape)
        grid = self._grid * (1 + depth * np.sin(rate * time + 2.4 * nodes)) * gain
        grid = np.clip(np.rint(grid * _LIGHT_ONE), 0, 255).astype(np.uint8)
        return cv2.resize(grid, self._size, interpolation=cv2.INTER_CUBIC)
