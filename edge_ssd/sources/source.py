"""Source: frames from any reader, under a policy, with a live one opened again when it stops."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Protocol

import numpy as np

from ..frames import Frame

log = logging.getLogger("edge_ssd")

POLICIES = ("newest", "every")

# Memory to read a frame of a shape into, uint8, or None; see `open_source`.
Allocate = Callable[[tuple[int, ...]], np.ndarray | None]

# How long `close` waits for a capture thread that hangs in its driver; the thread is a daemon.
_CLOSE_S = 2.0

# Pauses between attempts to open a live source again, seconds: quick for a loose plug, and never so long
# that a robot waits noticeably after the camera is back.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 5.0


class Reader(Protocol):
    """What opens one kind of address: frames one after the other.

    is_live: it goes on in real time whether or not it is read.   fps: nominal, 0 when unknown.
    frame_count: frames in all, 0 when unknown or endless.   skipped: items that could not be read so far.
    """

    is_live: bool
    fps: float
    frame_count: int
    skipped: int

    def read(self) -> Frame | None:
        """The next frame; None at the end. OSError when a live source failed."""

    def close(self) -> None:
        """Frees what the reader holds."""


class Source:
    """Frames of one address, numbered from 0; a gap in `sequence` is a drop.

        with open_source("0") as source:
            for frame in source: ...

    open_reader: opens the address, and a live one again when it stopped.   address: for messages.
    policy, retry_seconds: as of `open_source`.

    dropped: frames that came and were not taken (policy newest).   skipped: unreadable items.
    reopened: how often a live source was opened again.   Iterating ends at the end of a file, or `stop`,
    which another thread or a signal handler may call.
    """

    def __init__(
        self, open_reader: Callable[[], Reader], address: str, policy: str | None, retry_seconds: float
    ) -> None:
        self.address = address
        self._closing = _StopFlag()
        self._reader = _Reopening(open_reader, address, retry_seconds, self._closing)
        self.is_live: bool = self._reader.is_live
        self.policy: str = policy or ("newest" if self.is_live else "every")
        self._newest: _Newest | None = None
        if self.policy == "newest":
            paced = self._reader if self.is_live else _Paced(self._reader, self._closing)
            self._newest = _Newest(paced, self._closing)
        # Also when the program ends or drops a source that it did not close: a thread that is still inside
        # OpenCV when the interpreter goes would abort the process.
        self._end = weakref.finalize(self, _end, self._closing, self._newest or self._reader)

    @property
    def fps(self) -> float:
        """Nominal frames per second; 0 when unknown."""
        return self._reader.fps

    @property
    def frame_count(self) -> int:
        """Frames in all; 0 when unknown or endless."""
        return self._reader.frame_count

    @property
    def frame_ready(self) -> bool:
        """Whether `read` gives the next frame, or the end, without waiting for a camera."""
        return self._newest.has_frame if self._newest else not self.is_live

    @property
    def driver_copies(self) -> int:
        """Copies of a frame's pixels that the capture driver makes before anyone gets them."""
        return self._reader.driver_copies

    @property
    def dropped(self) -> int:
        """Frames that were replaced by a newer one before anyone took them."""
        return self._newest.dropped if self._newest else 0

    @property
    def skipped(self) -> int:
        """Items of the source that could not be read, and were named in the log."""
        return self._reader.skipped

    @property
    def reopened(self) -> int:
        """How often a live source that stopped was opened again."""
        return self._reader.reopened

    def read(self) -> Frame | None:
        """The next frame; None at the end or when closed. Raises OSError when a live source stays away."""
        return (self._newest or self._reader).read()

    def __iter__(self) -> Iterator[Frame]:
        while (frame := self.read()) is not None:
            yield frame

    def stop(self) -> None:
        """Makes a waiting read, and every later one, give None. A signal handler may call it."""
        self._closing.set()

    def close(self) -> None:
        """Ends a read in progress and frees the device.

        A device that hangs in its driver is left to its thread, which frees it when it comes back.
        """
        self._end()

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _end(closing: _StopFlag, reader: _Newest | _Reopening) -> None:
    closing.set()
    reader.close()


class _StopFlag:
    """Once set, it stays set. Unlike threading.Event it takes no lock, so a signal handler may set it
    whatever the interrupted thread was doing."""

    def __init__(self):
        self._is_set = False

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True

    def wait(self, seconds: float) -> bool:
        """Sleeps, at most until it is set; whether it is."""
        end = time.monotonic() + seconds
        while not self._is_set and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.05))
        return self._is_set


