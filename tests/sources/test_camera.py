"""Cameras, through captures that stand in for OpenCV's."""

from __future__ import annotations

import errno
import logging
import subprocess
import sys

import cv2
import numpy as np
import pytest

from edge_ssd.frames import now_ns
from edge_ssd.sources import camera as camera_module
from edge_ssd.sources import open_source
from edge_ssd.sources import source as source_module
from edge_ssd.sources.camera import CameraOptions, CameraReader, csi_pipeline, open_camera
from edge_ssd.sources.source import Source

BROKEN = "a frame that cannot be decoded"


class FakeCapture:
    """A cv2.VideoCapture that gives `frames`: arrays, BROKEN or exceptions of retrieve; then grab fails.

    stamp_ms: what the driver says of the frame in hand; a function of nothing.
    """

    def __init__(self, frames=(), opens=True, fps=30.0, stamp_ms=lambda: 0.0):
        self.frames, self.opens, self.fps, self.stamp_ms = list(frames), opens, fps, stamp_ms
        self.settings = []
        self.released = 0

    def isOpened(self):
        return self.opens

    def set(self, prop, value):
        self.settings.append((prop, value))
        return True

    def get(self, prop):
        return {cv2.CAP_PROP_FPS: self.fps, cv2.CAP_PROP_POS_MSEC: self.stamp_ms()}.get(prop, 0.0)

    def grab(self):
        self.hand = self.frames.pop(0) if self.frames else None
        return self.hand is not None

    def retrieve(self):
        if isinstance(self.hand, Exception):
            raise self.hand
        return (False, None) if self.hand is BROKEN else (True, self.hand)

    def release(self):
        self.released += 1


def image():
    return np.zeros((4, 6, 3), np.uint8)


@pytest.fixture
def plugged(tmp_path, monkeypatch):
    """Lets cv2 open `captures` in order, and gives the options of a camera that exists."""

    def plug(*captures):
        waiting = list(captures)
        monkeypatch.setattr(camera_module.cv2, "VideoCapture", lambda *_: waiting.pop(0))
        device = tmp_path / "video0"
        device.touch()
        return CameraOptions(str(device))

    return plug


@pytest.mark.parametrize(
    ("address", "options"),
    [
        ("0", CameraOptions("/dev/video0")),
        ("12", CameraOptions("/dev/video12")),
        ("/dev/video2", CameraOptions("/dev/video2")),
        ("/dev/video2?fps=30", CameraOptions("/dev/video2", fps=30)),
        ("/dev/v4l/by-id/usb-cam", CameraOptions("/dev/v4l/by-id/usb-cam")),
        ("csi://1?width=1280&height=720", CameraOptions("csi://1", 1280, 720)),
        (
            "v4l2:///dev/video0?width=640&height=480&fps=60&format=mjpg",
            CameraOptions("/dev/video0", 640, 480, 60, "MJPG"),
        ),
    ],
)
def test_addresses_of_cameras(address, options):
    assert CameraOptions.from_address(address) == options


@pytest.mark.parametrize("query", ["width=0", "width=-1", "width=x", "fps=29.97", "format=MJPEG", "zoom=2"])
def test_a_wrong_parameter_is_named(query):
    with pytest.raises(ValueError, match=f"0\\?{query}: {query}: expected width, height, fps"):
        open_source(f"0?{query}")


@pytest.mark.parametrize("address", ["97", "/dev/video97", "v4l2:///dev/video97", "/dev/v4l/by-id/none"])
def test_a_camera_that_is_not_there_is_named_with_those_that_are(address):
    with pytest.raises(FileNotFoundError, match=r"/dev/v.*: no such camera; cameras here: "):
        open_source(address)


