"""The rendered camera as a reader of frames."""

from __future__ import annotations

import time

from ...frames import Frame, now_ns
from ..retrieve import buffered
from . import DemoStream


class DemoReader:
    """Frames of `demo://`, each rendered when it is read."""

    is_live = False
    skipped = 0

    def __init__(self, options, address, allocate=None):
        self._stream = DemoStream(options)
        self._allocate = allocate
        self._address = address
        self._index = 0
        self.fps, self.frame_count = options.fps, options.frames

    def read(self):
        if self.frame_count and self._index >= self.frame_count:
            return None
        start = time.perf_counter()
        image, copies = buffered(self._stream.render(self._index).image, self._allocate)
        self._index += 1
        return Frame(
            image,
            timestamp_ns=now_ns(),
            source=self._address,
            capture_ms=(time.perf_counter() - start) * 1e3,
            copies=copies,
        )

    def close(self):
        pass
