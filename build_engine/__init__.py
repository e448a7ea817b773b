"""ONNX in, engine out: FP16 and INT8 with a quantization report, for TensorRT, TensorRT-RTX and the CPU.

Installed as edge_ssd.build_engine. Nothing heavy is imported before a function here is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..files import StrPath
    from ..model_files.manifest import Manifest


def rebuild(engine_path: StrPath, progress: bool = True) -> Manifest:
    """Builds an engine again for this machine, from the ONNX file beside it; see `build.rebuild`.

    engine_path: NAME.engine.   progress: whether to show a bar.
    """
    from .build import rebuild

    return rebuild(engine_path, progress)
