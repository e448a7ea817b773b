"""CUDA kernels, each beside its launcher; installed as edge_ssd.kernels. They need NumPy and CuPy and know nothing
of specs or frames: plain numbers and arrays.

    device = edge_ssd.kernels.device.Device()     # the one module that imports CuPy
    postprocess = Postprocess(device, priors, settings)
    rows, counts = postprocess(loc, conf)

Every launcher takes a device first, launches on its current stream, allocates nothing and waits for nothing.
"""

from __future__ import annotations

from .clock import clock_ns
from .postprocess import Postprocess, PostprocessSettings
from .preprocess import FRAME_DESCRIPTOR, describe_frame, preprocess, preprocess_constants

__all__ = [
    "FRAME_DESCRIPTOR",
    "Postprocess",
    "PostprocessSettings",
    "clock_ns",
    "describe_frame",
    "preprocess",
    "preprocess_constants",
]
