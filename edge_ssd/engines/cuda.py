"""What the engines on the GPU share: CuPy's current stream, and capture on it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import cupy


def current_stream_pointer() -> int:
    """The cudaStream_t of CuPy's current stream, an int."""
    return cupy.cuda.get_current_stream().ptr


def capture_with_cupy(steps: Callable[[], None]) -> Any:
    """The CUDA graph of what `steps` enqueues on CuPy's current stream; it has `launch()`.

    Raises RuntimeError in one line when something in it cannot be captured. Not run on a GPU yet.
    """
    stream = cupy.cuda.get_current_stream()
    # Of this thread alone: a camera thread that allocates meanwhile would break a global capture, and a
    # relaxed one would let a forbidden allocation of our own through.
    stream.begin_capture(cupy.cuda.runtime.streamCaptureModeThreadLocal)
    try:
        steps()
    except BaseException:
        with suppress(RuntimeError):  # the capture was broken; ending it gives the stream back
            stream.end_capture()
        raise
    return stream.end_capture()


def capture_failure(error: BaseException) -> RuntimeError:
    """The RuntimeError, of one line, for a capture that ended in a RuntimeError of CUDA, CuPy or torch."""
    reason = str(error).strip().split("\n")[0]
    return RuntimeError(f"the network cannot be captured in a CUDA graph ({reason})")
