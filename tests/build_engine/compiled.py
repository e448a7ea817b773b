"""What the tests of the compiler share: one call that compiles a small model."""

from __future__ import annotations

from edge_ssd.build_engine.compile import CompileOptions, compile_engine, find_target
from edge_ssd.build_engine.model_file import batch_of, read_proto
from tests.build_engine.graphs import small_spec

ORIGIN = {
    "precision": "fp16",
    "source": "small.onnx",
    "source_sha256": "",
    "calibration_sha256": "",
    "command": "edge-ssd build small.onnx --precision fp16",
}


def compiled(model, name="small.fp16.engine", progress=None, **options):
    """The engine beside the ONNX file `model`, and its Manifest.   options: of CompileOptions."""
    out = model.with_name(name)
    batch = batch_of(read_proto(model), small_spec())
    target = find_target(CompileOptions(**options), model, batch, out.parent)
    return out, compile_engine(model, small_spec(), out, target, ORIGIN, progress)
