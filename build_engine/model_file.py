"""A model that is to be built, looked at before any work: what cannot become an engine is refused here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from ..engines.opening import check_graph
from ..files import StrPath
from ..spec import SsdSpec, load_spec_of
from .graph import Graph
from .int8 import QUANTISED_OPS

_RAW_HEADS = (
    "Export the raw heads instead: the network's offsets and class scores, before decoding and NMS "
    "(edge-ssd export does; of a foreign model, cut the graph with onnx.utils.extract_model and draft "
    "a spec: edge-ssd spec)"
)


@dataclass(frozen=True)
class Model:
    """An ONNX model and its spec.   path: the .onnx file.   proto: ModelProto.   spec: SsdSpec."""

    path: Path
    proto: onnx.ModelProto
    spec: SsdSpec

    @property
    def batch(self) -> int:
        """See `batch_of`."""
        return batch_of(self.proto, self.spec)


@contextmanager
def failures_named(path: StrPath) -> Iterator[None]:
    """Around what works on the graph in a file: what it stumbles over there is a ValueError that names the file.

    ONNX's functions raise exceptions without a common base, and ours a KeyError where a node, a type or a shape is
    missing that every SSD has.
    """
    try:
        yield
    except (OSError, ImportError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, ValueError) and not isinstance(
            error, UnicodeError | onnx.checker.ValidationError
        ):
            raise  # which names what is wrong
        lines = str(error).splitlines() or [""]
        raise ValueError(
            f"{path}: no network that can be worked on ({type(error).__name__}: {lines[0]})"
        ) from error


def batch_of(proto: onnx.ModelProto, spec: SsdSpec) -> int:
    """Images that a model takes at a time; 0 when any. Raises ValueError for one without the spec's input."""
    for entry in proto.graph.input:
        if entry.name == spec.input.name:
            sides = entry.type.tensor_type.shape.dim
            return sides[0].dim_value if sides else 0
    raise ValueError(f"the model has no input {spec.input.name!r}, which its spec names")


def read_proto(path: StrPath) -> onnx.ModelProto:
    """The ModelProto in a file. Raises FileNotFoundError, or ValueError for a file that is no ONNX model."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such model file")
    if path.suffix != ".onnx":
        raise ValueError(f"{path}: expected an ONNX model, a name that ends in .onnx")
    check_graph(path)
    try:
        proto = onnx.load(path)
    except (DecodeError, ValueError, onnx.checker.ValidationError) as error:
        raise ValueError(f"{path}: not a whole ONNX model ({str(error).splitlines()[0]})") from None
    if not proto.graph.node:
        raise ValueError(f"{path}: not an ONNX model, or one without a single layer")
    return proto


def load_model(path: StrPath) -> Model:
    """The Model in a file, checked to be one that an engine can be built of.

    Raises FileNotFoundError (model or spec), or ValueError for operators that no SSD network has, NMS inside,
    a model that is quantised already, image sizes left open, and outputs that do not fit the spec.
    """
    path = Path(path)
    proto = read_proto(path)
    model = Model(path, proto, load_spec_of(path))
    with failures_named(path):
        try:
            _check_operators(proto)
            _check_float32(proto)
            _check_input(proto, model.spec)
            Graph(proto)  # can be brought to the opset, and its shapes agree
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    _check_heads(model)
    return model


def _check_operators(proto: onnx.ModelProto) -> None:
    opsets = {entry.domain: entry.version for entry in proto.opset_import}
    for node in proto.graph.node:
        shown = f"{node.op_type} (node {node.name or node.output[0]!r})"
        if "NMS" in node.op_type.upper() or node.op_type == "NonMaxSuppression":
            raise ValueError(f"holds NMS: {shown}. {_RAW_HEADS}")
        if node.op_type in QUANTISED_OPS:
            raise ValueError(f"is quantised already: {shown}. Build from the float model it was made of")
        if any(
            entry.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for entry in node.attribute
        ):
            raise ValueError(f"holds a branch or a loop: {shown}. {_RAW_HEADS}")
        if node.domain not in ("", "ai.onnx") or not onnx.defs.has(node.op_type, opsets.get("", 1), ""):
            domain = f" of domain {node.domain!r}" if node.domain else ""
            raise ValueError(f"unknown operator {shown}{domain}; no engine can be built of it. {_RAW_HEADS}")


def _check_float32(proto: onnx.ModelProto) -> None:
    for tensor in proto.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT16:
            raise ValueError(f"holds float16 weights already ({tensor.name!r}). Build from the float32 model")


def _check_input(proto: onnx.ModelProto, spec: SsdSpec) -> None:
    constants = {tensor.name for tensor in proto.graph.initializer}
    entries = {entry.name: entry for entry in proto.graph.input if entry.name not in constants}
    if spec.input.name not in entries:
        return  # said better when the heads are checked
    sides = entries[spec.input.name].type.tensor_type.shape.dim[2:]
    if len(sides) == 2 and not all(side.dim_value for side in sides):
        height, width = spec.input.size
        raise ValueError(
            f"input {spec.input.name!r} leaves its height and width open. An engine has fixed ones: "
            f"export it for {width} x {height}, or: python -m onnxruntime.tools.make_dynamic_shape_fixed "
            f"--input_name {spec.input.name} --input_shape 1,3,{height},{width} IN.onnx OUT.onnx"
        )


def _check_heads(model: Model) -> None:
    """Runs the network once: what does not fit the spec is named by the backend."""
    from ..backends.cpu import CpuBackend
    from ..engines.onnxruntime_engine import OnnxRuntimeEngine

    engine = OnnxRuntimeEngine(model.path, model.spec)
    try:
        CpuBackend(engine, model.spec).close()
    except ValueError as error:
        raise ValueError(f"{model.path}: {error}") from error
