"""The rendered camera as a reader of frames."""

from __future__ import annotations

import time

from ...frames import Frame, now_ns
from ..retrieve import buffered
from ..source import Allocate
from . import DemoOptions, DemoStream


class DemoReader:
    """Frames of `demo://`, each rendered when it is read.

    address: of the frames.   allocate: of the memory to copy them to; see `open_source`.
    """

    is_live = False
    skipped = 0

    def __init__(self, options: DemoOptions, address: str, allocate: Allocate | None = None) -> None:
        self._stream = DemoStream(options)
        self._allocate = allocate
        self._address = address
        self._index = 0
        self.fps, self.frame_count = options.fps, options.frames

    def read(self) -> Frame | None:
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

    def close(self) -> None:
        pass