class _Reopening:
    """A reader that numbers its frames, and opens a live source again after a failure."""

    def __init__(
        self, open_reader: Callable[[], Reader], address: str, retry_seconds: float, closing: _StopFlag
    ) -> None:
        self._open, self._address, self._closing = open_reader, address, closing
        self._retry_seconds = retry_seconds
        self._sequence = 0
        self.reopened = self._skipped_before = 0
        # From the first failure to the next frame, however often it opens between.
        self._lost_since: float | None = None
        self._pause_s = _FIRST_PAUSE_S
        self._reader = open_reader()
        self.is_live = self._reader.is_live

    fps = property(lambda self: self._reader.fps)
    frame_count = property(lambda self: self._reader.frame_count)
    driver_copies = property(lambda self: getattr(self._reader, "driver_copies", 0))
    skipped = property(lambda self: self._skipped_before + self._reader.skipped)

    def read(self) -> Frame | None:
        while not self._closing.is_set():
            try:
                frame = self._reader.read()
            except OSError as error:
                if self._closing.is_set():
                    break
                # What never gave a frame is a wrong address or a camera in use, not a lost connection.
                if not self.is_live or self._sequence == 0:
                    raise
                self._reopen(error)
                continue
            if frame is None:
                return None
            if self._lost_since is not None:
                self._found_again()
            frame = replace(frame, sequence=self._sequence)
            self._sequence += 1
            return frame
        return None

    def _found_again(self) -> None:
        self._lost_since, self._pause_s = None, _FIRST_PAUSE_S
        self.reopened += 1
        log.warning("%s: back", self._address)

    def _reopen(self, error: OSError) -> None:
        """Tries until the source opens; raises the last error when no frame came for retry_seconds."""
        self._reader.close()
        if self._lost_since is None:
            self._lost_since = time.monotonic()
        while True:
            if time.monotonic() + self._pause_s > self._lost_since + self._retry_seconds:
                raise error
            log.warning("%s; trying again in %.1f s", error, self._pause_s)
            if self._closing.wait(self._pause_s):
                return
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
            try:
                reader = self._open()
            except (OSError, ValueError) as failure:
                error = OSError(str(failure))
                continue
            self._skipped_before += self._reader.skipped
            self._reader = reader
            return

    def close(self) -> None:
        self._reader.close()


class _Paced:
    """A file at the speed of its own clock, so that policy newest drops what a camera would."""

    def __init__(self, reader: _Reopening, closing: _StopFlag) -> None:
        self._reader, self._closing = reader, closing
        self._start: float | None = None

    def read(self) -> Frame | None:
        frame = self._reader.read()
        if frame is None:
            return None
        now = time.monotonic()
        if self._start is None:
            self._start = now
        due = self._start + frame.sequence / (self._reader.fps or 30.0)
        if self._closing.wait(max(0.0, due - now)):
            return None
        return replace(frame, timestamp_ns=time.monotonic_ns())

    def close(self) -> None:
        self._reader.close()


class _Newest:
    """The latest frame of a reader that a thread reads without pause: one place, no queue."""

    def __init__(self, reader: _Reopening | _Paced, closing: _StopFlag) -> None:
        self._reader, self._closing = reader, closing
        self._changed = threading.Condition()
        self._frame: Frame | None = None
        self._error: Exception | None = None
        self._ended = False
        self.dropped = 0
        self._thread = threading.Thread(target=self._pump, name="edge_ssd-capture", daemon=True)
        self._thread.start()

    def _pump(self) -> None:
        try:
            while (frame := self._reader.read()) is not None:
                with self._changed:
                    self.dropped += self._frame is not None
                    self._frame = frame
                    self._changed.notify()
        except Exception as error:  # handed to the thread that reads
            self._error = error
        finally:
            self._reader.close()  # by the thread that reads it, so never in the middle of a read
        with self._changed:
            self._ended = True
            self._changed.notify()

    @property
    def has_frame(self) -> bool:
        with self._changed:
            return self._frame is not None or self._ended

    def read(self) -> Frame | None:
        with self._changed:
            # The time limit only lets `close` from a signal handler take effect.
            while self._frame is None and not self._ended and not self._closing.is_set():
                self._changed.wait(0.1)
            frame, self._frame = self._frame, None
            if frame is None and self._error is not None:
                raise self._error
            return None if self._closing.is_set() else frame

    def close(self) -> None:
        # The collector may finalize a source in any thread.
        if self._thread is not threading.current_thread():
            self._thread.join(_CLOSE_S)
