"""Cameras: V4L2 devices (USB and others), and a Jetson's CSI cameras through GStreamer."""

from __future__ import annotations

import logging
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import cv2
import numpy as np

from ..frames import Frame, now_ns
from .retrieve import Retriever
from .source import Allocate
from .video import sane_fps

log = logging.getLogger("edge_ssd")

# A driver's time stamp is believed when it is on the monotonic clock, that is, at most this old.
_OLDEST_STAMP_NS = 10_000_000_000

# USB cameras send a broken JPEG now and then; so many in a row are a failure.
_BROKEN_IN_A_ROW = 10

# FOURCC of the formats that are taken as the camera gives them, and what `Frame` calls them.
_RAW_FORMATS = {"YUYV": "yuyv", "UYVY": "uyvy", "NV12": "nv12", "YU12": "i420"}


@dataclass(frozen=True)
class CameraOptions:
    """Which camera, and what to ask of it; 0 and "" leave the driver's choice.

    device: "/dev/video0", or "csi://0".   width, height: pixels.   fps: frames per second.
    format: FOURCC of the camera's own format; MJPG gives most USB cameras their full frame rate.
    """

    device: str
    width: int = 0
    height: int = 0
    fps: int = 0
    format: str = ""

    @classmethod
    def from_address(cls, address: str) -> CameraOptions:
        """Options of "0", "0?width=1280", "/dev/video0", "v4l2:///dev/video0?fps=30" or "csi://0".

        Raises ValueError naming the parameter that is unknown or wrong.
        """
        place, _, query = address.partition("?")
        place = place.removeprefix("v4l2://")
        if re.fullmatch(r"[0-9]{1,6}", place):
            place = f"/dev/video{int(place)}"
        if not re.fullmatch(r"/dev/[^\0]+|csi://[0-9]{0,6}", place):
            raise ValueError(f"{address}: expected a camera such as 0, /dev/video0 or csi://0")
        values: dict[str, Any] = {}
        for key, value in parse_qsl(query, keep_blank_values=True):
            if key == "format" and re.fullmatch(r"[A-Za-z0-9]{4}", value):
                values[key] = value.upper()
            elif key in ("width", "height", "fps") and re.fullmatch(r"0*[1-9][0-9]{0,5}", value):
                values[key] = int(value)
            else:
                raise ValueError(
                    f"{address}: {key}={value}: expected width, height, fps (whole numbers above 0) "
                    "or format (four characters, such as MJPG)"
                )
        return cls(place, **values)


def open_camera(options: CameraOptions, allocate: Allocate | None = None) -> CameraReader:
    """The reader of a camera. Raises OSError with the likely reason when it cannot be opened.

    allocate: of the memory to read frames into, see `open_source`; with it, frames come in the camera's own
        pixel_format where that is yuyv, uyvy, nv12 or i420.
    """
    if options.device.startswith("csi://"):
        return CameraReader(_open_csi(options), options.device, allocate)
    device = Path(options.device)
    if not device.exists():
        present = ", ".join(map(str, sorted(Path("/dev").glob("video*")))) or "none"
        raise FileNotFoundError(f"{device}: no such camera; cameras here: {present}")
    try:
        device.open("rb").close()
    except PermissionError:
        raise PermissionError(
            f"{device}: no permission; add the user to the group 'video' and log in again"
        ) from None
    except OSError as error:
        raise OSError(f"{device}: {error.strerror}{_users_shown(device)}") from error
    capture = cv2.VideoCapture(str(device), cv2.CAP_V4L2)
    if not capture.isOpened():
        raise OSError(f"{device}: cannot be opened as a camera{_users_shown(device)}")
    _configure(capture, options)
    _say_what_was_refused(capture, options)
    # The GPU converts while it resizes. On the CPU OpenCV's conversion is the faster one: 0.5 ms for 1280 x 720,
    # against 10 ms that the reference needs for YUYV in float.
    return CameraReader(capture, options.device, allocate, _raw_format(capture) if allocate else "")


