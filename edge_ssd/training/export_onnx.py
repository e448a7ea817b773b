"""An SSD as an ONNX file: raw `loc` and `conf`, and its spec beside it."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..files import StrPath
from ..files.only_writer import only_writer
from ..model_files.known_models import remember_made
from ..model_files.pair import replacing_model
from ..spec import SsdSpec

# The oldest that torch's exporter writes without converting; TensorRT from 8.6 on and OpenCV's DNN read it.
OPSET = 18
# Largest difference from torch that is taken for rounding, as a share of the largest output.
TOLERANCE = 1e-3


def export_onnx(model: torch.nn.Module, spec: SsdSpec, path: StrPath) -> None:
    """Writes `model` to the ONNX file `path`, and `spec` to the .json beside it.

    model: Ssd, or any module whose forward gives (loc, conf); batch norms are folded into a copy.
    The graph has one input (B, 3, H, W) and the outputs loc (B, P, 4), conf (B, P, C), with the spec's
    names; B is free, every other size fixed. Post-processing is not part of it.

    The graph is run by ONNX Runtime and compared with torch before it takes the place of `path`.
    Both files are replaced together, see `replacing_model`.
    Raises ValueError when they differ, the outputs do not fit the spec, or another export is writing the same file.
    """
    path = Path(path)
    if path.suffix != ".onnx":
        raise ValueError(f"{path}: expected a name that ends in .onnx")
    model = fold_batch_norms(copy.deepcopy(model).cpu().float().eval())
    with (
        only_writer(path, "another export is writing this file", "give this one another name"),
        replacing_model(path, spec) as temporary,
    ):
        _write_graph(model, spec, temporary)
        _compare(model, spec, temporary)
    remember_made(path)


def fold_batch_norms(model: torch.nn.Module) -> torch.nn.Module:
    """`model` with every batch norm that follows a convolution folded into it, in place; evaluation mode only."""
    for parent in list(model.modules()):
        children = list(parent.named_children())
        for (name, conv), (norm_name, norm) in pairwise(children):
            if isinstance(conv, torch.nn.Conv2d) and isinstance(norm, torch.nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(conv, norm))
                setattr(parent, norm_name, torch.nn.Identity())
    return model


def _write_graph(model: torch.nn.Module, spec: SsdSpec, path: Path) -> None:
    # Two images, or the exporter takes the batch for the constant 1.
    example = torch.zeros(2, 3, *spec.input.size)
    with _quiet():
        program = torch.onnx.export(
            model,
            (example,),
            input_names=[spec.input.name],
            output_names=list(spec.outputs.names),
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # it is without dynamo alone
    proto = program.model_proto
    proto.producer_name = "edge_ssd"
    _strip_origins(proto)
    onnx.checker.check_model(proto, full_check=True)
    onnx.save_model(proto, str(path))


def _strip_origins(proto: onnx.ModelProto) -> None:
    """Takes out where each node came from: stack traces with the paths of the exporting machine."""
    graph = proto.graph
    for holder in (
        proto,
        graph,
        *graph.node,
        *graph.value_info,
        *graph.input,
        *graph.output,
        *graph.initializer,
    ):
        del holder.metadata_props[:]
        holder.doc_string = ""


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's progress and deprecations are of no use to who exports an SSD."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _compare(model: torch.nn.Module, spec: SsdSpec, path: Path) -> None:
    """Raises ValueError unless ONNX Runtime computes what torch does, for one image and for three."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = spec.outputs.names
    rng = np.random.default_rng(0)
    mean, std = (
        np.array(values, np.float32).reshape(3, 1, 1) for values in (spec.input.mean, spec.input.std)
    )
    for count in (1, 3):
        pixels = rng.integers(0, 256, (count, 3, *spec.input.size)).astype(np.float32)
        batch = (pixels - mean) / std
        with torch.inference_mode():
            expected = [output.numpy() for output in model(torch.from_numpy(batch))]
        for name, wanted, found in zip(names, expected, session.run(names, {spec.input.name: batch})):
            _check_output(name, wanted, np.asarray(found), spec)


def _check_output(name: str, wanted: np.ndarray, found: np.ndarray, spec: SsdSpec) -> None:
    columns = 4 if name in spec.outputs.loc_names else spec.num_columns
    if found.shape != wanted.shape or found.shape[2] != columns:
        raise ValueError(
            f"output {name!r}: expected shape {wanted.shape} with {columns} columns, got {found.shape}"
        )
    difference = float(np.abs(wanted - found).max())
    limit = TOLERANCE * max(1.0, float(np.abs(wanted).max()))
    if not difference <= limit:
        raise ValueError(
            f"output {name!r}: ONNX Runtime differs from torch by {difference:.2g}, expected at most {limit:.2g}"
        )
