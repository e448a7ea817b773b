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
from tests.media import Pool

BROKEN = "a frame that cannot be decoded"


class FakeCapture:
    """A cv2.VideoCapture that gives `frames`: arrays, BROKEN or exceptions of retrieve; then grab fails.

    stamp_ms: what the driver says of the frame in hand; a function of nothing.
    format: the camera's FOURCC.   size: (height, width).   takes_raw: whether the conversion can be put off.
    """

    def __init__(
        self,
        frames=(),
        opens=True,
        fps=30.0,
        stamp_ms=lambda: 0.0,
        format="MJPG",
        size=(4, 8),
        takes_raw=True,
    ):
        self.frames, self.opens, self.fps, self.stamp_ms = list(frames), opens, fps, stamp_ms
        self.format, self.size, self.takes_raw = format, size, takes_raw
        self.settings = []
        self.released = 0

    def isOpened(self):
        return self.opens

    def set(self, prop, value):
        self.settings.append((prop, value))
        return self.takes_raw or (prop, value) != (cv2.CAP_PROP_CONVERT_RGB, 0)

    def get(self, prop):
        return {
            cv2.CAP_PROP_FPS: self.fps,
            cv2.CAP_PROP_POS_MSEC: self.stamp_ms(),
            cv2.CAP_PROP_FOURCC: float(cv2.VideoWriter.fourcc(*self.format)),
            cv2.CAP_PROP_FRAME_HEIGHT: float(self.size[0]),
            cv2.CAP_PROP_FRAME_WIDTH: float(self.size[1]),
        }.get(prop, 0.0)

    def grab(self):
        self.hand = self.frames.pop(0) if self.frames else None
        return self.hand is not None

    def retrieve(self, image=None):
        """As OpenCV: into `image` where it has the frame's shape, else into memory of its own."""
        if isinstance(self.hand, Exception):
            raise self.hand
        if self.hand is BROKEN:
            return False, None
        if image is None or image.shape != self.hand.shape:
            return True, self.hand.copy()
        image[...] = self.hand
        return True, image

    def release(self):
        self.released += 1


def image():
    return np.zeros((4, 6, 3), np.uint8)


def no_buffer(shape):
    """An `allocate` whose pool is empty."""


def converts(capture):
    """What was asked about conversion to BGR, in order: 0 raw, 1 converted."""
    return [value for prop, value in capture.settings if prop == cv2.CAP_PROP_CONVERT_RGB]


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