def test_a_camera_without_permission_says_what_to_do(plugged, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")  # root would not be refused

    options = plugged()
    monkeypatch.setattr(camera_module.Path, "open", refuse)
    with pytest.raises(PermissionError, match="video0: no permission; add the user to the group 'video'"):
        open_camera(options)


@pytest.mark.skipif(sys.platform != "linux", reason="the users of a device are found in /proc")
def test_a_camera_in_use_names_the_program_that_holds_it(plugged):
    options = plugged(FakeCapture(opens=False))
    code = f"import sys; f = open({options.device!r}); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        holder.stdout.readline()
        with pytest.raises(OSError, match=rf"in use by .* \(process {holder.pid}\)"):
            open_camera(options)
        holder.stdin.close()


def test_a_device_that_is_no_camera(plugged):
    with pytest.raises(OSError, match=r"video0: cannot be opened as a camera$"):
        open_camera(plugged(FakeCapture(opens=False)))


def test_what_is_asked_of_a_camera_is_set_format_first(plugged):
    capture = FakeCapture()
    device = plugged(capture).device
    open_camera(CameraOptions(device, width=1280, height=720, fps=60, format="MJPG"))
    assert capture.settings[1:] == [
        (cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG")),
        (cv2.CAP_PROP_FRAME_WIDTH, 1280),
        (cv2.CAP_PROP_FRAME_HEIGHT, 720),
        (cv2.CAP_PROP_FPS, 60),
    ]


def test_the_drivers_time_stamp_is_taken_where_it_is_on_our_clock():
    stamp_ns = now_ns() - 20_000_000
    reader = CameraReader(FakeCapture([image()], stamp_ms=lambda: stamp_ns / 1e6), "cam")
    frame = reader.read()
    assert frame.timestamp_source == "driver"
    assert abs(frame.timestamp_ns - stamp_ns) < 1000


@pytest.mark.parametrize(
    ("stamp_ms", "what"),
    [
        (lambda: 0.0, "none"),
        (lambda: 1.7e12, "wall clock"),
        (lambda: now_ns() / 1e6 - 3_600_000, "an hour old"),
        (lambda: now_ns() / 1e6 + 1000, "in the future"),
    ],
)
def test_any_other_time_stamp_is_replaced_by_the_arrival(stamp_ms, what):
    before = now_ns()
    frame = CameraReader(FakeCapture([image()], stamp_ms=stamp_ms), "cam").read()
    assert frame.timestamp_source == "arrival", what
    assert before <= frame.timestamp_ns <= now_ns()


@pytest.mark.parametrize("broken", [BROKEN, cv2.error("bad JPEG")], ids=["nothing", "exception"])
def test_a_broken_frame_is_passed_over_and_counted(broken):
    reader = CameraReader(FakeCapture([broken, broken, image(), broken, image()]), "cam")
    assert reader.read().image_size == (4, 6)
    assert reader.read().image_size == (4, 6)
    assert reader.skipped == 3


def test_nothing_but_broken_frames_is_a_failure():
    reader = CameraReader(FakeCapture([BROKEN] * 100), "cam")
    with pytest.raises(OSError, match="cam: 10 frames in a row could not be decoded"):
        reader.read()


def test_a_camera_that_gives_no_first_frame_is_an_error(plugged):
    options = plugged(FakeCapture())
    with (
        Source(lambda: open_camera(options), "0", None, float("inf")) as source,
        pytest.raises(OSError, match="video0: the camera opens but gives no frame"),
    ):
        source.read()


def test_a_camera_unplugged_and_plugged_in_again_goes_on(plugged, monkeypatch, caplog):
    monkeypatch.setattr(source_module, "_FIRST_PAUSE_S", 0.01)
    first, busy, second = FakeCapture([image()] * 2), FakeCapture(opens=False), FakeCapture([image()] * 2)
    options = plugged(first, busy, second)
    with (
        caplog.at_level(logging.WARNING, "edge_ssd"),
        Source(lambda: open_camera(options), "0", "every", float("inf")) as source,
    ):
        assert [source.read().sequence for _ in range(4)] == [0, 1, 2, 3]
        assert source.reopened == 1
    assert "stopped giving frames after 2; unplugged?; trying again" in caplog.messages[0]
    assert "cannot be opened as a camera" in caplog.messages[1]
    assert (first.released, second.released) == (1, 1)


def test_a_jetson_camera_needs_gstreamer(monkeypatch):
    monkeypatch.setattr(camera_module.cv2, "getBuildInformation", lambda: "    GStreamer:    NO\n")
    with pytest.raises(OSError, match="csi://0: needs an OpenCV with GStreamer"):
        open_source("csi://0")


def test_the_pipeline_of_a_jetson_camera_never_queues_frames():
    pipeline = csi_pipeline(CameraOptions("csi://1", 1280, 720, 30))
    assert pipeline.startswith("nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM), width=1280, ")
    assert "framerate=30/1" in pipeline
    assert pipeline.endswith("appsink drop=true max-buffers=1 sync=false")