def _configure(capture: cv2.VideoCapture, options: CameraOptions) -> None:
    # Two buffers: the driver fills one while the other is read. With one it would miss every other frame,
    # and what waits in a longer queue is stale.
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 2)
    # The format first: the sizes and rates on offer depend on it.
    if options.format:
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*options.format))
    for prop, value in (
        (cv2.CAP_PROP_FRAME_WIDTH, options.width),
        (cv2.CAP_PROP_FRAME_HEIGHT, options.height),
        (cv2.CAP_PROP_FPS, options.fps),
    ):
        if value:
            capture.set(prop, value)


def _say_what_was_refused(capture: cv2.VideoCapture, options: CameraOptions) -> None:
    """A camera takes the nearest mode that it has, and says nothing."""
    height, width = _image_size(capture)
    fps, form = sane_fps(capture.get(cv2.CAP_PROP_FPS)), _fourcc(capture)
    for name, asked, given in (
        ("width", options.width, width),
        ("height", options.height, height),
        # Its rate is that of a mode: 29.97 for 30.
        ("fps", options.fps, options.fps if abs(fps - options.fps) < 1 else round(fps)),
        ("format", options.format, form),
    ):
        if asked and given and asked != given:
            log.warning("%s: asked for %s=%s, the camera gives %s", options.device, name, asked, given)


def _fourcc(capture: cv2.VideoCapture) -> str:
    """The format of a capture's frames in the driver, such as "MJPG"; "" where the backend has none."""
    code = int(capture.get(cv2.CAP_PROP_FOURCC)) & 0xFFFFFFFF  # -1: none
    return code.to_bytes(4, "little").decode("latin-1") if code not in (0, 0xFFFFFFFF) else ""


def _raw_format(capture: cv2.VideoCapture) -> str:
    """The format in which the camera's frames can be taken without conversion, or "".

    YUYV is two thirds of BGR's bytes, NV12 half, and converting is left to whoever resizes. Anything else
    (MJPG first of all) OpenCV decodes.
    """
    pixel_format = _RAW_FORMATS.get(_fourcc(capture), "")
    height, width = _image_size(capture)
    # OpenCV lays rows out in multiples of four bytes, which shears planes that the driver packs tightly.
    if not pixel_format or width % 4 or height % 2:
        return ""
    return pixel_format if capture.set(cv2.CAP_PROP_CONVERT_RGB, 0) else ""


def _image_size(capture: cv2.VideoCapture) -> tuple[int, int]:
    """(height, width) of a capture's frames, pixels."""
    return int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)), int(capture.get(cv2.CAP_PROP_FRAME_WIDTH))


def _open_csi(options: CameraOptions) -> cv2.VideoCapture:
    """A Jetson's camera. Argus frames lie in NVMM, so the conversion to BGR is one copy.

    Not tried on a Jetson yet.
    """
    if not re.search(r"GStreamer:\s+YES", cv2.getBuildInformation()):
        raise OSError(
            f"{options.device}: needs an OpenCV with GStreamer; JetPack's has it, the one from PyPI does not"
        )
    capture = cv2.VideoCapture(csi_pipeline(options), cv2.CAP_GSTREAMER)
    if not capture.isOpened():
        raise OSError(f"{options.device}: no such camera, or nvargus-daemon is not running")
    return capture


def csi_pipeline(options: CameraOptions) -> str:
    """The GStreamer pipeline of a Jetson's CSI camera, BGR frames out, never more than one waiting.

    Raises ValueError for a width without a height, and for a format.
    """
    if options.format or bool(options.width) != bool(options.height):
        raise ValueError(f"{options.device}: takes width and height together, and fps; its format is its own")
    sensor = options.device.removeprefix("csi://") or "0"
    caps = "video/x-raw(memory:NVMM)"
    if options.width and options.height:
        caps += f", width={options.width}, height={options.height}"
    if options.fps:
        caps += f", framerate={options.fps}/1"
    return (
        f"nvarguscamerasrc sensor-id={sensor} ! {caps} ! nvvidconv ! video/x-raw, format=BGRx ! "
        "videoconvert ! video/x-raw, format=BGR ! appsink drop=true max-buffers=1 sync=false"
    )


