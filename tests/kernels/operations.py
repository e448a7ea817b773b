"""The steps of edge_ssd.reference on a device, so that one test body serves both."""

from __future__ import annotations

import numpy as np

from edge_ssd.backends.settings import input_constants, postprocess_settings
from edge_ssd.frames import split_planes
from edge_ssd.kernels import FRAME_DESCRIPTOR, Postprocess, describe_frame, preprocess
from edge_ssd.resize import plan_resize


class Operations:
    """preprocess and postprocess of host arrays, on a Device or a SimulatedDevice.

    block: threads of every launch, the launchers' own when 0.
    """

    def __init__(self, device, block=0):
        self.device = device
        self._options = {"block": block} if block else {}

    def postprocess(self, loc, conf, priors, spec, labels=None):
        """As edge_ssd.reference.postprocess; loc and conf may also be (B, P, ...)."""
        batch = loc.ndim == 3
        loc, conf = (array if batch else array[None] for array in (loc, conf))
        settings = postprocess_settings(spec, labels)
        step = Postprocess(self.device, priors, settings, len(loc), **self._options)
        rows, counts = step(self.device.array(loc), self.device.array(conf))
        rows, counts = self.device.to_host(rows), self.device.to_host(counts)
        return (rows, counts) if batch else (rows[0], counts[0])

    def preprocess(self, images, spec, dtype=np.float32, **options):
        """images: list of (image, pixel_format[, color_matrix, color_range]) -> (B, 3, H, W), ResizePlans."""
        device = self.device
        descriptors = np.zeros(len(images), FRAME_DESCRIPTOR)
        plans, kept = [], []
        for i, (image, pixel_format, *color) in enumerate(images):
            planes = split_planes(image, pixel_format)
            size = planes[0].shape[:2]
            plans.append(plan_resize(size, spec.input.size, spec.input.resize))
            addresses = [self._address(plane, kept) for plane in planes]
            pitches = [plane.strides[0] for plane in planes]
            describe_frame(
                descriptors[i],
                addresses,
                pitches,
                size,
                pixel_format,
                *(color or ("bt601", "limited")),
                plans[-1],
            )
        batch = device.empty((len(images), 3, *spec.input.size), dtype)
        preprocess(
            device,
            device.array(descriptors.view(np.uint8)),
            device.array(input_constants(spec)),
            batch,
            spec.input.color == "bgr",
            **self._options,
            **options,
        )
        return device.to_host(batch), plans

    def _address(self, plane, kept):
        """Where the device sees a plane: a copy of it at the same offset from a multiple of 16."""
        span = sum((size - 1) * stride for size, stride in zip(plane.shape, plane.strides)) + 1
        lead = plane.ctypes.data % 16
        data = np.lib.stride_tricks.as_strided(plane.view(), (span,), (1,))
        if hasattr(self.device, "frames"):  # simulated: it sees the host's memory, exactly these bytes
            memory = np.empty(span + 31, np.uint8)
            start = (lead - memory.ctypes.data) % 16
            copy = memory[start : start + span]
            copy[:] = data
            kept.append(self.device.frame(copy))
            return copy.ctypes.data
        padded = np.zeros(lead + span, np.uint8)
        padded[lead:] = data
        kept.append(self.device.array(padded))
        return self.device.address(kept[-1]) + lead
