"""Cameras: V4L2 devices (USB and others), and a Jetson's CSI cameras through GStreamer."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

import cv2

from ..frames import Frame, now_ns

# A driver's time stamp is believed when it is on the monotonic clock, that is, at most this old.
_OLDEST_STAMP_NS = 10_000_000_000


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
    def from_address(cls, address):
        """Options of "0", "0?width=1280", "/dev/video0", "v4l2:///dev/video0?fps=30" or "csi://0".

        Raises ValueError naming the parameter that is unknown or wrong.
        """
        place, _, query = address.partition("?")
        place = place.removeprefix("v4l2://")
        if place.isdecimal():
            place = f"/dev/video{place}"
        if not re.fullmatch(r"/dev/.+|csi://\d*", place):
            raise ValueError(f"{address}: expected a camera such as 0, /dev/video0 or csi://0")
        values = {}
        for key, value in parse_qsl(query, keep_blank_values=True):
            if key == "format" and re.fullmatch(r"[A-Za-z0-9]{4}", value):
                values[key] = value.upper()
            elif key in ("width", "height", "fps") and value.isdecimal() and int(value) > 0:
                values[key] = int(value)
            else:
                raise ValueError(
                    f"{address}: {key}={value}: expected width, height, fps (whole numbers above 0) "
                    "or format (four characters, such as MJPG)"
                )
        return cls(place, **values)


def open_camera(options):
    """The reader of a camera. Raises OSError with the likely reason when it cannot be opened."""
    if options.device.startswith("csi://"):
        return CameraReader(_open_csi(options), options.device)
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
    return CameraReader(capture, options.device)


def _configure(capture, options):
    # One buffer: what waits in the driver's queue is stale. Drivers that need more take more.
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
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


def _open_csi(options):
    """A Jetson's camera. Argus frames lie in NVMM, so the conversion to BGR is one copy. Not tested without one."""
    if "GStreamer:                   YES" not in cv2.getBuildInformation():
        raise OSError(
            f"{options.device}: needs an OpenCV with GStreamer; JetPack's has it, the one from PyPI does not"
        )
    capture = cv2.VideoCapture(csi_pipeline(options), cv2.CAP_GSTREAMER)
    if not capture.isOpened():
        raise OSError(f"{options.device}: no such camera, or nvargus-daemon is not running")
    return capture


def csi_pipeline(options):
    """The GStreamer pipeline of a Jetson's CSI camera, BGR frames out, never more than one waiting."""
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
    """Frames of an opened camera, stamped by its driver where the driver stamps them."""

    is_live = True
    frame_count = 0
    skipped = 0

    def __init__(self, capture, device):
        self._capture, self._device = capture, device
        fps = capture.get(cv2.CAP_PROP_FPS)
        self.fps = float(fps) if 0 < fps <= 1000 else 0.0
        self._read = 0

    def read(self):
        arrived = self._capture.grab()
        start, arrival_ns = time.perf_counter(), now_ns()
        retrieved, image = self._capture.retrieve() if arrived else (False, None)
        if not retrieved or image is None:
            raise OSError(self._failure())
        self._read += 1
        stamp_ns = int(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
        stamped = 0 <= arrival_ns - stamp_ns <= _OLDEST_STAMP_NS
        return Frame(
            image,
            timestamp_ns=stamp_ns if stamped else arrival_ns,
            timestamp_source="driver" if stamped else "arrival",
            source=self._device,
            capture_ms=(time.perf_counter() - start) * 1e3,
        )

    def _failure(self):
        if self._read:
            return f"{self._device}: the camera stopped giving frames after {self._read}; unplugged?"
        return f"{self._device}: the camera opens but gives no frame{_users_shown(Path(self._device))}"

    def close(self):
        self._capture.release()


def _users_shown(device):
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
