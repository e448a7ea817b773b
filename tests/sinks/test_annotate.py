"""Drawing: boxes and labels where they belong, on any image."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edge_ssd.detections import Detections
from edge_ssd.frames import PIXEL_FORMATS, Frame
from edge_ssd.sinks.annotate import annotate, class_color, to_bgr
from tests.media import picture
from tests.results import result


def drawn(image, boxes, **changes):
    frame_result = result(image, boxes, **changes)
    return annotate(frame_result.frame, frame_result.detections, frame_result.class_names)


def test_the_frame_itself_stays_as_it_is():
    image = picture(200, 300)
    before = image.copy()
    assert not np.array_equal(drawn(image, [(50, 80, 150, 180)]), before)
    np.testing.assert_array_equal(image, before)


def test_no_detections_no_change():
    image = picture()
    np.testing.assert_array_equal(drawn(image, ()), image)


def test_the_box_is_drawn_on_its_edges_in_the_colour_of_its_class():
    image = np.zeros((200, 300, 3), np.uint8)
    marked = drawn(image, [(50, 80, 150, 180)], labels=[1])
    for x, y in ((50, 130), (150, 130), (100, 180)):
        np.testing.assert_allclose(marked[y, x], class_color(1), atol=2)
    assert not marked[90:170, 60:140].any()  # nothing inside


def test_the_label_lies_above_its_box():
    marked = drawn(np.zeros((200, 300, 3), np.uint8), [(50, 80, 150, 180)])
    rows, columns = np.nonzero(marked[:78].any(axis=2))
    assert rows.min() >= 50
    assert columns.min() >= 49
    assert columns.max() < 200


@pytest.mark.parametrize("box", [(0, 0, 30, 30), (250, 0, 300, 60), (0, 150, 20, 200), (280, 180, 300, 200)])
def test_a_label_at_the_border_is_moved_inside(box):
    """As much of the label shows as of one in the middle: its fill and its text."""
    middle = drawn(np.zeros((200, 300, 3), np.uint8), [(100, 100, 101, 101)])
    border = drawn(np.zeros((200, 300, 3), np.uint8), [box])
    filled = np.count_nonzero((border == class_color(0)).all(axis=2))
    assert filled >= 0.9 * np.count_nonzero((middle == class_color(0)).all(axis=2))


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (500, 3), (16, 16)])
def test_images_smaller_than_a_label(size):
    image = np.zeros((*size, 3), np.uint8)
    assert drawn(image, [(0, 0, size[1], size[0])]).shape == image.shape


def test_the_best_of_two_boxes_lies_on_top():
    best, second = (50, 80, 150, 180), (50, 80, 150, 180)
    marked = drawn(np.zeros((200, 300, 3), np.uint8), [best, second], scores=[0.9, 0.6], labels=[1, 0])
    np.testing.assert_allclose(marked[180, 100], class_color(1), atol=2)


def test_names_beyond_ascii_are_drawn_with_question_marks():
    image = np.zeros((200, 300, 3), np.uint8)
    foreign = drawn(image, [(50, 80, 150, 180)], class_names=("猫",))
    np.testing.assert_array_equal(foreign, drawn(image, [(50, 80, 150, 180)], class_names=("?",)))


def test_a_name_of_any_length_and_content_is_one_short_line(monkeypatch):
    texts = []
    monkeypatch.setattr(cv2, "putText", lambda _, text, *rest: texts.append(text))
    names = ["a\n\x1b[2J\u202e" + "x" * 1_000_000, "b"]
    drawn(np.zeros((200, 300, 3), np.uint8), [(50, 80, 150, 180)], labels=[0], class_names=names)
    (text,) = texts
    assert text.startswith(r"a\n\x1b[2J\u202e")
    assert text.endswith(" 0.90")
    assert len(text) <= 60


def test_twenty_classes_have_twenty_colours():
    assert len({class_color(i) for i in range(20)}) == 20


def converted(grey, pixel_format):
    """A grey BGR image in another pixel format."""
    codes = {"rgb8": cv2.COLOR_BGR2RGB, "bgra8": cv2.COLOR_BGR2BGRA, "rgba8": cv2.COLOR_BGR2RGBA}
    codes |= {"mono8": cv2.COLOR_BGR2GRAY, "i420": cv2.COLOR_BGR2YUV_I420}
    if pixel_format in codes:
        return cv2.cvtColor(grey, codes[pixel_format])
    height, width = grey.shape[:2]
    luma = cv2.cvtColor(grey, cv2.COLOR_BGR2YUV_I420)[:height]
    if pixel_format == "nv12":
        return luma, np.full((height // 2, width // 2, 2), 128, np.uint8)
    pair = [luma, np.full_like(luma, 128)]
    return np.dstack(pair if pixel_format == "yuyv" else pair[::-1])


@pytest.mark.parametrize("pixel_format", [name for name in PIXEL_FORMATS if name != "bgr8"])
@pytest.mark.parametrize("size", [(48, 64), (6, 10)])
def test_every_pixel_format_comes_back_to_bgr(pixel_format, size):
    grey = np.repeat(picture(*size)[..., :1], 3, axis=2)
    frame = result(converted(grey, pixel_format), (), pixel_format=pixel_format).frame
    np.testing.assert_allclose(to_bgr(frame), grey, atol=3)


@pytest.mark.parametrize("pixel_format", ["i420", "nv12", "yuyv", "uyvy"])
def test_raw_camera_formats_keep_their_colours(pixel_format):
    image = np.full((6, 8, 3), (200, 60, 30), np.uint8)
    i420 = cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420)
    luma, u, v = i420[0, 0], i420[6, 0], i420[8, 7]
    raw = {
        "i420": i420,
        "nv12": np.vstack([i420[:6], np.tile(np.uint8([u, v]), (3, 4))]),
        "yuyv": np.tile(np.uint8([luma, u, luma, v]), (6, 4)).reshape(6, 8, 2),
        "uyvy": np.tile(np.uint8([u, luma, v, luma]), (6, 4)).reshape(6, 8, 2),
    }[pixel_format]
    frame = result(raw, (), pixel_format=pixel_format).frame
    np.testing.assert_allclose(to_bgr(frame), image, atol=4)
    assert drawn(raw, [(1, 1, 5, 5)], pixel_format=pixel_format).shape == image.shape


def test_key_points_are_drawn_inside_of_the_image():
    frame = Frame(np.zeros((100, 100, 3), np.uint8))
    points = np.array([[[50, 70], [1e9, -5]]], np.float32)
    found = Detections([[20, 30, 90, 95]], [0.9], [0], (100, 100), 0, points)
    plain = annotate(frame, Detections([[20, 30, 90, 95]], [0.9], [0], (100, 100)), ["face"])
    image = annotate(frame, found, ["face"])
    assert not plain[70, 50].any()
    assert image[70, 50].any()
