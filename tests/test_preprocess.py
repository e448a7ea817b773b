"""Preprocessing on the CPU: every pixel format and resize mode, both ways against one in double precision."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_ssd import reference
from edge_ssd.backends import cpu_steps
from edge_ssd.device_array import DeviceArray
from edge_ssd.engines.layout import interleaved_batch
from edge_ssd.frames import PIXEL_FORMATS
from edge_ssd.resize import plan_resize
from tests.media import random_image
from tests.specs import example_spec

# CPU and GPU have to agree within this many levels; so have both ways on the CPU.
TOLERANCE = 0.02


def _literal_rgb(image, pixel_format, matrix=(0.299, 0.114), limited=True):
    """(H, W, 3) float64 RGB of an image in the formats' one-array layout."""
    channels = {"bgr8": (2, 1, 0), "bgra8": (2, 1, 0), "rgb8": (0, 1, 2), "rgba8": (0, 1, 2)}
    if pixel_format in channels:
        return image[..., channels[pixel_format]].astype(np.float64)
    if pixel_format == "mono8":
        return np.repeat(image[..., None], 3, axis=2).astype(np.float64)
    if pixel_format in ("yuyv", "uyvy"):
        y, c = (0, 1) if pixel_format == "yuyv" else (1, 0)
        luma = image[..., y]
        u, v = np.repeat(image[:, 0::2, c], 2, axis=1), np.repeat(image[:, 1::2, c], 2, axis=1)
    else:
        height = image.shape[0] * 2 // 3
        luma, chroma = image[:height], image[height:].reshape(-1)
        if pixel_format == "nv12":
            small = chroma.reshape(height // 2, -1, 2).transpose(2, 0, 1)
        else:
            small = chroma.reshape(2, height // 2, -1)
        u, v = small.repeat(2, axis=1).repeat(2, axis=2)
    red, blue = matrix
    y, u, v = luma.astype(np.float64), u - 128.0, v - 128.0
    if limited:
        y, u, v = np.maximum(y - 16, 0) * 255 / 219, u * 255 / 224, v * 255 / 224
    r, b = y + 2 * (1 - red) * v, y + 2 * (1 - blue) * u
    g = (y - red * r - blue * b) / (1 - red - blue)
    return np.clip(np.stack([r, g, b], axis=2), 0, 255)


def _literal_resize(image, size):
    """Bilinear with pixel centres at half, in double precision."""
    for axis, target in enumerate(size):
        count = image.shape[axis]
        centre = np.clip((np.arange(target) + 0.5) * count / target - 0.5, 0, count - 1)
        low = np.floor(centre).astype(int)
        weight = (centre - low).reshape([-1 if a == axis else 1 for a in range(3)])
        high = np.minimum(low + 1, count - 1)
        image = image.take(low, axis) * (1 - weight) + image.take(high, axis) * weight
    return image


def _literal(image, spec, pixel_format):
    rgb = _literal_rgb(image, pixel_format)
    plan = plan_resize(rgb.shape[:2], spec.input.size, spec.input.resize)
    order = (0, 1, 2) if spec.input.color == "rgb" else (2, 1, 0)
    full = np.tile(np.array(spec.input.pad_value), (*spec.input.size, 1))
    (top, left), (height, width) = plan.padding, plan.inner_size
    full[top : top + height, left : left + width] = _literal_resize(rgb, plan.inner_size)[..., order]
    return ((full - spec.input.mean) / spec.input.std).transpose(2, 0, 1)[None]


SIZES = [(48, 64), (36, 10), (300, 300), (90, 1000), (1300, 60), (2, 2), (602, 604)]


@pytest.mark.parametrize("pixel_format", PIXEL_FORMATS)
@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_every_format_and_size_equals_the_definition(steps, rng, pixel_format, height, width, resize):
    spec = example_spec(
        height=60,
        width=80,
        resize=resize,
        color="bgr",
        mean=(10, 20, 30),
        std=(2, 1, 0.5),
        pad_value=(1, 2, 3),
    )
    image = random_image(rng, pixel_format, height, width)
    before = image.copy()
    batch, plan = steps.preprocess(image, spec, pixel_format)
    assert batch.shape == (1, 3, 60, 80)
    assert batch.dtype == np.float32
    assert plan.source_size == (height, width)
    std = np.array(spec.input.std).reshape(3, 1, 1)
    assert (np.abs(batch - _literal(image, spec, pixel_format)) <= TOLERANCE / std).all()
    assert np.array_equal(image, before)


@pytest.mark.parametrize("height", [1, 2, 3, 59, 60, 61, 239, 240, 241, 6000])
def test_tiny_and_huge_images(steps, rng, height):
    spec = example_spec(height=60, width=80)
    image = random_image(rng, "bgr8", height, 7)
    batch, _ = steps.preprocess(image, spec)
    assert np.abs(batch - _literal(image, spec, "bgr8")).max() <= TOLERANCE


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    pixel_format=st.sampled_from(PIXEL_FORMATS),
    half_size=st.tuples(st.integers(1, 400), st.integers(1, 60)),
    input_size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    resize=st.sampled_from(["stretch", "letterbox"]),
    color=st.sampled_from(["rgb", "bgr"]),
    layout=st.sampled_from(["planar", "interleaved"]),
)
def test_the_fast_way_equals_the_definition(seed, pixel_format, half_size, input_size, resize, color, layout):
    spec = example_spec(
        height=input_size[0],
        width=input_size[1],
        resize=resize,
        color=color,
        pad_value=(1, 2, 3),
        std=(1, 2, 0.5),
    )
    image = random_image(np.random.default_rng(seed), pixel_format, 2 * half_size[0], 2 * half_size[1])
    out = None if layout == "planar" else interleaved_batch(1, input_size, color)[0]
    batch, plan = cpu_steps.preprocess(image, spec, pixel_format, out=out)
    expected, expected_plan = reference.preprocess(image, spec, pixel_format)
    assert out is None or np.shares_memory(batch, out)
    assert plan == expected_plan
    assert batch.shape == expected.shape
    assert batch.dtype == expected.dtype
    assert np.abs(batch - expected).max() <= 2 * TOLERANCE  # the smallest std is 0.5


def test_one_pixel_fills_the_input(steps):
    spec = example_spec(mean=(0, 0, 0))
    batch, _ = steps.preprocess(np.array([[[1, 2, 3]]], np.uint8), spec)
    assert np.allclose(batch[0].transpose(1, 2, 0), [3, 2, 1], atol=1e-4)


@pytest.mark.parametrize("pixel_format", PIXEL_FORMATS)
def test_rows_may_have_any_pitch(steps, rng, pixel_format):
    spec = example_spec(height=30, width=40)
    image = random_image(rng, pixel_format, 48, 64)
    wide = np.zeros((image.shape[0], image.shape[1] + 6, *image.shape[2:]), np.uint8)
    wide[:, : image.shape[1]] = image
    padded = wide[:, : image.shape[1]]
    assert not padded.flags.c_contiguous
    expected, _ = steps.preprocess(image, spec, pixel_format)
    assert np.array_equal(steps.preprocess(padded, spec, pixel_format)[0], expected)


def test_flipped_and_strided_views_are_taken(steps, rng):
    spec = example_spec(height=30, width=40)
    image = random_image(rng, "bgr8", 50, 70)
    for view in (image[::-1], image[:, ::-1], image[::2, ::3], image[..., ::-1]):
        expected, _ = steps.preprocess(view.copy(), spec)
        assert np.array_equal(steps.preprocess(view, spec)[0], expected)


def test_planes_may_be_separate_arrays(steps, rng):
    spec = example_spec(height=30, width=40)
    image = random_image(rng, "nv12", 48, 64)
    planes = (image[:48].copy(), image[48:].reshape(24, 32, 2).copy())
    assert np.array_equal(steps.preprocess(planes, spec, "nv12")[0], steps.preprocess(image, spec, "nv12")[0])
    image = random_image(rng, "i420", 48, 64)
    chroma = image[48:].reshape(2, 24, 32)
    planes = (image[:48].copy(), chroma[0].copy(), chroma[1].copy())
    assert np.array_equal(steps.preprocess(planes, spec, "i420")[0], steps.preprocess(image, spec, "i420")[0])


@pytest.mark.parametrize(
    ("pixel_format", "code"),
    [
        ("nv12", cv2.COLOR_YUV2RGB_NV12),
        ("i420", cv2.COLOR_YUV2RGB_I420),
        ("yuyv", cv2.COLOR_YUV2RGB_YUY2),
        ("uyvy", cv2.COLOR_YUV2RGB_UYVY),
    ],
)
def test_yuv_is_opencvs_within_one_level(steps, rng, pixel_format, code):
    spec = example_spec(height=48, width=64, mean=(0, 0, 0))
    image = random_image(rng, pixel_format, 48, 64)
    batch, _ = steps.preprocess(image, spec, pixel_format)
    assert np.abs(batch[0].transpose(1, 2, 0) - cv2.cvtColor(image, code)).max() <= 1


@pytest.mark.parametrize(
    ("color_matrix", "color_range", "weights", "limited"),
    [
        ("bt601", "limited", (0.299, 0.114), True),
        ("bt601", "full", (0.299, 0.114), False),
        ("bt709", "limited", (0.2126, 0.0722), True),
        ("bt709", "full", (0.2126, 0.0722), False),
    ],
)
def test_color_matrix_and_range(steps, rng, color_matrix, color_range, weights, limited):
    spec = example_spec(height=48, width=64, mean=(0, 0, 0))
    image = random_image(rng, "nv12", 48, 64)
    batch, _ = steps.preprocess(image, spec, "nv12", color_matrix, color_range)
    expected = _literal_rgb(image, "nv12", weights, limited)
    assert np.abs(batch[0].transpose(1, 2, 0) - expected).max() <= TOLERANCE


def test_limited_range_black_and_white_by_hand(steps):
    spec = example_spec(height=2, width=2, mean=(0, 0, 0))
    for luma, level in ((16, 0), (235, 255), (0, 0), (255, 255), (126, 110 * 255 / 219)):
        image = np.array([[[luma, 128], [luma, 128]]] * 2, np.uint8)
        assert np.allclose(steps.preprocess(image, spec, "yuyv")[0], level, atol=1e-3)


def test_out_is_written_in_its_own_dtype(steps, rng):
    spec = example_spec(resize="letterbox", std=(58, 57, 57))
    image = random_image(rng, "bgr8", 40, 100)
    out = np.full((3, 300, 300), 7, np.float16)
    batch, _ = steps.preprocess(image, spec, out=out)
    assert np.shares_memory(batch, out)
    expected, _ = steps.preprocess(image, spec)
    assert np.allclose(out, expected[0], atol=2e-3)  # float16 near 2 has steps of 2e-3


@pytest.mark.parametrize(
    ("image", "pixel_format", "message"),
    [
        (np.zeros((4, 4), np.uint8), "bgr8", r"expected \(H, W, 3\) for bgr8, got \(4, 4\); a grey image is"),
        (np.zeros((4, 4, 4), np.uint8), "bgr8", "with an alpha channel"),
        (np.zeros((4, 4, 3), np.uint16), "bgr8", "expected uint8, got uint16"),
        (np.zeros((4, 4, 3), np.float32), "bgr8", "expected uint8, got float32"),
        (np.zeros((0, 4, 3), np.uint8), "bgr8", "at least one pixel"),
        (np.zeros((4, 5, 2), np.uint8), "yuyv", "even width"),
        (np.zeros((5, 4), np.uint8), "nv12", r"\(H \* 3 / 2, W\)"),
        (np.zeros((6, 5), np.uint8), "i420", r"\(H \* 3 / 2, W\)"),
        (np.zeros((9, 4), np.uint8)[:9], "nv12", None),
        ((np.zeros((4, 4), np.uint8), np.zeros((2, 2), np.uint8)), "nv12", "expected planes"),
    ],
)
def test_images_that_do_not_fit_their_format_are_refused(steps, image, pixel_format, message):
    if message is None:  # nine rows are six of luma and three of chroma
        assert steps.preprocess(image, example_spec(), pixel_format)[1].source_size == (6, 4)
        return
    with pytest.raises(ValueError, match=message):
        steps.preprocess(image, example_spec(), pixel_format)


def test_an_image_on_a_gpu_is_refused(steps):
    image = DeviceArray(4096, (48, 64, 3), (192, 3, 1), np.dtype(np.uint8), 0, None)
    with pytest.raises(ValueError, match="image: lies on a GPU; pass a copy on the host"):
        steps.preprocess(image, example_spec())
