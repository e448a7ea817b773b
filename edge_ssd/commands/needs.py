"""What several commands share: a word about missing packages, and warnings on standard error."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ..files.terminal import joined

_OF_BUILD = {"onnx": "onnx", "onnxruntime": "onnxruntime", "google": "protobuf", "cv2": "opencv-python"}


@contextmanager
def build_packages(command: str) -> Iterator[None]:
    """Around the imports of a command: says what to install where a package of the extra `build` is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = _OF_BUILD.get((error.name or "").partition(".")[0])
        if package is None:
            raise
        advice = "pip install edge-ssd[build]"
        if package == "opencv-python":
            advice = "It ships with JetPack; elsewhere: pip install edge-ssd[cpu]"
        raise ImportError(f"edge-ssd {command} needs the {package!r} package ({error}). {advice}") from None


@contextmanager
def train_packages(command: str) -> Iterator[None]:
    """Around the imports of a command: says what to install where a package of the extra `train` is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ImportError(
            f"edge-ssd {command} needs PyTorch and what is trained with it ({error}). Install the torch build of this "
            "machine, then: pip install edge-ssd[train]"
        ) from None


class _OneLine(logging.Formatter):
    """Names in a warning may hold line feeds."""

    def format(self, record: logging.LogRecord) -> str:
        return joined(super().format(record))


@contextmanager
def warnings_on_stderr() -> Iterator[None]:
    """Warnings of edge_ssd as lines on standard error, while the block runs."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("warning: %(message)s"))
    handler.setLevel(logging.WARNING)
    log = logging.getLogger("edge_ssd")
    log.addHandler(handler)
    propagate, log.propagate = log.propagate, False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.propagate = propagate