def test_a_mode_that_the_camera_does_not_have_is_said(plugged, caplog):
    device = plugged(FakeCapture(size=(480, 640), fps=29.97)).device
    open_camera(CameraOptions(device, width=640, height=480, fps=30, format="MJPG"))
    assert caplog.messages == []
    plugged(FakeCapture(size=(480, 640), fps=15.0))
    open_camera(CameraOptions(device, width=1280, height=480, fps=30, format="YUYV"))
    assert [message.partition("asked for ")[2] for message in caplog.messages] == [
        "width=1280, the camera gives 640",
        "fps=30, the camera gives 15",
        "format=YUYV, the camera gives MJPG",
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
    for options in ({"width": 1280}, {"height": 720}, {"format": "MJPG"}):
        with pytest.raises(ValueError, match="csi://1: takes width and height together, and fps"):
            csi_pipeline(CameraOptions("csi://1", **options))


@pytest.mark.parametrize(
    ("fourcc", "pixel_format", "shape"),
    [
        ("YUYV", "yuyv", (4, 8, 2)),
        ("UYVY", "uyvy", (4, 8, 2)),
        ("NV12", "nv12", (6, 8)),
        ("YU12", "i420", (6, 8)),
    ],
)
def test_a_raw_format_is_taken_as_the_camera_gives_it(plugged, rng, fourcc, pixel_format, shape):
    raw = rng.integers(0, 256, shape, np.uint8)
    capture = FakeCapture([raw], format=fourcc)
    frame = open_camera(plugged(capture), no_buffer).read()
    assert converts(capture) == [0]
    assert (frame.pixel_format, frame.image_size) == (pixel_format, (4, 8))
    np.testing.assert_array_equal(frame.image, raw)
    assert frame.copies == 2  # both inside OpenCV: out of the driver's buffer, and out of its own


@pytest.mark.parametrize(
    ("fourcc", "size", "takes_raw", "why"),
    [
        ("MJPG", (4, 8), True, "compressed"),
        ("YV12", (4, 8), True, "V before U"),
        ("GREY", (4, 8), True, "not a format of Frame's"),
        ("\0\0\0\0", (4, 8), True, "the backend does not say"),
        ("YUYV", (4, 6), True, "rows of twelve bytes, whatever the width"),
        ("NV12", (5, 8), True, "half a row of chroma"),
        ("YUYV", (4, 8), False, "the backend cannot leave the conversion out"),
    ],
)
def test_any_other_format_is_converted_by_opencv(plugged, fourcc, size, takes_raw, why):
    capture = FakeCapture([np.zeros((*size, 3), np.uint8)], format=fourcc, size=size, takes_raw=takes_raw)
    frame = open_camera(plugged(capture), no_buffer).read()
    assert (frame.pixel_format, frame.image_size, frame.copies) == ("bgr8", size, 1), why
    assert converts(capture) == ([] if takes_raw else [0])


def test_raw_frames_of_another_layout_make_opencv_convert(plugged, caplog):
    """What an OpenCV does that does not know the format: one row of bytes."""
    capture = FakeCapture([np.zeros((1, 48), np.uint8), np.zeros((4, 8, 3), np.uint8)], format="NV12")
    with caplog.at_level(logging.WARNING, "edge_ssd"):
        reader = open_camera(plugged(capture), no_buffer)
        frame = reader.read()
    assert (frame.pixel_format, frame.image_size, reader.skipped) == ("bgr8", (4, 8), 1)
    assert converts(capture) == [0, 1]
    assert "expected nv12 frames of shape (6, 8), got (1, 48); OpenCV converts" in caplog.messages[0]


@pytest.mark.parametrize("broken", [BROKEN, cv2.error("short frame")], ids=["nothing", "exception"])
def test_a_broken_raw_frame_is_passed_over(plugged, broken):
    capture = FakeCapture([broken, np.zeros((4, 8, 2), np.uint8)], format="YUYV")
    reader = open_camera(plugged(capture), no_buffer)
    assert (reader.read().pixel_format, reader.skipped, converts(capture)) == ("yuyv", 1, [0])


def test_frames_for_the_cpu_are_converted_by_opencv_which_is_fast(plugged):
    capture = FakeCapture([np.zeros((4, 8, 3), np.uint8)], format="YUYV")
    assert open_camera(plugged(capture)).read().pixel_format == "bgr8"
    assert converts(capture) == []


def test_raw_frames_go_into_buffers_too(plugged):
    pool = Pool()
    capture = FakeCapture([np.full((6, 8), level, np.uint8) for level in range(3)], format="NV12")
    reader = open_camera(plugged(capture), pool)
    frames = [reader.read() for _ in range(3)]
    assert [frame.copies for frame in frames] == [3, 2, 2]  # the first shape is not known before it is there
    assert [int(frame.image.max()) for frame in frames] == [0, 1, 2]
    assert all(frame.image is buffer for frame, buffer in zip(frames, pool.buffers))


def test_a_camera_that_changes_its_size_gets_another_buffer():
    pool = Pool()
    images = [np.full((4, width, 3), width, np.uint8) for width in (8, 8, 16, 16)]
    reader = CameraReader(FakeCapture(images), "cam", pool)
    frames = [reader.read() for _ in images]
    assert [frame.copies for frame in frames] == [2, 1, 2, 1]
    for frame, expected in zip(frames, images):
        np.testing.assert_array_equal(frame.image, expected)
        assert any(frame.image is buffer for buffer in pool.buffers)


def test_a_capture_that_leaves_the_buffer_alone_costs_one_copy():
    class Stubborn(FakeCapture):
        def retrieve(self, image=None):
            return super().retrieve()

    pool = Pool()
    reader = CameraReader(Stubborn([np.full((4, 8, 3), level, np.uint8) for level in range(3)]), "cam", pool)
    frames = [reader.read() for _ in range(3)]
    assert [frame.copies for frame in frames] == [2, 2, 2]
    assert [int(frame.image.max()) for frame in frames] == [0, 1, 2]
    assert [id(frame.image) for frame in frames] == [id(buffer) for buffer in pool.buffers]


def test_an_empty_pool_is_no_obstacle():
    reader = CameraReader(FakeCapture([image(), image()]), "cam", no_buffer)
    assert [reader.read().copies for _ in range(2)] == [1, 1]


def test_every_reopened_camera_reads_into_the_pool(plugged, monkeypatch):
    monkeypatch.setattr(source_module, "_FIRST_PAUSE_S", 0.01)
    options, pool = plugged(FakeCapture([image()]), FakeCapture([image()])), Pool()
    monkeypatch.setattr(CameraOptions, "from_address", lambda address: options)
    with open_source("0", policy="every", allocate=pool) as source:
        assert [source.read().image is pool.buffers[i] for i in range(2)] == [True, True]


@pytest.mark.parametrize(("device", "copies"), [("/dev/video0", 0), ("csi://0", 1)])
def test_frames_of_a_jetson_camera_are_copied_out_of_its_memory(device, copies):
    assert CameraReader(FakeCapture(), device).driver_copies == copies
