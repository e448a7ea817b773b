"""Which engine runs an ONNX model on this CPU, in which precision, and how many frames at once."""

from __future__ import annotations

import logging
import os
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from ..files import StrPath
from ..machine.cpu import usable_cores
from ..options import PRECISIONS

# What `auto` stands for, where neither a caller nor a command line says it.
PRECISION_VARIABLE = "EDGE_SSD_PRECISION"

# Each frame at work on the CPU has the network's intermediate results in memory.
_MOST_IN_FLIGHT = 8

log = logging.getLogger("edge_ssd")


class CpuEngine(NamedTuple):
    """What runs an ONNX model on the CPU.

    name: "onnxruntime" or "openvino".   precision: what it computes float32 layers in, "fp32" or "bf16".
    """

    name: str
    precision: str


def wanted_precision(precision: str = "auto") -> str:
    """One of PRECISIONS: the given one, or for "auto" what the environment's EDGE_SSD_PRECISION says.

    Raises ValueError when that is none of them.
    """
    if precision != "auto":
        return precision
    value = os.environ.get(PRECISION_VARIABLE) or "auto"
    if value not in PRECISIONS:
        raise ValueError(f"{PRECISION_VARIABLE}: expected one of {', '.join(PRECISIONS)}, got {value!r}")
    return value


def choose_cpu_engine(path: StrPath, engine: str = "auto", precision: str = "auto") -> CpuEngine:
    """The CpuEngine for the ONNX model `path`.

    engine: "onnxruntime", "openvino", or "auto" for the fastest that is installed.   precision: of PRECISIONS;
    "auto" is what EDGE_SSD_PRECISION says, else BF16 where OpenVINO runs the model on a CPU that computes in it.

    Measured on two cores: float networks take the same time in both engines; in BF16 OpenVINO needs half of it.
    NAME.int8.onnx runs three to five times as fast in OpenVINO (and the demo model's AP is no lower than in float
    there). NAME.int8-cpu.onnx is made for ONNX Runtime.

    Raises ValueError for bf16 in ONNX Runtime, which has none, and for an EDGE_SSD_PRECISION that is no precision;
    ImportError for bf16 without OpenVINO.
    """
    wanted = wanted_precision(precision)
    if engine == "onnxruntime":  # whatever the environment prefers
        if precision == "bf16":
            raise ValueError(
                "precision: ONNX Runtime computes in fp32 alone; bf16 needs --engine openvino, or auto"
            )
        return CpuEngine("onnxruntime", "fp32")
    if wanted == "bf16" and not find_spec("openvino"):
        raise ImportError(
            "precision: bf16 needs the 'openvino' package: pip install edge-ssd[openvino]; or take --precision fp32, "
            f"or {PRECISION_VARIABLE}=fp32"
        )
    if engine == "auto" and wanted != "bf16" and not _is_faster_in_openvino(path, wanted):
        return CpuEngine("onnxruntime", "fp32")
    if wanted == "auto":
        wanted = "bf16" if "bf16" in openvino_precisions() else "fp32"
    return CpuEngine("openvino", wanted)


def _is_faster_in_openvino(path, precision):
    """Whether the engine that `auto` takes for an ONNX model is OpenVINO.   precision: "auto" or "fp32"."""
    installed = {name for name in ("onnxruntime", "openvino") if find_spec(name)}
    is_int8 = {suffix: Path(path).name.endswith(f".{suffix}.onnx") for suffix in ("int8", "int8-cpu")}
    # Without asking OpenVINO, whose import takes a third of a second, where it would not be taken anyway.
    needs_onnxruntime = is_int8["int8-cpu"] or (precision == "fp32" and not is_int8["int8"])
    if "openvino" not in installed or ("onnxruntime" in installed and needs_onnxruntime):
        return False
    usable = openvino_precisions()
    return bool(usable) and ("onnxruntime" not in installed or is_int8["int8"] or "bf16" in usable)


def openvino_precisions() -> tuple[str, ...]:
    """What OpenVINO can compute float32 layers in on this machine, fp32 first; () where it cannot be used."""
    if find_spec("openvino") is None:
        return ()
    try:
        from .openvino_engine import has_bf16
    except ImportError as error:
        log.warning("OpenVINO is installed and cannot be used: %s", error)
        return ()
    return ("fp32", "bf16") if has_bf16() else ("fp32",)


def usable_cpu_engines(precision: str = "auto") -> list[CpuEngine]:
    """Every CpuEngine of a precision that works on this machine, or of all for "auto"; ONNX Runtime first.

    precision: of PRECISIONS, see `choose_cpu_engine`. Raises ValueError where no engine here computes in it.
    """
    engines = [CpuEngine("onnxruntime", "fp32")] if find_spec("onnxruntime") else []
    engines += [CpuEngine("openvino", name) for name in openvino_precisions()]
    wanted = wanted_precision(precision)
    found = [engine for engine in engines if wanted in ("auto", engine.precision)]
    if engines and not found:
        raise ValueError(f"precision: nothing on this machine computes in {wanted}; take --precision fp32")
    return found


def resolve_in_flight(in_flight: int, threads: int) -> int:
    """How many frames an ONNX model works on at once: `in_flight`, or what 0 stands for.

    threads: of the CPU, 0 for one per usable core.
    """
    return in_flight or min(threads or usable_cores(), _MOST_IN_FLIGHT)
