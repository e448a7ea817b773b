"""A network whose detections are easy to tell: the brightness of an image's quarters."""

from __future__ import annotations

import numpy as np

from edge_ssd import Detector, Frame
from edge_ssd.backends.cpu import CpuBackend
from tests.media import random_image
from tests.specs import grid_spec

PRIORS = 4  # a 2 x 2 grid


def small_spec(**changes):
    """The SsdSpec of `brightness`: 100 x 100, two classes."""
    return grid_spec(
        2, 2, **{"score_activation": "none", "mean": (0, 0, 0), "score_threshold": 0.1, **changes}
    )


def brightness(batch):
    """The network: the score of class i at each of four places is the mean of channel i there / 256."""
    quarters = batch.reshape(len(batch), 3, 2, 50, 2, 50).mean(axis=(3, 5)).reshape(len(batch), 3, PRIORS)
    conf = np.concatenate(
        [np.zeros((len(batch), PRIORS, 1)), quarters[:, :2].transpose(0, 2, 1) / 256], axis=2
    )
    return np.zeros((len(batch), PRIORS, 4), np.float32), conf.astype(np.float32)


def on_cpu(network, spec, frames):
    """Detections of each frame by the CPU's backend."""

    class Engine:
        input_dtype, max_batch, interleaved, description = np.dtype(np.float32), 0, False, "NumPy"

        def infer(self, batch):
            return network(batch)

        def close(self):
            pass

    return Detector(CpuBackend(Engine(), spec)).detect_batch(frames)


def assert_same(detections, expected):
    """That two lists of Detections are alike."""
    assert len(detections) == len(expected)
    for one, other in zip(detections, expected):
        assert one.labels.tolist() == other.labels.tolist()
        assert one.image_size == other.image_size
        assert one.timestamp_ns == other.timestamp_ns
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)
        np.testing.assert_allclose(one.boxes, other.boxes, atol=0.05)


def camera_frames(rng, count=5, **options):
    """Frames of random pixels, of six formats in turn and of growing sizes."""
    formats = ("bgr8", "nv12", "mono8", "yuyv", "rgba8", "i420")
    return [
        Frame(
            random_image(rng, formats[i % 6], 40 + 2 * i, 60 + 4 * i),
            formats[i % 6],
            timestamp_ns=i,
            **options,
        )
        for i in range(count)
    ]
