"""open_source: which address opens what, and what it says of the others."""

from __future__ import annotations

import pytest

from edge_ssd.sources import open_source
from edge_ssd.sources.address import has_all_frames, without_login


def test_the_rendered_camera():
    with open_source("demo://?frames=3&size=64x64") as source:
        assert (source.frame_count, source.fps, source.is_live) == (3, 30.0, False)
        frames = list(source)
    assert [frame.sequence for frame in frames] == [0, 1, 2]
    assert frames[0].image_size == (64, 64)
    assert frames[0].source == "demo://?frames=3&size=64x64"


def test_an_unknown_scheme_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match=r"ftp://x: unknown kind of source ftp://; known: demo, v4l2, csi"):
        open_source("ftp://x")


def test_an_unknown_policy_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match="policy: expected one of newest, every, got 'latest'"):
        open_source("demo://", policy="latest")


def test_a_file_that_is_not_there():
    with pytest.raises(FileNotFoundError, match=r"nowhere\.mp4: no such file or folder"):
        open_source("nowhere.mp4")


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://user:secret@camera:554/stream?x=1", "rtsp://camera:554/stream?x=1"),
        ("http://user@host/a.mp4", "http://host/a.mp4"),
        ("rtsp://camera/mail@home", "rtsp://camera/mail@home"),
        ("photos/me@home.jpg", "photos/me@home.jpg"),
    ],
)
def test_a_password_is_not_shown(address, shown):
    assert without_login(address) == shown


def test_a_password_is_not_in_the_error():
    with pytest.raises(OSError, match=r"^http://127\.0\.0\.1:9/x: no video stream there"):
        open_source("HTTP://user:secret@127.0.0.1:9/x")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("clip.mp4", True),
        ("photos", True),
        ("file:///data/clip.mp4", True),
        ("FILE:///data/clip.mp4", True),
        ("photo.JPG", False),
        ("0", False),
        ("/dev/video0?width=640", False),
        ("rtsp://camera/clip.mp4", False),
        ("demo://", False),
    ],
)
def test_what_has_all_its_frames_from_the_start(address, expected):
    assert has_all_frames(address) is expected
