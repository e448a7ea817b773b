"""The builder of TensorRT 10.3 to 11 and of TensorRT-RTX: what differs between them lies in this file alone.

From TensorRT 10 on every network has explicit batches; from 11 on every network is strongly typed, and the flag
that asks for it may be gone. Precision is in the ONNX file, so no builder flag sets it and no calibrator is used.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

RUNTIMES = {"tensorrt": "tensorrt", "rtx": "tensorrt_rtx"}

_MISSING = {
    "tensorrt": "It ships with JetPack on a Jetson; on a desktop or server: pip install edge-ssd[tensorrt]. "
    "Without an NVIDIA GPU build for TensorRT-RTX (--runtime rtx) or for this CPU (--runtime cpu)",
    "rtx": "On an x86-64 or ARM PC with a GeForce RTX or RTX PRO GPU, or to build ahead of time without a "
    "GPU: pip install edge-ssd[rtx]. A Jetson or a data centre GPU needs --runtime tensorrt",
}

# TensorRT-RTX builds ahead of time for these; it names them SM75, SM80 ...
RTX_TARGETS = ((7, 5), (8, 0), (8, 6), (8, 9), (12, 0), (12, 1))


def load_tensorrt(runtime: str) -> Any:
    """The module tensorrt or tensorrt_rtx. ImportError says which package, for which machine."""
    try:
        return importlib.import_module(RUNTIMES[runtime])
    except ImportError as error:
        raise ImportError(
            f"Building for {runtime!r} needs the {RUNTIMES[runtime]!r} package ({error}). {_MISSING[runtime]}"
        ) from None


def create_network(trt: Any, builder: Any) -> Any:
    """A strongly typed network: a flag asks for it in TensorRT 10, it is the only kind in 11."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    if network is None:
        raise ValueError("TensorRT could not create a network; its log says why")
    return network


def parse_onnx(trt: Any, network: Any, logger: Any, data: bytes, path: Path) -> Any:
    """Reads the ONNX model in the bytes `data` into a network; gives the parser, which keeps the weights.

    path: of its file, beside which lie the files that it refers to.
    Raises ValueError naming the node that TensorRT refuses.
    """
    parser = trt.OnnxParser(network, logger)
    if parser.parse(data, str(path)):
        return parser
    reasons = [_parser_error(parser.get_error(i)) for i in range(parser.num_errors)]
    raise ValueError(f"TensorRT refuses the model: {'; '.join(reasons) or 'no reason given'}")


def _parser_error(error: Any) -> str:
    name = error.node_name() if hasattr(error, "node_name") else ""  # from 10.0 on
    operator = error.node_operator() if hasattr(error, "node_operator") else ""
    where = f"{operator} (node {name!r}): " if name or operator else ""
    return f"{where}{' '.join(error.desc().split())}"


def set_workspace(trt: Any, config: Any, workspace_bytes: int) -> None:
    """Limits the builder's scratch memory; 0 leaves TensorRT's own limit."""
    if workspace_bytes:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_bytes)


def set_targets(trt: Any, config: Any, targets: tuple[tuple[int, int], ...]) -> None:
    """Compute capabilities that TensorRT-RTX builds for; none: full TensorRT, which builds for the GPU at hand.

    Raises ValueError for a target that this TensorRT-RTX does not know.
    """
    if not targets:
        return
    config.num_compute_capabilities = len(targets)
    for i, (major, minor) in enumerate(targets):
        member = getattr(trt.ComputeCapability, f"SM{major}{minor}", None)
        if member is None or not config.set_compute_capability(member, i):
            raise ValueError(f"--compute-capability {major}.{minor}: not a target of this TensorRT-RTX")


def set_flags(trt: Any, config: Any, version_compatible: bool, hardware_compatible: bool) -> None:
    """Asks for a plan that can be captured in a CUDA graph, and for what the caller wants it to run on besides.

    version_compatible: later TensorRT releases read it.   hardware_compatible: other GPUs from Ampere on run it.
    """
    # TensorRT-RTX alone has it: without, a plan may allocate while it runs, which no capture survives.
    capturable = getattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION", None)
    if capturable is not None:
        config.set_flag(capturable)
    if version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS


def progress_monitor(trt: Any, show: Callable[[int, int, str], bool]) -> Any:
    """A monitor that calls show(done, total, phase) and asks TensorRT to stop when show gives False.

    Only the steps of the outermost phase count; those inside say what is being done.
    """

    class Monitor(trt.IProgressMonitor):
        def __init__(self):
            trt.IProgressMonitor.__init__(self)
            self.outermost, self.done, self.total = None, 0, 1

        def phase_start(self, phase_name, parent_phase, num_steps):
            if parent_phase is None:
                self.outermost, self.done, self.total = phase_name, 0, max(1, num_steps)
            show(self.done, self.total, phase_name)

        def phase_finish(self, phase_name):
            if phase_name == self.outermost:
                show(self.total, self.total, phase_name)

        def step_complete(self, phase_name, step):
            if phase_name == self.outermost:
                self.done = step + 1
            return show(self.done, self.total, phase_name)

    return Monitor()
