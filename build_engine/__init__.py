"""ONNX in, engine out: FP16 and INT8 with a receipt, for TensorRT, TensorRT-RTX and the CPU.

Installed as edge_ssd.build_engine. Nothing heavy is imported before a function here is called.
"""

from __future__ import annotations


def rebuild(engine_path, progress=True):
    """Builds an engine again for this machine, from the ONNX file beside it; see `build.rebuild`."""
    from .build import rebuild

    return rebuild(engine_path, progress)
