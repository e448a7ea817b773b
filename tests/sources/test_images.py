"""Still images: every kind of pixel, every way of being broken."""

from __future__ import annotations

import logging
import os
import sys

import cv2
import numpy as np
import pytest

from edge_ssd.files import IMAGE_SUFFIXES
from edge_ssd.sources import open_source
from edge_ssd.sources.images import read_image
from tests.media import encoded, picture


def written(path, data):
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_every_suffix_of_the_list_can_be_read(tmp_path, suffix):
    image = picture()
    if suffix == ".pgm":
        image = image[..., 0]
    data = encoded(image, ".jpg" if suffix == ".jfif" else suffix)  # a JPEG, which OpenCV does not write so
    assert read_image(written(tmp_path / f"a{suffix}", data)).shape == (48, 64, 3)


def test_grey_is_repeated_in_three_channels(tmp_path):
    grey = picture()[..., 0]
    image = read_image(written(tmp_path / "a.png", encoded(grey, ".png")))
    np.testing.assert_array_equal(image, np.repeat(grey[..., None], 3, axis=2))


def test_alpha_is_left_out(tmp_path):
    rgba = np.dstack([picture(), np.full((48, 64), 7, np.uint8)])
    np.testing.assert_array_equal(
        read_image(written(tmp_path / "a.png", encoded(rgba, ".png"))), rgba[..., :3]
    )


def test_sixteen_bits_keep_the_upper_eight(tmp_path):
    deep = picture().astype(np.uint16) * 256 + 100
    np.testing.assert_array_equal(read_image(written(tmp_path / "a.png", encoded(deep, ".png"))), picture())


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (6000, 8000)])
def test_any_size(tmp_path, size):
    path = written(tmp_path / "a.jpg", encoded(np.full((*size, 3), 90, np.uint8), ".jpg"))
    assert read_image(path).shape == (*size, 3)


def test_a_turned_photo_is_turned_upright(tmp_path):
    # EXIF with one entry: orientation (0x0112), a short, one of them, 6: turn it clockwise.
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    data = encoded(picture(), ".jpg")
    data = data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]
    assert read_image(written(tmp_path / "a.jpg", data)).shape == (64, 48, 3)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("tenths", range(1, 10))
