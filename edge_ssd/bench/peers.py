"""Peers: the same network as one would run it without this package, in a few lines each."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np

from .. import reference
from ..files import StrPath
from ..machine.cpu import usable_cores
from ..priors import make_priors
from ..spec import SsdSpec
from .frames import MemorySource


class PeerRunner(ABC):
    """cv2.dnn.blobFromImage, the peer's network, softmax and decoding in NumPy, cv2.dnn.NMSBoxesBatched.

    A subclass gives `_network` and `description`.
    Raises ValueError for a spec that this does not follow, and for more than one image at a time.
    """

    in_flight = 1
    description: str

    def __init__(self, spec: SsdSpec, score_threshold: float, batch: int) -> None:
        _check_followed(spec)
        if batch != 1:
            raise ValueError("batch: peers are measured with one image at a time")
        self._spec, self._threshold, self._priors = spec, score_threshold, make_priors(spec)
        self._blob = np.random.default_rng(0).normal(size=(1, 3, *spec.input.size)).astype(np.float32)

    def detect(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See Runner."""
        return self._stages(image)[0]

    def heads(self, blob: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """See Runner."""
        return self._network(blob)

    def run_frames(self, images: Sequence[np.ndarray], calls: int) -> list[dict[str, float]]:
        """See Runner."""
        times, source = [], MemorySource(images, calls)
        for i in range(calls):
            start = time.perf_counter()
            frame = source.frame(i)
            _, stages = self._stages(cast(np.ndarray, frame.image))  # MemorySource's is one
            whole = (time.perf_counter() - start) * 1e3
            times.append({"capture": frame.capture_ms, **stages, "age": frame.age_ms(), "frame": whole})
        return times

    def run_network(self, calls: int) -> None:
        """See Runner."""
        for _ in range(calls):
            self._network(self._blob)

    @abstractmethod
    def _network(self, blob: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """loc (1, P, 4), conf (1, P, C) of a (1, 3, H, W) float32 blob."""

    def _stages(
        self, image: np.ndarray
    ) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], dict[str, float]]:
        spec = self._spec.input
        started = time.perf_counter()
        blob = cv2.dnn.blobFromImage(image, 1 / spec.std[0], spec.size[::-1], spec.mean, spec.color == "rgb")
        prepared = time.perf_counter()
        loc, conf = self._network(blob)
        inferred = time.perf_counter()
        found = self._finish(loc[0], conf[0], image.shape)
        finished = time.perf_counter()
        marks = (started, prepared, inferred, finished)
        names = ("preprocess", "infer", "postprocess")
        return found, {name: (b - a) * 1e3 for name, a, b in zip(names, marks, marks[1:])}

    def _finish(
        self, loc: np.ndarray, conf: np.ndarray, shape: tuple[int, ...]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        exps = np.exp(conf - conf.max(axis=1, keepdims=True))
        scores = (exps / exps.sum(axis=1, keepdims=True))[:, 1:]
        rows, labels = np.nonzero(scores > self._threshold)
        boxes = reference.decode_boxes(loc[rows], self._priors[rows], self._spec.variance)
        if self._spec.postprocess.clip_boxes == "before_nms":
            np.clip(boxes, 0, 1, out=boxes)
        boxes *= np.tile(shape[1::-1], 2)
        best = scores[rows, labels]
        if not len(rows):
            return boxes, best, labels
        corners = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
        threshold = self._spec.postprocess.iou_threshold
        nms: Any = cv2.dnn.NMSBoxesBatched  # arrays in, an array out, where its stub has sequences
        kept = nms(corners, best, labels, self._threshold, threshold)
        kept = kept[np.argsort(-best[kept], kind="stable")][: self._spec.postprocess.max_detections]
        return boxes[kept], best[kept], labels[kept]


class OpenCvRunner(PeerRunner):
    """OpenCV's DNN module on the same ONNX file."""

    def __init__(self, model: StrPath, score_threshold: float, batch: int = 1, threads: int = 0) -> None:
        super().__init__(SsdSpec.load(Path(model).with_suffix(".json")), score_threshold, batch)
        cv2.setNumThreads(threads or usable_cores())
        self._net = cv2.dnn.readNetFromONNX(for_opencv(model))
        self._outputs = list(self._spec.outputs.names)
        self.description = f"OpenCV {cv2.__version__} DNN + NMSBoxesBatched"

    def _network(self, blob: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self._net.setInput(blob)
        loc, conf = self._net.forward(self._outputs)
        return loc, conf


class OpenVinoRunner(PeerRunner):
    """OpenVINO with its own defaults on the same ONNX file."""

    def __init__(self, model: StrPath, score_threshold: float, batch: int = 1, threads: int = 0) -> None:
        import openvino

        from ..engines.openvino_engine import check_openvino_opens

        super().__init__(SsdSpec.load(Path(model).with_suffix(".json")), score_threshold, batch)
        check_openvino_opens(Path(model), self._spec)
        core = openvino.Core()
        network = core.read_model(model)
        network.reshape([1, 3, *self._spec.input.size])
        limit = {"INFERENCE_NUM_THREADS": threads} if threads else {}
        compiled = core.compile_model(network, "CPU", {"PERFORMANCE_HINT": "LATENCY", **limit})
        precision = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        self._compiled = compiled
        self.description = f"OpenVINO {openvino.__version__.split('-')[0]}, {precision} + NMSBoxesBatched"

    def _network(self, blob: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values = self._compiled([blob])
        return values[self._spec.outputs.loc_names[0]], values[self._spec.outputs.conf_names[0]]


class TorchRunner(PeerRunner):
    """torch as it comes: eager, float32, on the CPU."""

    _how = "eager"

    def __init__(
        self,
        model: StrPath,
        score_threshold: float,
        batch: int = 1,
        threads: int = 0,
        trust_checkpoint: bool = False,
    ) -> None:
        import torch

        from ..networks.checkpoint import load_model

        network, spec = load_model(model, trust_checkpoint)
        super().__init__(spec, score_threshold, batch)
        torch.set_num_threads(threads or usable_cores())
        self._torch = torch
        self._model = self._prepared(network.eval())
        self.description = f"torch {torch.__version__}, {self._how} + NMSBoxesBatched"

    def _prepared(self, network: Any) -> Any:
        return network

    def _network(self, blob: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with self._torch.inference_mode():
            loc, conf = self._model(self._torch.from_numpy(blob))
        return loc.numpy(), conf.numpy()


class CompiledTorchRunner(TorchRunner):
    """torch.compile of the same network. Raises ValueError when it does not compile here."""

    _how = "compiled"

    def _prepared(self, network: Any) -> Any:
        compiled = self._torch.compile(network)
        try:
            with self._torch.inference_mode():
                compiled(self._torch.from_numpy(self._blob))
        except Exception as error:  # of the compiler, of Triton, of a missing g++: no common base
            raise ValueError(f"torch.compile fails here: {str(error).splitlines()[0]}") from error
        return compiled


class TorchvisionRunner:
    """torchvision's own detector with the same weights: eager, image to boxes, on the CPU.

    Raises ValueError for a network that torchvision does not have, ImportError for a torchvision that does not fit
    this torch.
    """

    def __init__(
        self,
        model: StrPath,
        score_threshold: float,
        batch: int = 1,
        threads: int = 0,
        trust_checkpoint: bool = False,
    ) -> None:
        import torch

        from ..networks.checkpoint import load_model

        try:
            import torchvision
        # RuntimeError: its operators were built for another torch.
        except (ImportError, RuntimeError) as error:
            raise ImportError(f"torchvision is installed and cannot be used ({error})") from error
        network, spec = load_model(model, trust_checkpoint)
        builder = getattr(torchvision.models.detection, spec.name, None)
        if builder is None or batch != 1:
            raise ValueError(f"torchvision has no {spec.name}, or takes one image at a time here")
        torch.set_num_threads(threads or usable_cores())
        self._torch, self._threshold = torch, score_threshold
        options = {"weights": None, "weights_backbone": None, "num_classes": spec.num_columns}
        self._model = builder(**options, score_thresh=score_threshold).eval()
        self._model.load_state_dict(network.state_dict())
        self.description = f"torchvision {torchvision.__version__}, eager"

    def detect(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See Runner."""
        with self._torch.inference_mode():
            pixels = self._torch.from_numpy(image).flip(-1).permute(2, 0, 1).float().div(255)
            found = self._model([pixels])[0]
        return found["boxes"].numpy(), found["scores"].numpy(), found["labels"].numpy() - 1

    def heads(self, blob: np.ndarray) -> None:
        """None: its network is not to be had alone."""

    def run_frames(self, images: Sequence[np.ndarray], calls: int) -> list[dict[str, float]]:
        """See Runner."""
        times, source = [], MemorySource(images, calls)
        for i in range(calls):
            start = time.perf_counter()
            frame = source.frame(i)
            self.detect(cast(np.ndarray, frame.image))  # MemorySource's is one
            whole = (time.perf_counter() - start) * 1e3
            times.append({"capture": frame.capture_ms, "age": frame.age_ms(), "frame": whole})
        return times

    run_network = None


def for_opencv(model: StrPath) -> np.ndarray:
    """The model as bytes that OpenCV reads: x * HardSigmoid(y) is taken for HardSwish(y) by its importer
    (5.0.0), so HardSigmoid is written out as Clip(alpha * x + beta, 0, 1)."""
    import onnx

    graph = onnx.load(str(model))
    nodes, constants = [], {}
    for node in graph.graph.node:
        if node.op_type != "HardSigmoid":
            nodes.append(node)
            continue
        values = {"alpha": 0.2, "beta": 0.5, **{a.name: a.f for a in node.attribute}, "zero": 0.0, "one": 1.0}
        names = {key: f"for_opencv_{key}_{value:.6f}" for key, value in values.items()}
        constants.update((names[key], value) for key, value in values.items())
        scaled, shifted = f"{node.output[0]}_scaled", f"{node.output[0]}_shifted"
        nodes += [
            onnx.helper.make_node("Mul", [node.input[0], names["alpha"]], [scaled]),
            onnx.helper.make_node("Add", [scaled, names["beta"]], [shifted]),
            onnx.helper.make_node("Clip", [shifted, names["zero"], names["one"]], [node.output[0]]),
        ]
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    graph.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.array(value, np.float32), name) for name, value in constants.items()
    )
    return np.frombuffer(graph.SerializeToString(), np.uint8)


def _check_followed(spec: SsdSpec) -> None:
    """Raises ValueError for a spec that PeerRunner does not follow."""
    followed = (
        spec.input.resize == "stretch"
        and len(set(spec.input.std)) == 1
        and (spec.score_activation, spec.background_index, spec.loc_order) == ("softmax", 0, "cxcywh")
        and (spec.box_coding, spec.loc_columns, len(spec.outputs.names)) == ("center_size", 4, 2)
        and (spec.loc_layout, spec.conf_layout) == ("prior_column", "prior_column")
        and (spec.input.layout, spec.input.dtype, spec.input.batch_axis) == ("nchw", "float", True)
    )
    if not followed:
        raise ValueError(f"{spec.name}: peers are measured for stretched, softmaxed SSDs only")
