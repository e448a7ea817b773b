"""The ranges of a network's tensors on real images: one table for every placement of INT8, and for FP16."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from ..files import StrPath, replacing
from .graph import Graph
from .histogram import Histogram
from .images import CalibrationImages
from .model_file import Model
from .progress import shown
from .session import open_bytes, run_arrays

# {tensor: (low, high)}
Ranges = dict[str, tuple[float, float]]

FORMAT = "edge_ssd-calibration/1"
METHODS = ("minmax", "percentile", "entropy")


@dataclass(frozen=True)
class Table:
    """Ranges of float tensors.

    method: of METHODS.   images: how many were looked at.   data: the address they came from.
    onnx_sha256: of the model.   ranges: {tensor: (low, high)} to quantise by.
    extremes: {tensor: (low, high)} really seen.
    """

    method: str
    images: int
    data: str
    onnx_sha256: str
    ranges: Ranges
    extremes: Ranges

    @property
    def sha256(self) -> str:
        """Identifies the table by its content: that of the file that `save` writes."""
        return hashlib.sha256(self._to_json().encode()).hexdigest()

    def save(self, path: StrPath) -> None:
        """Writes the table to the file `path`, as a whole or not at all."""
        with replacing(path) as temporary:
            temporary.write_text(self._to_json(), encoding="utf-8")

    def _to_json(self) -> str:
        return json.dumps({"format": FORMAT, **self.__dict__}, indent=1) + "\n"


def calibrate_model(
    model: Model,
    images: CalibrationImages,
    method: str,
    onnx_sha256: str,
    threads: int = 0,
    progress: bool = True,
) -> Table:
    """The Table of a model: every float tensor, inputs and outputs of its layers alike.

    model: Model.   images: CalibrationImages.   method: of METHODS.   onnx_sha256: of the model's file.
    threads: of the CPU, 0: one per usable core.   Raises ValueError as `calibrate` and the images do.
    """
    graph = Graph(model.proto)
    names = graph.activations()
    run = _tensors_of(graph, names, model, threads)
    ranges, extremes = calibrate(run, names, shown(images, "calibrate", "image", progress), method)
    return Table(method, images.used, str(images.address), onnx_sha256, ranges, extremes)


def _tensors_of(
    graph: Graph, names: Sequence[str], model: Model, threads: int
) -> Callable[[np.ndarray], list[np.ndarray]]:
    """A function of a batch (1, 3, H, W) that gives the arrays of the tensors `names`."""
    open_proto, entry = graph.model, model.spec.input.name
    known = {output.name for output in open_proto.graph.output}
    wanted = [name for name in names if name != entry]
    for name in wanted:
        if name not in known:
            open_proto.graph.output.append(
                onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            )
    # Without fusions: a fused tensor is not there to be looked at.
    session = open_bytes(open_proto.SerializeToString(), threads, optimise=False)
    copies = model.batch or 1

    def run(batch: np.ndarray) -> list[np.ndarray]:
        batch = np.repeat(batch, copies, axis=0)
        arrays = dict(zip(wanted, run_arrays(session, wanted, {entry: batch})))
        return [batch if name == entry else arrays[name] for name in names]

    return run


def calibrate(
    run: Callable[[np.ndarray], Sequence[np.ndarray]],
    names: Sequence[str],
    batches: Iterable[np.ndarray],
    method: str,
) -> tuple[Ranges, Ranges]:
    """(ranges, extremes) of the tensors `names`, each {tensor: (low, high)}.

    run: function of a batch that gives the arrays of `names`.   batches: iterable of (1, 3, H, W).
    method: minmax takes the extremes; percentile leaves out 0.01 % of the magnitudes; entropy takes the limit
    that loses the least information (Kullback-Leibler) in 8 bits.

    Only a histogram of each tensor is kept, so any number of images fits in memory.
    Raises ValueError naming a tensor that holds NaN or Inf.
    """
    if method not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {method!r}")
    low, high = {}, {}
    histograms = {name: Histogram() for name in names} if method != "minmax" else {}
    for batch in batches:
        for name, array in zip(names, run(batch)):
            least, most = float(array.min()), float(array.max())
            if not np.isfinite((least, most)).all():
                raise ValueError(f"calibration: tensor {name!r} holds NaN or Inf on a calibration image")
            low[name], high[name] = min(low.get(name, least), least), max(high.get(name, most), most)
            if histograms:
                histograms[name].add(array)
    extremes = {name: (low[name], high[name]) for name in low}
    limits = {name: getattr(histogram, f"{method}_limit")() for name, histogram in histograms.items()}
    ranges = {
        name: (max(least, -limits.get(name, np.inf)), min(most, limits.get(name, np.inf)))
        for name, (least, most) in extremes.items()
    }
    return ranges, extremes
