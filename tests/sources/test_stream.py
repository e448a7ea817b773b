"""Network streams, from a server on this machine that stops and comes back."""

from __future__ import annotations

import logging
import threading

import pytest

from edge_ssd.sources import open_source
from edge_ssd.sources import source as source_module
from tests.media import encoded, picture, write_video
from tests.stream_server import StreamServer


@pytest.fixture
def server(tmp_path):
    with StreamServer() as server:
        server.files = {
            "/a.mp4": ("video/mp4", write_video(tmp_path / "a.mp4", 20).read_bytes()),
            "/a.jpg": ("image/jpeg", encoded(picture(), ".jpg")),
            "/page": ("text/html", b"<html>no camera here</html>" * 50),
        }
        yield server


def test_a_video_file_on_a_server_is_no_live_source(server):
    with open_source(f"{server.address}/a.mp4") as source:
        assert (source.is_live, source.policy, source.frame_count) == (False, "every", 20)
        assert len(list(source)) == 20


def test_a_picture_on_a_server_is_one_frame(server):
    with open_source(f"{server.address}/a.jpg") as source:
        assert not source.is_live
        (frame,) = source
    assert frame.image_size == (48, 64)
    assert frame.source == f"{server.address}/a.jpg"


def test_a_motion_jpeg_stream_is_live(server):
    with open_source(f"{server.address}/live") as source:
        assert (source.is_live, source.policy, source.frame_count) == (True, "newest", 0)
        frame = source.read()
    assert frame.image_size == (48, 64)
    assert frame.timestamp_source == "arrival"


def test_a_stream_that_stops_and_comes_back_is_opened_again(server, monkeypatch, caplog):
    monkeypatch.setattr(source_module, "_FIRST_PAUSE_S", 0.02)
    server.burst = 5
    with (
        caplog.at_level(logging.WARNING, "edge_ssd"),
        open_source(f"{server.address}/live", policy="every") as source,
    ):
        frames = [source.read() for _ in range(12)]
        assert source.reopened == 2
    assert [frame.sequence for frame in frames] == list(range(12))
    assert server.visits == 3
    assert f"{server.address}/live: the stream stopped after 5 frames; trying again in" in caplog.text


@pytest.mark.parametrize("path", ["/page", "/nothing"])
def test_an_address_without_video_is_an_error(server, path):
    with pytest.raises(OSError, match=rf"{path}: no video stream there"):
        open_source(server.address + path)


def test_a_server_that_is_not_there_is_an_error():
    with pytest.raises(OSError, match="no video stream there"):
        open_source("http://127.0.0.1:9/live")  # the discard port


def test_a_closed_source_leaves_no_thread_behind(server):
    source = open_source(f"{server.address}/live")
    source.read()
    source.close()
    assert "edge_ssd-capture" not in [thread.name for thread in threading.enumerate()]
