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
        ("photos/a?user=me.jpg", "photos/a?user=me.jpg"),
        ("rtsp://user:p@ss@camera/x", "rtsp://camera/x"),  # up to the last @ of the authority
        ("rtsp://user:p/ss@camera/x", "rtsp://camera/x"),  # not escaped, as it should have been
        ("rtsp://user:p?s#s@camera/x", "rtsp://camera/x"),
        ("rtsp://[fe80::1]:554/mail@home", "rtsp://[fe80::1]:554/mail@home"),
        ("http://cam/live.m3u8?user=admin&pwd=s3cret", "http://cam/live.m3u8?user=***&pwd=***"),
        ("http://cam/a?size=1&PassWord=x%26y&fps=5", "http://cam/a?size=1&PassWord=***&fps=5"),
        (
            "http://cam/a?passwd=x&login=y&usr=z&pass=a&username=b",
            "http://cam/a?passwd=***&login=***&usr=***&pass=***&username=***",
        ),
        (
            "http://cam/a?access_token=x/y&api_key=z#w&auth=v&secret=u",
            "http://cam/a?access_token=***&api_key=***&auth=***&secret=***",
        ),
        ("http://cam/a?loginpas=x&p%77d=y", "http://cam/a?loginpas=***&p%77d=***"),
        ("http://cam/a?x=1;pwd=y;z", "http://cam/a?x=1;pwd=***"),
        ("http://cam/a?u=me&p=x&t=3", "http://cam/a?u=***&p=***&t=3"),
        (
            "rtsp://cam:554/user=admin_password=x_channel=1.sdp",
            "rtsp://cam:554/user=***_password=***_channel=1.sdp",
        ),
        ("rtsp://cam/user=admin&password=x&channel=1/a", "rtsp://cam/user=***&password=***&channel=1/a"),
        ("http://cam/a?user&pwd", "http://cam/a?user&pwd"),
        ("mqtt://me:x@broker/topic", "mqtt://broker/topic"),
        ("http://u:p@h/" + "x" * 5000, "http://..."),
    ],
)
def test_a_password_is_not_shown(address, shown):
    assert without_login(address) == shown


def test_a_password_is_not_in_the_error():
    with pytest.raises(OSError, match=r"^http://127\.0\.0\.1:9/x: no video stream there"):
        open_source("HTTP://user:secret@127.0.0.1:9/x")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("~nobody_of_this_name/x.mp4", "~nobody_of_this_name/x.mp4: there is no such user"),
        ("file:///a%00b.mp4", r"'/a\\x00b\.mp4': expected a path, which has no NUL"),
        (
            "rtsp://u:secret@h:99999/",
            "rtsp://h:99999/: expected rtsp://HOST or HOST:PORT, with a port up to 65535",
        ),
        ("rtsp://u:secret@h:x/", "rtsp://h:x/: expected rtsp://HOST or HOST:PORT"),
        ("http://u:secret@[::1/", r"http://\[::1/: expected http://HOST"),
        ("http://u:secret\u2100@h/", "http://h/: expected http://HOST"),
        ("http://h/\r\nX: y", "expected an address without control characters"),
        ("http://u:secret@h/" + "x" * 5000, "expected an address of at most 4096 characters"),
        ("demo://?frames=1e20", "frames: expected a whole number, got '1e20'"),
        (
            "demo://?frames=99999999999999999999",
            "frames: expected a whole number of at most 1000000000",
        ),
        ("demo://?frames=٣", "frames: expected a whole number, got"),
        ("demo://?frames=1_0", "frames: expected a whole number, got"),
        ("demo://?seed=" + "9" * 5000, "seed: expected a whole number, got"),
        ("demo://?seed=99999999999999999999", "seed: expected a whole number of at most"),
        ("demo://?scene=99999999999", "scene: expected a whole number of at most"),
        ("demo://?fps=٣", "fps: expected a number, got"),
        ("demo://?size=64x٦٤", "size: expected WIDTHxHEIGHT"),
        ("demo://[", "expected demo://"),
        ("0?width=٣", "expected width, height, fps"),
        ("0?width=" + "9" * 5000, "expected width, height, fps"),
        ("9" * 5000, "expected a camera such as 0, /dev/video0 or csi://0"),
        ("csi://٣", "expected a camera such as 0"),
    ],
)
def test_an_address_that_cannot_be_one(address, message):
    with pytest.raises(ValueError, match=message) as caught:
        open_source(address)
    assert "secret" not in str(caught.value)


def test_digits_of_other_scripts_are_no_camera():
    with pytest.raises(FileNotFoundError, match="٣: no such file or folder"):
        open_source("٣")


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
