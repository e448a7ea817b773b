"""The preprocess kernel against the reference: every format, size and layout a camera may have."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_ssd import frames, reference
from edge_ssd.frames import PIXEL_FORMATS
from edge_ssd.kernels import preprocess as launcher
from edge_ssd.kernels.color import COLOR_MATRICES, COLOR_RANGES
from edge_ssd.kernels.preprocess import FRAME_DESCRIPTOR, describe_frame
from edge_ssd.kernels.preprocess import PIXEL_FORMATS as KERNEL_FORMATS
from edge_ssd.resize import plan_resize
from tests.media import random_image
from tests.specs import example_spec

# Levels by which the two may differ; what was seen is 0.011, where OpenCV calculates in float32.
_TOLERANCE = 0.02


def _check(operations, image, pixel_format, spec, *color, **options):
    batch, (plan,) = operations.preprocess([(image, pixel_format, *color)], spec, **options)
    expected, expected_plan = reference.preprocess(image, spec, pixel_format, *color)
    assert plan == expected_plan
    std = np.array(spec.input.std, np.float32).reshape(3, 1, 1)
    assert np.abs((batch - expected) * std).max() <= _TOLERANCE


def _spec(**changes):
    return example_spec(
        **{
            "height": 60,
            "width": 80,
            "mean": (10, 20, 30),
            "std": (2, 1, 0.5),
            "pad_value": (1, 2, 3),
            **changes,
        }
    )


def test_the_kernels_know_the_formats_of_a_frame():
    assert (*PIXEL_FORMATS[:5], "nv12", "i420", *PIXEL_FORMATS[5:7]) == KERNEL_FORMATS
    assert (COLOR_MATRICES, COLOR_RANGES) == (frames.COLOR_MATRICES, frames.COLOR_RANGES)
    assert FRAME_DESCRIPTOR.itemsize == 64


@pytest.mark.parametrize("pixel_format", PIXEL_FORMATS)
@pytest.mark.parametrize("size", [(48, 64), (36, 10), (90, 1000), (1300, 60), (2, 2), (602, 604)])
@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_every_format_and_size(operations, rng, pixel_format, size, resize):
    spec = _spec(resize=resize, color="bgr" if size[0] % 4 else "rgb")
    _check(operations, random_image(rng, pixel_format, *size), pixel_format, spec)


@pytest.mark.parametrize("pixel_format", ["bgr8", "bgra8", "nv12", "yuyv"])
@pytest.mark.parametrize("size", [(720, 1280), (2160, 3840)])
def test_frames_of_real_cameras(operations, rng, pixel_format, size):
    _check(
        operations, random_image(rng, pixel_format, *size), pixel_format, example_spec(height=300, width=300)
    )


def test_a_frame_so_wide_that_a_tile_is_done_in_parts(operations, rng):
    spec = _spec(height=16, width=64)
    _check(operations, random_image(rng, "bgra8", 40, 20000), "bgra8", spec)
    _check(operations, random_image(rng, "i420", 40, 20000), "i420", spec, shared_bytes=1024)


@pytest.mark.parametrize("block", [32, 64, 96])
def test_any_block_size(operations, rng, block):
    _check(operations, random_image(rng, "bgr8", 70, 90), "bgr8", _spec(), block=block)


@pytest.mark.parametrize("pixel_format", PIXEL_FORMATS)
def test_rows_may_have_any_pitch_and_begin_anywhere(operations, rng, pixel_format):
    image = random_image(rng, pixel_format, 48, 64)
    for left, right in ((1, 5), (3, 0), (0, 7)):
        wide = np.full((image.shape[0], left * 2 + image.shape[1] + right, *image.shape[2:]), 200, np.uint8)
        view = wide[:, left * 2 : left * 2 + image.shape[1]]
        view[:] = image
        if pixel_format != "i420" and (pixel_format != "nv12" or right % 2 == 0):
            assert not view.flags.c_contiguous
        _check(operations, view, pixel_format, _spec())


@pytest.mark.parametrize("color_matrix", COLOR_MATRICES)
@pytest.mark.parametrize("color_range", COLOR_RANGES)
def test_color_matrix_and_range(operations, rng, color_matrix, color_range):
    _check(operations, random_image(rng, "nv12", 48, 64), "nv12", _spec(), color_matrix, color_range)


def test_a_batch_of_different_cameras(operations, rng):
    spec = _spec(resize="letterbox")
    images = [
        (random_image(rng, pixel_format, *size), pixel_format)
        for pixel_format, size in (
            ("bgr8", (48, 64)),
            ("nv12", (100, 50)),
            ("mono8", (7, 300)),
            ("uyvy", (60, 80)),
        )
    ]
    batch, _ = operations.preprocess(images, spec)
    std = np.array(spec.input.std, np.float32).reshape(3, 1, 1)
    for got, (image, pixel_format) in zip(batch, images):
        expected, _ = reference.preprocess(image, spec, pixel_format)
        assert np.abs((got - expected[0]) * std).max() <= _TOLERANCE


def test_half_precision_is_the_rounded_result(operations, rng):
    image = random_image(rng, "bgr8", 100, 120)
    spec = _spec(resize="letterbox", std=(58, 57, 57))
    half, _ = operations.preprocess([(image, "bgr8")], spec, dtype=np.float16)
    full, _ = operations.preprocess([(image, "bgr8")], spec)
    assert half.dtype == np.float16
    assert np.array_equal(half, full.astype(np.float16))


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(
    seed=st.integers(0, 2**32 - 1),
    pixel_format=st.sampled_from(PIXEL_FORMATS),
    height=st.integers(1, 70),
    width=st.integers(1, 90),
    input_height=st.integers(1, 50),
    input_width=st.integers(1, 70),
    resize=st.sampled_from(["stretch", "letterbox"]),
)
def test_any_size_into_any_size(
    operations, seed, pixel_format, height, width, input_height, input_width, resize
):
    rng = np.random.default_rng(seed)
    spec = example_spec(height=input_height, width=input_width, resize=resize)
    _check(operations, random_image(rng, pixel_format, 2 * height, 2 * width), pixel_format, spec)


class TestDescriptions:
    """What `describe_frame` refuses: a launch would read beyond the frame."""

    def _describe(self, **changes):
        values = {
            "addresses": [1 << 20],
            "pitches": [64 * 3],
            "image_size": (48, 64),
            "pixel_format": "bgr8",
            "color_matrix": "bt601",
            "color_range": "limited",
            "plan": plan_resize((48, 64), (60, 80), "stretch"),
        }
        describe_frame(np.zeros(1, FRAME_DESCRIPTOR)[0], **{**values, **changes})

    def test_the_right_one_is_taken(self):
        self._describe()

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"pitches": [64 * 3 - 1]}, "pitch: expected at least the 192 bytes of a row, got 191"),
            ({"pitches": [1 << 31]}, "pitch"),
            ({"pixel_format": "nv12"}, "planes: expected 2 for nv12, got 1"),
            ({"pixel_format": "bgr24"}, "pixel_format: expected one of bgr8"),
            ({"color_range": "studio"}, "color: expected bt601 or bt709 and limited or full"),
        ],
    )
    def test_others_are_refused(self, changes, message):
        with pytest.raises(ValueError, match=message):
            self._describe(**changes)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((1, 4, 60, 80), {}, r"batch: expected \(B, 3, H, W\), got \(1, 4, 60, 80\)"),
        ((2, 3, 60, 80), {}, r"descriptors: expected shape \(128,\), got \(64,\)"),
        ((1, 3, 60, 80), {"shared_bytes": 100}, "shared_bytes: expected 1024 to 45056"),
        ((1, 3, 60, 80), {"block": 512}, "block: expected a multiple of 32 from 32 to 256"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_before_a_launch(simulated, shape, options, message):
    descriptors = simulated.empty((64,), np.uint8)
    constants = simulated.empty((61,), np.float32)
    with pytest.raises(ValueError, match=message):
        launcher(simulated, descriptors, constants, simulated.empty(shape, np.float32), False, **options)