class CameraReader:
    """Frames of an opened camera, stamped by its driver where the driver stamps them.

    device: its name, of the frames and in errors.
    raw_format: pixel_format of the frames where OpenCV does not convert them, "" where it does.
    allocate: of the memory to read frames into; see `open_source`.
    driver_copies: of the pixels, before OpenCV has them: of a Jetson's camera one, out of NVMM.
    """

    is_live = True
    frame_count = 0

    def __init__(
        self, capture: cv2.VideoCapture, device: str, allocate: Allocate | None = None, raw_format: str = ""
    ) -> None:
        self._capture, self._device = capture, device
        self.driver_copies = int(device.startswith("csi://"))
        self._allocate, self._raw_format = allocate, raw_format
        self._retriever = Retriever(capture, allocate, is_raw=bool(raw_format))
        height, width = _image_size(capture)
        # What OpenCV gives for a frame that it does not convert.
        self._raw_shape = (height, width, 2) if raw_format in ("yuyv", "uyvy") else (height * 3 // 2, width)
        self.fps = sane_fps(capture.get(cv2.CAP_PROP_FPS))
        self.skipped = self._read = self._broken = 0

    def read(self) -> Frame:
        while True:
            self._grab()
            start, arrival_ns = time.perf_counter(), now_ns()
            image, copies = self._decoded()
            if image is not None:
                break
        timestamp_ns, said_by = self._stamp(arrival_ns)
        self._read += 1
        return Frame(
            image,
            self._raw_format or "bgr8",
            timestamp_ns=timestamp_ns,
            timestamp_source=said_by,
            source=self._device,
            capture_ms=(time.perf_counter() - start) * 1e3,
            copies=copies,
        )

    def _grab(self) -> None:
        if self._broken >= _BROKEN_IN_A_ROW:
            raise OSError(f"{self._device}: {self._broken} frames in a row could not be decoded")
        if not self._capture.grab():
            raise OSError(self._failure())

    def _decoded(self) -> tuple[np.ndarray | None, int]:
        """The image of the frame in hand and its copies; None, 0 when it is broken, which is counted."""
        image, copies = self._retriever.retrieve()
        if image is not None and self._raw_format and image.shape != self._raw_shape:
            self._convert(image.shape)
            image = None
        elif image is not None:
            self._broken = 0
            return image, copies
        self._broken += 1
        self.skipped += 1
        return None, 0

    def _convert(self, shape: tuple[int, ...]) -> None:
        """Lets OpenCV convert from now on: this one lays raw frames out in another way."""
        log.warning(
            "%s: expected %s frames of shape %s, got %s; OpenCV converts them to BGR instead",
            self._device,
            self._raw_format,
            self._raw_shape,
            shape,
        )
        self._raw_format = ""
        self._capture.set(cv2.CAP_PROP_CONVERT_RGB, 1)
        self._retriever = Retriever(self._capture, self._allocate)

    def _stamp(self, arrival_ns: int) -> tuple[int, str]:
        """When the frame in hand was taken, and who says so."""
        # OpenCV gives V4L2's buffer time stamp here, and 0 where there is none.
        stamp_ns = int(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
        if stamp_ns > 0 and 0 <= arrival_ns - stamp_ns <= _OLDEST_STAMP_NS:
            return stamp_ns, "driver"
        return arrival_ns, "arrival"

    def _failure(self) -> str:
        if self._read:
            return f"{self._device}: the camera stopped giving frames after {self._read}; unplugged?"
        return f"{self._device}: the camera opens but gives no frame{_users_shown(Path(self._device))}"

    def close(self) -> None:
        self._capture.release()


def _users_shown(device: Path) -> str:
    """Which other programs hold the device open, as text for an error; empty when none is visible."""
    users = {}
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            pid = link.parts[2]
            if int(pid) != os.getpid() and os.readlink(link) == str(device):
                users[pid] = Path("/proc", pid, "comm").read_text().strip()
        except OSError:
            continue  # the process ended, or is another user's
    if not users:
        return ""
    return "; in use by " + ", ".join(f"{name} (process {pid})" for pid, name in users.items())
