"""Images, videos and readers that tests make themselves."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np

from edge_ssd.frames import Frame, now_ns


def picture(height=48, width=64, seed=0):
    """(height, width, 3) uint8: smooth noise, which compresses like a photo."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return cv2.GaussianBlur(noise, (5, 5), 2)


def encoded(image, suffix, *parameters):
    """The bytes of an image file."""
    return cv2.imencode(suffix, image, parameters)[1].tobytes()


def write_video(path, frames, size=(48, 64), fps=30.0, codec="mp4v"):
    """A video of `frames` plain grey frames, each lighter by 4 levels; size: (height, width)."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, size[::-1])
    assert writer.isOpened()
    for i in range(frames):
        writer.write(np.full((*size, 3), (4 * i) % 256, np.uint8))
    writer.release()
    return path


class FakeReader:
    """A reader of `frames` frames that come every `period_s`; then the end, or `failure` is raised.

    closed: how often it was closed.   taken: frames read so far.
    """

    frame_count = 0
    skipped = 0

    def __init__(self, frames, is_live=False, period_s=0.0, failure=None, fps=0.0):
        self.frames, self.is_live, self.period_s, self.failure = frames, is_live, period_s, failure
        self.fps = fps
        self.closed = self.taken = 0

    def read(self):
        assert not self.closed, "read after close"
        if self.taken >= self.frames:
            if self.failure is not None:
                raise self.failure
            return None
        time.sleep(self.period_s)
        self.taken += 1
        return Frame(np.zeros((1, 1, 3), np.uint8), timestamp_ns=now_ns(), source="fake")

    def close(self):
        self.closed += 1


class Pool:
    """The simplest `allocate` of `open_source`: a new buffer each time, and all of them in `buffers`."""

    def __init__(self):
        self.buffers = []

    def __call__(self, shape):
        self.buffers.append(np.full(shape, 255, np.uint8))
        return self.buffers[-1]


def random_image(rng, pixel_format, height, width):
    """A uint8 image of noise in the one-array layout of a pixel format."""
    shape = {
        "mono8": (height, width),
        "nv12": (height * 3 // 2, width),
        "i420": (height * 3 // 2, width),
        "yuyv": (height, width, 2),
        "uyvy": (height, width, 2),
    }.get(pixel_format, (height, width, 4 if "a" in pixel_format else 3))
    return rng.integers(0, 256, shape).astype(np.uint8)


def on_a_full_disk(path, data):
    """In the place of `Path.write_bytes`: what a write on a full disk does."""
    with Path("/dev/full").open("wb", buffering=0) as file:
        file.write(data)
