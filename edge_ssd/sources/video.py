"""Video files and network streams, through OpenCV's FFmpeg backend."""

from __future__ import annotations

import logging
import time

import cv2

from ..frames import Frame, now_ns

log = logging.getLogger("edge_ssd")

# A stream that gives nothing for this long has failed; FFmpeg's own default is 30 s.
_OPEN_TIMEOUT_MS, _READ_TIMEOUT_MS = 10_000, 5_000


class StreamClock:
    """The time a frame was taken, from the stream's own time stamps.

    The stream's zero is unknown, so the least delay seen stands for none: age then shows how far a frame
    lags behind the fastest one, which is what grows when frames queue up somewhere.
    """

    def __init__(self):
        self._offset_ns = None

    def capture_ns(self, position_ms, arrival_ns):
        """Capture time on our clock of a frame stamped `position_ms` by the stream, arrived at `arrival_ns`."""
        stamp_ns = int(position_ms * 1e6)
        offset_ns = arrival_ns - stamp_ns
        if self._offset_ns is None or offset_ns < self._offset_ns:
            self._offset_ns = offset_ns
        return stamp_ns + self._offset_ns


class VideoReader:
    """Frames of an opened cv2.VideoCapture.

    has_clock: the stream stamps its frames itself (RTP), so age can be told from its stamps.
    """

    skipped = 0

    def __init__(self, capture, address, is_live, has_clock=False):
        self._capture, self._address = capture, address
        self.is_live = is_live
        self.fps = _sane_fps(capture.get(cv2.CAP_PROP_FPS))
        # FFmpeg guesses the count of some files; a live stream has none or a negative one.
        self.frame_count = 0 if is_live else max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        self._clock = StreamClock() if has_clock else None
        self._read = 0

    def read(self):
        if not self._capture.isOpened():
            return None
        arrived = self._capture.grab()
        start, arrival_ns = time.perf_counter(), now_ns()
        retrieved, image = self._capture.retrieve() if arrived else (False, None)
        if not retrieved or image is None:
            return self._end()
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
        )

    def _end(self):
        if self.is_live:
            raise OSError(f"{self._address}: the stream stopped after {self._read} frames")
        # The count in a file's header may be off by a frame or two even when nothing is missing.
        if self._read < self.frame_count - 2:
            log.warning("%s: ended early, after %d of %d frames", self._address, self._read, self.frame_count)
        return None

    def close(self):
        self._capture.release()


def _sane_fps(fps):
    """OpenCV reports NaN, 0, or FFmpeg's time base (90000) where a stream has no frame rate."""
    return float(fps) if 0 < fps <= 1000 else 0.0


def open_video(path):
    """The reader of a video file. Raises ValueError when OpenCV cannot read it."""
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise ValueError(f"{path}: neither an image nor a video that OpenCV can read; is the file complete?")
    return VideoReader(capture, str(path), is_live=False)


def open_stream(address):
    """The reader of a network address: a live stream, or a file that a server hands out.

    Raises OSError when nothing answers or what comes is no video.
    """
    timeouts = [
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
        _OPEN_TIMEOUT_MS,
        cv2.CAP_PROP_READ_TIMEOUT_MSEC,
        _READ_TIMEOUT_MS,
    ]
    capture = cv2.VideoCapture(address, cv2.CAP_FFMPEG, timeouts)
    if not capture.isOpened():
        raise OSError(f"{address}: no video stream there. Is the address right, and is the server running?")
    is_rtsp = address.startswith("rtsp")
    is_live = is_rtsp or capture.get(cv2.CAP_PROP_FRAME_COUNT) <= 0
    return VideoReader(capture, address, is_live, has_clock=is_rtsp)