def test_a_truncated_image_is_refused_by_name(tmp_path, suffix, tenths):
    data = encoded(picture(), suffix)
    path = written(tmp_path / f"a{suffix}", data[: len(data) * tenths // 10])
    with pytest.raises(ValueError, match=rf"a\{suffix}: the .* is truncated"):
        read_image(path)


def test_a_truncated_progressive_jpeg_is_refused(tmp_path):
    data = encoded(picture(), ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    assert read_image(written(tmp_path / "a.jpg", data)).shape == (48, 64, 3)
    with pytest.raises(ValueError, match="truncated"):
        read_image(written(tmp_path / "b.jpg", data[:-10]))


def test_a_thumbnail_in_the_header_does_not_hide_that_the_image_is_truncated(tmp_path):
    data = encoded(picture(), ".jpg")
    thumbnail = encoded(picture(8, 8), ".jpg")
    header = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    whole = data[:2] + header + data[2:]
    assert read_image(written(tmp_path / "a.jpg", whole)).shape == (48, 64, 3)
    with pytest.raises(ValueError, match="truncated"):
        read_image(written(tmp_path / "b.jpg", whole[:-200]))


def test_what_a_phone_appends_to_a_jpeg_does_not_matter(tmp_path):
    motion_photo = encoded(picture(), ".jpg") + b"\0\0\0\x18ftypmp42 \xff\xda no end marker after it"
    assert read_image(written(tmp_path / "a.jpg", motion_photo)).shape == (48, 64, 3)


@pytest.mark.parametrize("place", [0.3, 0.5, 0.9])
def test_a_png_with_a_flipped_byte_is_refused(tmp_path, place):
    data = bytearray(encoded(picture(), ".png"))
    data[int(len(data) * place)] ^= 0x55
    with pytest.raises(ValueError, match=r"a\.png: not an image"):
        read_image(written(tmp_path / "a.png", bytes(data)))


@pytest.mark.parametrize(
    ("data", "said"),
    [(b"", "the file is empty"), (b"hello\n" * 50, "not an image"), (b"\xff\xd8\xff", "truncated")],
)
def test_what_is_no_image_is_refused_by_name(tmp_path, data, said):
    with pytest.raises(ValueError, match=rf"a\.jpg: .*{said}"):
        open_source(written(tmp_path / "a.jpg", data))


def test_an_image_that_is_not_there():
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jpg: no such file"):
        open_source("nowhere.jpg")


def test_an_image_is_one_frame_stamped_when_it_was_read(tmp_path):
    path = written(tmp_path / "a.png", encoded(picture(), ".png"))
    with open_source(path) as source:
        (frame,) = source
    np.testing.assert_array_equal(frame.image, picture())
    assert frame.source == str(path)
    assert frame.timestamp_ns > 0
    assert frame.capture_ms > 0
    assert (source.frame_count, source.policy) == (1, "every")


def test_a_folder_is_read_in_name_order_and_other_files_are_left_alone(tmp_path):
    for name in ("b.jpg", "a.png", "C.JPG"):
        written(tmp_path / name, encoded(picture(), "." + name[2:].lower()))
    written(tmp_path / "notes.txt", b"hello")
    (tmp_path / "folder.jpg").mkdir()
    with open_source(tmp_path) as source:
        assert source.frame_count == 3
        assert [os.path.basename(frame.source) for frame in source] == ["C.JPG", "a.png", "b.jpg"]


def test_numbers_in_names_are_in_order(tmp_path):
    for i, name in enumerate(("frame1", "frame2", "frame10", "frame10b", "frame١")):
        written(tmp_path / f"{name}.png", encoded(np.full((4, 4, 3), i, np.uint8), ".png"))
    with open_source(tmp_path) as source:
        assert [int(frame.image[0, 0, 0]) for frame in source] == [0, 1, 2, 3, 4]


def test_what_a_folder_holds_besides_images_is_counted(tmp_path, caplog):
    for name in ("a.JPG", "b.jfif"):
        written(tmp_path / name, encoded(picture(), ".jpg"))
    for name in ("c.heic", "d.HEIC", "e.avif", "README", ".hidden"):
        written(tmp_path / name, b"")
    (tmp_path / "more.jpg").mkdir()
    with caplog.at_level(logging.WARNING, "edge_ssd"), open_source(tmp_path) as source:
        assert len(list(source)) == 2
    assert caplog.messages == [f"{tmp_path}: left out 4 files (.avif, .heic, no suffix) and 1 folder"]


def test_a_folder_without_an_image_says_what_there_is(tmp_path):
    written(tmp_path / "a.heic", b"")
    with pytest.raises(ValueError, match=r"no image in this folder .*; there is: 1 file \(\.heic\)"):
        open_source(tmp_path)
    with pytest.raises(ValueError, match=r"a\.heic: images of this kind are not read; convert it to JPEG"):
        open_source(tmp_path / "a.heic")


def test_a_broken_image_in_a_folder_is_named_skipped_and_counted(tmp_path, caplog):
    data = encoded(picture(), ".jpg")
    written(tmp_path / "1.jpg", data)
    written(tmp_path / "2.jpg", data[:300])
    written(tmp_path / "3.jpg", data)
    with caplog.at_level(logging.WARNING, "edge_ssd"), open_source(tmp_path) as source:
        frames = list(source)
    assert [os.path.basename(frame.source) for frame in frames] == ["1.jpg", "3.jpg"]
    assert [frame.sequence for frame in frames] == [0, 1]
    assert source.skipped == 1
    (message,) = caplog.messages
    assert "2.jpg" in message
    assert "truncated" in message


def test_a_folder_of_broken_images_only_is_an_error(tmp_path):
    written(tmp_path / "1.jpg", b"x")
    written(tmp_path / "2.jpg", b"y")
    with open_source(tmp_path) as source, pytest.raises(ValueError, match="none of the 2 images"):
        list(source)


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"no image in this folder"):
        open_source(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="file names are any bytes on Linux only")
def test_names_that_are_not_utf8(tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b"caf\xe9.png")
    with open(path, "wb") as file:
        file.write(encoded(picture(), ".png"))
    with open_source(tmp_path) as source:
        (frame,) = source
    assert os.fsencode(frame.source) == path


def test_what_follows_the_end_of_a_png_does_not_matter(tmp_path):
    data = encoded(picture(), ".png") + b"\0" * 64
    assert read_image(written(tmp_path / "a.png", data)).shape == (48, 64, 3)
