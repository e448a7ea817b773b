"""What a model or an engine is made of: layers, precisions, sizes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import TensorProto

from ..files import StrPath, file_sha256
from ..files.terminal import one_line, short_name
from ..model_files.manifest import FLAVOURS, read_manifest, sm_name
from .model_file import failures_named, read_proto

_TYPES: dict[int, str] = {
    TensorProto.FLOAT: "fp32",
    TensorProto.FLOAT16: "fp16",
    TensorProto.INT8: "int8",
    TensorProto.UINT8: "int8",
}
# Q/DQ and casts are the edges of precisions, not layers of their own.
_LONGEST_NAME = 120
_EDGES = ("QuantizeLinear", "DequantizeLinear", "Cast")


@dataclass(frozen=True)
class LayerInfo:
    """One layer.

    precision: in which it computes: int8 where its input comes out of DequantizeLinear, else the type of its
    output.   shape: of the output, -1 for a free side.   weight_bytes: of its constants.
    """

    name: str
    operator: str
    precision: str
    shape: tuple[int, ...]
    weight_bytes: int


def inspect_onnx(path: StrPath) -> list[LayerInfo]:
    """The LayerInfos of an ONNX file, in order. Raises FileNotFoundError, or ValueError for another file."""
    proto = read_proto(path)
    with failures_named(path):
        return _layers_of(onnx.shape_inference.infer_shapes(proto))


def _layers_of(proto: onnx.ModelProto) -> list[LayerInfo]:
    graph = proto.graph
    sizes = {tensor.name: _bytes_of(tensor) for tensor in graph.initializer}
    entries = {
        entry.name: entry.type.tensor_type for entry in (*graph.value_info, *graph.output, *graph.input)
    }
    producer = {name: node for node in graph.node for name in node.output}
    layers = []
    for node in graph.node:
        if node.op_type in _EDGES:
            continue
        made_by = [producer[name] for name in node.input if name in producer]
        weights = sum(sizes.get(name, 0) for name in node.input)
        weights += sum(
            sizes.get(name, 0) for maker in made_by if maker.op_type in _EDGES for name in maker.input
        )
        entry = entries.get(node.output[0])
        quantised = any(maker.op_type == "DequantizeLinear" for maker in made_by)
        precision = "int8" if quantised else _TYPES.get(entry.elem_type if entry else 0, "other")
        layers.append(LayerInfo(node.name or node.output[0], node.op_type, precision, _shape(entry), weights))
    return layers


def _bytes_of(tensor: TensorProto) -> int:
    return math.prod(tensor.dims) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize


def _shape(entry: onnx.TypeProto.Tensor | None) -> tuple[int, ...]:
    if entry is None:
        return ()
    return tuple(side.dim_value if side.HasField("dim_value") else -1 for side in entry.shape.dim)


def layers_text(layers: Sequence[LayerInfo]) -> str:
    """The LayerInfos as a table, and what there is of each operator and precision."""
    names = [short_name(layer.name, _LONGEST_NAME) for layer in layers]
    width = max([len("layer"), *map(len, names)])
    lines = [f"{'layer':{width}}  {'operator':18} {'precision':9} {'output':>20} {'weights':>12}"]
    for name, layer in zip(names, layers):
        shape = " x ".join("?" if side < 0 else str(side) for side in layer.shape)
        weights = f"{layer.weight_bytes / 1024:.1f} KiB" if layer.weight_bytes else ""
        lines.append(
            f"{name:{width}}  {short_name(layer.operator):18} {layer.precision:9} {shape:>20} {weights:>12}"
        )
    counts = Counter((layer.operator, layer.precision) for layer in layers)
    shown = ", ".join(
        f"{count} {short_name(operator)} {precision}" for (operator, precision), count in counts.most_common()
    )
    total = sum(layer.weight_bytes for layer in layers)
    return "\n".join([*lines, f"{len(layers)} layers: {shown}", f"weights: {total / 2**20:.2f} MiB"])


def engine_text(path: StrPath) -> str:
    """What the manifest of an engine says, whether the plan is the one that it describes, and the layers.

    The layers are those of the ONNX file beside it, which TensorRT fuses as it likes. No GPU is needed.
    Raises FileNotFoundError or ValueError as `read_manifest` does.
    """
    path = Path(path)
    found = read_manifest(path)
    manifest, spec = found.manifest, found.spec
    intact = path.stat().st_size == manifest.engine_bytes and file_sha256(path) == manifest.engine_sha256
    profiles = "; ".join(f"{least} to {most}, tuned for {usual}" for least, usual, most in manifest.profiles)
    entries = {
        "model": f"{short_name(spec.name)}, {len(spec.class_names)} classes, {spec.input.width} x {spec.input.height}",
        "precision": manifest.precision,
        "built with": f"{FLAVOURS[manifest.flavour]} {manifest.version}",
        "runs on": ", ".join(map(sm_name, manifest.runs_on))
        + (f" ({short_name(manifest.gpu_name)})" if manifest.gpu_name else ""),
        "batch": profiles,
        "plan": f"{manifest.engine_bytes / 2**20:.1f} MiB, "
        + ("as it was built" if intact else "CHANGED since it was built: copy it again, or rebuild it"),
        "made of": f"{manifest.onnx} (from {manifest.source})",
        "calibration": one_line(manifest.calibration_sha256[:16]) or "none",
        "build it again": manifest.rebuild_command,
    }
    width = max(map(len, entries))
    lines = [f"{key:{width}}  {value}" for key, value in entries.items()]
    onnx_path = path.with_name(manifest.onnx)
    if not onnx_path.is_file():
        return "\n".join([*lines, f"{onnx_path.name} is not beside it, so its layers are not shown"])
    changed = (
        "" if file_sha256(onnx_path) == manifest.onnx_sha256 else " (CHANGED since the engine was built)"
    )
    return "\n".join(
        [*lines, "", f"layers of {onnx_path.name}{changed}:", layers_text(inspect_onnx(onnx_path))]
    )
