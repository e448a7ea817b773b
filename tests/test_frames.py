"""Frames: what fits a pixel format, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from edge_ssd import Frame


def test_defaults_describe_what_opencv_gives():
    frame = Frame(np.zeros((4, 6, 3), np.uint8))
    assert frame.pixel_format == "bgr8"
    assert (frame.color_matrix, frame.color_range) == ("bt601", "limited")
    assert frame.timestamp_source == "arrival"
    assert frame.image_size == (4, 6)


def test_planes_are_views_of_the_image():
    image = np.zeros((6, 8), np.uint8)
    luma, chroma = Frame(image, "nv12").planes
    assert luma.shape == (4, 8)
    assert chroma.shape == (2, 4, 2)
    image[:] = 7
    assert (luma == 7).all()
    assert (chroma == 7).all()


def test_i420_with_a_pitch_and_odd_quarter_rows_is_split_right():
    # Height 6: three rows of U fill one and a half rows of the image.
    flat = np.arange(9 * 4, dtype=np.uint8).reshape(9, 4)
    luma, u, v = Frame(flat, "i420").planes
    assert luma.shape == (6, 4)
    assert u.ravel().tolist() == list(range(24, 30))
    assert v.ravel().tolist() == list(range(30, 36))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pixel_format": "bgr"}, "pixel_format: expected one of bgr8"),
        ({"color_matrix": "bt2020"}, "color_matrix"),
        ({"color_range": "video"}, "color_range"),
        ({"timestamp_source": "clock"}, "timestamp_source"),
        ({"image": [[1, 2, 3]]}, "expected a NumPy, CUDA or DLPack array, got builtins.list"),
        ({"image": np.zeros(3, np.uint8)}, r"expected \(H, W, 3\)"),
    ],
)
def test_what_a_frame_cannot_be_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        Frame(**{"image": np.zeros((4, 4, 3), np.uint8), **changes})


def test_a_frame_equals_itself_alone_whatever_its_pixels():
    image = np.zeros((4, 6, 3), np.uint8)
    frame, same_pixels, other_shape = Frame(image), Frame(image), Frame(np.zeros((2, 2, 3), np.uint8))
    assert frame == frame
    assert frame != same_pixels
    assert frame != other_shape
    assert frame != image.tobytes()
    assert len({frame, frame, same_pixels, other_shape}) == 3
    assert {frame: 1, same_pixels: 2}[frame] == 1


def test_a_frame_of_planes_can_be_compared_and_hashed():
    planes = np.zeros((4, 6), np.uint8), np.zeros((2, 3, 2), np.uint8)
    frame = Frame(planes, "nv12")
    assert frame != Frame(planes, "nv12")
    assert frame in {frame}
