"""What to do about an ONNX file that an engine cannot load."""

from __future__ import annotations

import re
from pathlib import Path

from ..files import StrPath

_LFS = b"version https://git-lfs.github.com/spec/"

# Operators that TensorRT alone has, by its plugins: EfficientNMS_TRT, BatchedNMSDynamic_TRT.
_OF_TENSORRT = re.compile(r"\b(\w+_TRT)\b")
_UNKNOWN = re.compile(r"([\w.:]+)\(-?\d+\) is not a registered function/op|No Op registered for (\w+)")
_IR = re.compile(r"IR version: (\d+), max supported IR version: (\d+)")
_OPSET = re.compile(r"Opset (\d+) is under development.*is till opset (\d+)")


def cannot_load(path: StrPath, engine: str, reason: str) -> ValueError:
    """The ValueError for a model that an engine cannot load, in one line: what it is, and the way out.

    engine: as messages name it.   reason: what it says itself, or `check_onnx`.
    """
    return ValueError(f"{path}: {engine} cannot load this model {_why(Path(path), engine, reason)}")


def _why(path: Path, engine: str, reason: str) -> str:
    if _is_lfs_pointer(path):
        return (
            "(it is a Git LFS pointer, a text that stands for the file). Fetch the file itself: git lfs pull"
        )
    if match := _IR.search(reason):
        return (
            f"(it has IR version {match[1]}, and this release reads up to {match[2]}). Upgrade onnxruntime, or save "
            f"the model again with model.ir_version = {match[2]}"
        )
    if match := _OPSET.search(reason):
        return (
            f"(it has opset {match[1]}, and this release reads up to {match[2]}). Upgrade onnxruntime, or export the "
            f"model with opset {match[2]} or lower"
        )
    if match := _OF_TENSORRT.search(reason):
        return (
            f"({match[1]} is an operator of TensorRT alone). Export the model without it: its raw offsets and scores "
            "are what a spec describes"
        )
    if match := _UNKNOWN.search(reason):
        return (
            f"(it needs the operator {match[1] or match[2]}, which {engine} does not have). Export it without"
        )
    if "which is not there; copy it too" in reason:
        return f"({reason})"
    return f"({reason}). Is the file complete, and is it ONNX?"


def _is_lfs_pointer(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_LFS)) == _LFS
    except OSError:
        return False
