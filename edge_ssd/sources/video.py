"""Video files and network streams, through OpenCV's FFmpeg backend."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from urllib.parse import urlsplit

import cv2

from ..files import IMAGE_SUFFIXES, OTHER_IMAGE_SUFFIXES, StrPath
from ..files.image import opencv_name, opencv_path
from ..files.image_header import check_size
from ..frames import Frame, now_ns
from .address import login_hint, without_login
from .retrieve import Retriever
from .source import Allocate

log = logging.getLogger("edge_ssd")

# The two clocks of a stream drift apart, by less than this for the crystals in use. Without it, age would
# grow by seconds a day; frames that queue up somewhere fall behind faster.
_CLOCK_DRIFT = 1e-4

# A stream that gives nothing for this long has failed; FFmpeg's own default is 30 s.
_OPEN_TIMEOUT_MS, _READ_TIMEOUT_MS = 10_000, 5_000


class StreamClock:
    """The time a frame was taken, from the stream's own time stamps.

    The stream's zero is unknown, so the least delay seen stands for none: age then shows how far a frame
    lags behind the fastest one, which is what grows when frames queue up somewhere.
    """

    def __init__(self) -> None:
        self._latest: tuple[int, int] | None = None  # offset and arrival of the frame before, nanoseconds

    def capture_ns(self, position_ms: float, arrival_ns: int) -> int:
        """Capture time, on our clock, of a frame with the stream's stamp `position_ms`.

        arrival_ns: when it arrived, on our clock.
        """
        stamp_ns = int(position_ms * 1e6)
        offset_ns = arrival_ns - stamp_ns
        if self._latest is not None:
            latest_offset_ns, latest_arrival_ns = self._latest
            drifted_ns = int((arrival_ns - latest_arrival_ns) * _CLOCK_DRIFT)
            offset_ns = min(offset_ns, latest_offset_ns + drifted_ns)
        self._latest = offset_ns, arrival_ns
        return stamp_ns + offset_ns


class VideoReader:
    """Frames of an opened cv2.VideoCapture.

    address: of the frames and in errors.   is_live: they come by the clock.
    has_clock: the stream stamps its frames itself (RTP), so age can be told from its stamps.
    allocate: of the memory to read frames into; see `open_source`.
    """

    skipped = 0

    def __init__(
        self,
        capture: cv2.VideoCapture,
        address: str,
        is_live: bool,
        has_clock: bool = False,
        allocate: Allocate | None = None,
    ) -> None:
        self._capture, self._address = capture, address
        self._retriever = Retriever(capture, allocate)
        self.is_live = is_live
        self.fps = sane_fps(capture.get(cv2.CAP_PROP_FPS))
        # FFmpeg guesses the count of some files; a live stream has none or a negative one.
        self.frame_count = 0 if is_live else max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        self._clock = StreamClock() if has_clock else None
        self._read = 0

    def read(self) -> Frame | None:
        if not self._capture.isOpened():
            return None
        start = time.perf_counter()
        arrived = self._capture.grab()
        arrival_ns = now_ns()
        if self.is_live:
            start = time.perf_counter()  # grabbing was mostly waiting
        image, copies = self._retriever.retrieve() if arrived else (None, 0)
        if image is None:
            self._end()
            return None
        self._read += 1
        timestamp_ns, said_by = arrival_ns, "arrival"
        if self._clock:
            position_ms = self._capture.get(cv2.CAP_PROP_POS_MSEC)
            timestamp_ns, said_by = self._clock.capture_ns(position_ms, arrival_ns), "stream"
        return Frame(
            image,
            timestamp_ns=timestamp_ns,
            timestamp_source=said_by,
            source=self._address,
            capture_ms=(time.perf_counter() - start) * 1e3,
            copies=copies,
        )

    def _end(self) -> None:
        """Raises for an end that is none; warns of one that comes early."""
        if self.is_live:
            raise OSError(f"{self._address}: the stream stopped after {self._read} frames")
        if not self._read:
            raise ValueError(f"{self._address}: no frame of this video can be decoded")
        # The count in a file's header may be off by a frame or two even when nothing is missing.
        if self._read < self.frame_count - 2:
            log.warning("%s: ended early, after %d of %d frames", self._address, self._read, self.frame_count)

    def close(self) -> None:
        self._capture.release()


def sane_fps(fps: float) -> float:
    """Frames per second as OpenCV reports them, 0 when unknown.

    A stream without a rate has NaN, 0, a negative number, or FFmpeg's time base (90000).
    """
    return float(fps) if 0 < fps <= 1000 else 0.0


def open_video(path: StrPath, allocate: Allocate | None = None) -> VideoReader:
    """The reader of a video file. Raises ValueError when OpenCV cannot read it, and for a pipe or a device, which might
    never end."""
    if not Path(path).is_file():
        raise ValueError(f"{path}: expected a regular file")
    capture = cv2.VideoCapture(opencv_path(path))
    # FFmpeg takes a .txt file for the pictures of a text terminal.
    if not capture.isOpened() or capture.get(cv2.CAP_PROP_FOURCC) == cv2.VideoWriter.fourcc(*"ansi"):
        if Path(path).suffix.lower() in OTHER_IMAGE_SUFFIXES:
            raise ValueError(f"{path}: images of this kind are not read; convert it to JPEG or PNG")
        raise ValueError(f"{path}: neither an image nor a video that OpenCV can read; is the file complete?")
    _check_frame_size(capture, str(path))
    return VideoReader(capture, str(path), is_live=False, allocate=allocate)


def _check_frame_size(capture: cv2.VideoCapture, shown: str) -> None:
    """Raises ValueError for frames that are too large, before one of them is decoded."""
    try:
        check_size(int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)))
    except ValueError as error:
        capture.release()
        raise ValueError(f"{shown}: {error}") from None


def open_stream(address: str, allocate: Allocate | None = None) -> VideoReader:
    """The reader of a network address: a live stream, or a file that a server hands out.

    Raises OSError when nothing answers or what comes is no video.
    """
    timeouts = (cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _OPEN_TIMEOUT_MS)
    timeouts += (cv2.CAP_PROP_READ_TIMEOUT_MSEC, _READ_TIMEOUT_MS)
    capture = cv2.VideoCapture(opencv_name(address), cv2.CAP_FFMPEG, timeouts)
    if not capture.isOpened():
        raise OSError(
            f"{without_login(address)}: no video stream there. Is the address right, and is the server running?"
            f"{login_hint(address)}"
        )
    _check_frame_size(capture, without_login(address))
    is_rtsp = address.startswith("rtsp")
    # FFmpeg does not know the length of a single picture either.
    is_picture = urlsplit(address).path.lower().endswith(IMAGE_SUFFIXES)
    is_live = is_rtsp or (capture.get(cv2.CAP_PROP_FRAME_COUNT) <= 0 and not is_picture)
    return VideoReader(capture, without_login(address), is_live, is_rtsp, allocate)
