"""The preprocess kernel alone; see kernels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_ssd import reference
from edge_ssd.backends.settings import input_constants
from edge_ssd.frames import split_planes
from edge_ssd.kernels import FRAME_DESCRIPTOR, describe_frame, preprocess
from edge_ssd.resize import plan_resize

from .cases import SECTION, TUNING, num_sets, ssd300_spec, timed

# Levels by which the kernel and the reference may differ, beside the rounding of a float16.
_TOLERANCE, _FLOAT16_ROUNDING = 0.02, 2.0**-11

_TUNED = tuple((block, kib << 10) for block in (64, 128, 256) for kib in (12, 24, 40))


@dataclass(frozen=True)
class FrameCase:
    """Frames of one kind: (height, width), pixel format, what the batch is made of, how many, and where they lie:
    "device", or "mapped" page-locked memory of the host that the kernel reads over the bus."""

    image_size: tuple[int, int]
    pixel_format: str = "bgr8"
    dtype: str = "float16"
    batch_size: int = 1
    place: str = "device"

    @property
    def name(self):
        height, width = self.image_size
        place = "" if self.place == "device" else f", {self.place} memory"
        kind = f"{width}x{height} {self.pixel_format} to 300x300 {self.dtype}"
        return f"preprocess {kind}, batch {self.batch_size}{place}"


HD = FrameCase((720, 1280))
CASES = (
    HD,
    FrameCase((720, 1280), dtype="float32"),
    FrameCase((480, 640)),
    FrameCase((720, 1280), "nv12"),
    FrameCase((720, 1280), "yuyv"),
    FrameCase((2160, 3840), "nv12"),
    FrameCase((720, 1280), batch_size=16),
    FrameCase((720, 1280), place="mapped"),
)


def time_preprocess(records, device, timer, cache, gb_per_s, spec=None, cases=CASES):
    """A row for every FrameCase."""

    spec = spec or ssd300_spec()
    for case in cases:
        with records.row(SECTION, case.name) as values:
            inputs = Inputs(device, spec, case, cache)
            inputs.check()
            nbytes = case.batch_size * bytes_moved(case, spec)
            values.update(timed(timer, inputs.work(), nbytes, gb_per_s if case.place == "device" else None))


def tune_preprocess(records, device, timer, cache, spec=None, case=HD, choices=_TUNED):
    """A row for each number of threads and bytes of shared memory."""

    inputs = Inputs(device, spec or ssd300_spec(), case, cache)
    for block, shared_bytes in choices:
        with records.row(TUNING, f"{case.name}, {block} threads, {shared_bytes >> 10} KiB shared") as values:
            options = {"block": block, "shared_bytes": shared_bytes}
            inputs.check(**options)
            values["all_us"] = timer(inputs.work(**options)).median_us


class Inputs:
    """Frames of a FrameCase on the device, so many batches that they do not fit `cache` bytes, and one output."""

    def __init__(self, device, spec, case, cache):

        self._device, self._spec, self._case = device, spec, case
        self._image = random_frame(case)
        self._kept, self._descriptors = [], []
        for _ in range(num_sets(case.batch_size * self._image.nbytes, cache)):
            self._descriptors.append(device.array(self._described().view(np.uint8)))
        self._constants = device.array(input_constants(spec))
        self._batch = device.empty((case.batch_size, 3, *spec.input.size), case.dtype)

    def work(self, **options):
        """A launch for each batch of frames, as GraphTimer takes them."""
        return [lambda d=descriptors: self._launch(d, options) for descriptors in self._descriptors]

    def check(self, **options):
        """Raises ValueError unless the kernel gives what the reference gives, for the first and the last image."""
        device, case = self._device, self._case
        with device.stream:
            self._batch.view(np.uint8).fill(0xFF)
            self._launch(self._descriptors[-1], options)
        batch = device.to_host(self._batch).astype(np.float32)
        expected = reference.preprocess(self._image, self._spec, case.pixel_format)[0][0]
        limit = _TOLERANCE + (np.abs(expected) * _FLOAT16_ROUNDING if case.dtype == "float16" else 0)
        for i in {0, case.batch_size - 1}:
            off = np.abs(batch[i] - expected) - limit
            if not off.max() <= 0:
                raise ValueError(
                    f"{case.name}: image {i} is off by {off.max():.3g} more than the reference allows"
                )

    def _launch(self, descriptors, options):
        blue_first = self._spec.input.color == "bgr"
        preprocess(self._device, descriptors, self._constants, self._batch, blue_first, **options)

    def _described(self):
        """(B,) FRAME_DESCRIPTOR of frames that are newly put on the device."""
        case, spec = self._case, self._spec.input
        descriptors = np.zeros(case.batch_size, FRAME_DESCRIPTOR)
        plan = plan_resize(case.image_size, spec.size, spec.resize)
        for descriptor in descriptors:
            planes = split_planes(self._image, case.pixel_format)
            addresses = [self._put(plane) for plane in planes]
            pitches = [plane.strides[0] for plane in planes]
            describe_frame(
                descriptor, addresses, pitches, case.image_size, case.pixel_format, "bt601", "limited", plan
            )
        return descriptors

    def _put(self, plane):
        data = plane.reshape(-1)
        if self._case.place == "mapped":
            host, address = self._device.page_locked(data.nbytes)
            host[:] = data
            self._kept.append(host)
            return address
        self._kept.append(self._device.array(data))
        return self._device.address(self._kept[-1])


def random_frame(case):
    """Random pixels as `Frame.image` has them."""
    height, width = case.image_size
    shape = {"nv12": (height * 3 // 2, width), "yuyv": (height, width, 2)}.get(
        case.pixel_format, (height, width, 3)
    )
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def bytes_moved(case, spec):
    """Bytes that one image makes necessary: the source rows that interpolation reads, and the output."""
    out_height, out_width = spec.input.size
    planes = split_planes(np.empty_like(random_frame(case)), case.pixel_format)
    height = case.image_size[0]
    rows = _rows_read(height, out_height)
    read = sum(len({row * len(plane) // height for row in rows}) * plane[0].nbytes for plane in planes)
    return read + 3 * out_height * out_width * np.dtype(case.dtype).itemsize


def _rows_read(height, out_height):
    """Source rows that bilinear interpolation reads."""
    centre = (np.arange(out_height) + 0.5) * (height / out_height) - 0.5
    low = np.clip(np.floor(centre).astype(int), 0, height - 1)
    return {*low.tolist(), *np.minimum(low + 1, height - 1).tolist()}
