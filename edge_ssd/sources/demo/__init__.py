"""demo:// - an endless rendered camera with exact ground truth.

    demo://?seed=0&frames=500&size=640x480&fps=30

Scenes of moving shapes of eight classes before textured, cluttered backgrounds, seen by a camera with
changing light, blur and noise. It needs no file: tests, training, calibration, benchmarks and the demo
run on it. The same options give the same frames, in any order of access: the truth always, the pixels
to the byte with the same OpenCV, whose versions differ in the pixels on a polygon's edge.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np

from .light import Camera
from .scene import DIFFICULT_HIDDEN, Scene
from .shapes import CLASS_NAMES

__all__ = ["CLASS_NAMES", "DemoFrame", "DemoOptions", "DemoStream"]

_MIN_SIDE, _MAX_SIDE = 64, 8192
_MOST_FRAMES, _MOST_SEED = 10**9, (1 << 63) - 1  # frames of a year


@dataclass(frozen=True)
class DemoOptions:
    """What a demo:// address says.

    seed: another seed, other scenes.   frames: how many; 0 for endless.   image_size: (height, width),
    pixels.   fps: for a player; the pixels do not depend on it.   scene_frames: frames of one scene.

    Raises ValueError naming the parameter for a value out of range.
    """

    seed: int = 0
    frames: int = 0
    image_size: tuple[int, int] = (480, 640)
    fps: float = 30.0
    scene_frames: int = 25

    def __post_init__(self) -> None:
        for name, value, least, most, note in (
            ("seed", self.seed, 0, _MOST_SEED, ""),
            ("frames", self.frames, 0, _MOST_FRAMES, " (0: endless)"),
            ("scene", self.scene_frames, 1, _MOST_FRAMES, ""),
        ):
            _check(name, value, value >= least, f"a whole number of at least {least}{note}")
            _check(name, value, value <= most, f"a whole number of at most {most}")
        _check("fps", self.fps, 0 < self.fps <= 1000, "a number above 0, at most 1000")
        sides_fit = all(_MIN_SIDE <= side <= _MAX_SIDE for side in self.image_size)
        height, width = self.image_size
        _check("size", f"{width}x{height}", sides_fit, f"WIDTHxHEIGHT, each from {_MIN_SIDE} to {_MAX_SIDE}")

    @classmethod
    def from_uri(cls, uri: str) -> DemoOptions:
        """The options of demo://?seed=S&frames=N&size=WxH&fps=F&scene=L, each of them optional.

        Raises ValueError naming the parameter that is unknown, given twice or wrong, and what was expected.
        """
        try:
            parts = urlsplit(uri)
        except ValueError:
            parts = urlsplit("")
        if parts.scheme != "demo" or parts.netloc or parts.path or parts.fragment:
            raise ValueError(f"{uri}: expected demo://?name=value&..., for example demo://?seed=1&frames=100")
        values: dict[str, Any] = {}
        for name, text in parse_qsl(parts.query, keep_blank_values=True):
            if name not in _PARAMETERS:
                raise ValueError(f"{uri}: unknown parameter {name!r}; known: {', '.join(_PARAMETERS)}")
            field, parse, expected = _PARAMETERS[name]
            if field in values:
                raise ValueError(f"{uri}: {name}: given twice")
            try:
                values[field] = parse(text)
            except ValueError:
                raise ValueError(f"{uri}: {name}: expected {expected}, got {text!r}") from None
        try:
            return cls(**values)
        except ValueError as error:
            raise ValueError(f"{uri}: {error}") from None


def _check(name: str, value: object, fits: bool, expected: str) -> None:
    if not fits:
        raise ValueError(f"{name}: expected {expected}, got {value}")


def _parse_size(text: str) -> tuple[int, int]:
    width, height = text.lower().split("x")
    return _whole(height), _whole(width)


def _whole(text: str) -> int:
    """A whole number in the digits 0 to 9; Python would take those of every script, and underscores."""
    if not re.fullmatch(r"-?[0-9]{1,30}", text):
        raise ValueError
    return int(text)


def _number(text: str) -> float:
    if not re.fullmatch(r"[-+.0-9eE]{1,30}|nan|inf", text):
        raise ValueError
    return float(text)


_PARAMETERS: dict[str, tuple[str, Callable[[str], Any], str]] = {
    "seed": ("seed", _whole, "a whole number"),
    "frames": ("frames", _whole, "a whole number"),
    "size": ("image_size", _parse_size, "WIDTHxHEIGHT, for example 640x480"),
    "fps": ("fps", _number, "a number"),
    "scene": ("scene_frames", _whole, "a whole number"),
}


@dataclass(frozen=True)
class DemoFrame:
    """One rendered frame and its truth.

    image: (H, W, 3) uint8 BGR.   boxes: (N, 4) float32 x1 y1 x2 y2, pixels of the image, pixel i covering
    i..i+1: the bounds of the object's part within the frame, also where another object hides it.
    labels: (N,) int32, index into CLASS_NAMES.   difficult: (N,) bool, more than 60 % of the object
    is hidden by objects before it or by the frame's edge. Order: the farthest object first.
    """

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray


class DemoStream:
    """The frames of `options`, by index or one after the other.

    `render(index)` depends on seed, size, scene length and index alone. Frames of one scene are cheapest
    one after another: only the latest scene is kept. `len` is there when the stream is finite.
    Not for several threads at once; each takes a stream of its own.
    """

    def __init__(self, options: DemoOptions) -> None:
        self.options = options
        self._scene_index = -1
        self._scene: Scene
        self._camera: Camera

    def __len__(self) -> int:
        if not self.options.frames:
            raise TypeError("an endless demo:// stream has no length; give it frames=N")
        return self.options.frames

    def __iter__(self) -> Iterator[DemoFrame]:
        index = 0
        while not self.options.frames or index < self.options.frames:
            yield self.render(index)
            index += 1

    def render(self, index: int) -> DemoFrame:
        """Frame `index`, from 0. Raises IndexError outside the stream."""
        options = self.options
        if index < 0 or (options.frames and index >= options.frames):
            last = options.frames - 1 if options.frames else "any"
            raise IndexError(f"frame {index}: expected 0 to {last}")
        scene_index, time = divmod(int(index), options.scene_frames)
        self._enter(scene_index)
        image, boxes, labels, hidden = self._scene.draw(time)
        # Not time + 0: (seed, scene) and (seed, scene, 0) start the same generator.
        image = self._camera.take(image, time, np.random.default_rng((options.seed, scene_index, time + 1)))
        return DemoFrame(image, boxes, labels, hidden > DIFFICULT_HIDDEN)

    def _enter(self, scene_index: int) -> None:
        if scene_index == self._scene_index:
            return
        rng = np.random.default_rng((self.options.seed, scene_index))
        self._scene = Scene.random(rng, self.options.image_size)
        self._camera = Camera(rng, self.options.image_size)
        self._scene_index = scene_index
