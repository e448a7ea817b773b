"""TensorRT's messages: warnings go to our log, errors into the exception that follows them."""

from __future__ import annotations

import logging
from typing import Any

_log = logging.getLogger("edge_ssd")


def tensorrt_log(trt: Any) -> Any:
    """The one logger of a TensorRT module (`tensorrt`, `tensorrt_rtx`).

    TensorRT takes a single logger for the whole process and keeps its address, so it lives as long as
    the module does. `errors`: what was reported since the list was last emptied.
    """
    if not hasattr(trt, "_edge_ssd_logger"):
        trt._edge_ssd_logger = _log_class(trt)()
    return trt._edge_ssd_logger


def take_reason(trt: Any) -> str:
    """The first line of the last error as text to append, such as " (out of memory)"; used up by it."""
    errors = tensorrt_log(trt).errors
    reason = errors[-1].split("\n")[0] if errors else ""
    errors.clear()
    return f" ({reason})" if reason else ""


def _log_class(trt):
    class Log(trt.ILogger):
        def __init__(self):
            trt.ILogger.__init__(self)
            self.errors = []

        def log(self, severity, message):
            if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
                self.errors.append(message.strip())
            elif severity == trt.ILogger.Severity.WARNING:
                _log.warning("TensorRT: %s", message.strip())

    return Log
