"""Frame to detections on the CPU, beside the same ONNX through OpenCV's DNN module.

    python -m benchmarks.cpu                         SSDLite320 and SSD300-VGG16, random weights (needs torch)
    python -m benchmarks.cpu --model M.onnx          a model of one's own

Each peer runs in a process of its own, so that idle thread pools do not spin beside each other, and they
take turns in short blocks; figures are medians over the blocks, and the ratio is taken block by block.
Frames are 640 x 480 BGR in memory, as a camera's driver leaves them: capture is not in the figures. Before
the first turn, OpenCV's network has to give what ONNX Runtime gives.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime

from edge_ssd import Detector, SsdSpec, open_source, reference
from edge_ssd.cpu_info import cpu_name, usable_cores
from edge_ssd.engines.onnxruntime_engine import OnnxRuntimeEngine
from edge_ssd.priors import make_priors, ssdlite_levels
from edge_ssd.spec import InputSpec, OutputSpec, PostprocessSpec, PriorSpec

from .networks import PAPER_FPS, RANDOM_NETWORKS, offsets_to_one_place, random_network

FRAME_SOURCE = "demo://?seed=7&size=640x480&frames=16"
SCORE_THRESHOLD = 0.5


def main():
    """Runs the benchmark; a table on standard output, or JSON with --json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cpu", description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="append", metavar="M.onnx", help="default: two of random weights")
    parser.add_argument("--blocks", type=int, default=15, metavar="N", help="turns of each peer")
    parser.add_argument("--seconds", type=float, default=1.0, metavar="S", help="about how long a turn takes")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        models = arguments.model or random_models(Path(folder))
        results = [compare(model, arguments.blocks, arguments.seconds) for model in models]
    fired = all_priors_firing()
    if arguments.json:
        print(json.dumps({"models": results, "all_priors_firing_ms": fired}, indent=2))
        return 0
    print(
        f"{cpu_name()}, {usable_cores()} cores; ONNX Runtime {onnxruntime.__version__}, OpenCV {cv2.__version__}\n"
    )
    for result in results:
        print_comparison(result)
    print("post-processing with all priors firing, 3234 x 91, score threshold 0.001, ms:")
    for name, ms in fired.items():
        print(f"  {name:28s}{ms:8.1f}")
    return 0


def random_models(folder):
    """The RANDOM_NETWORKS as ONNX files in `folder`: a list of paths. Raises ImportError without torch."""
    from edge_ssd.training.export_onnx import export_onnx

    paths = []
    for arch, columns in RANDOM_NETWORKS:
        paths.append(folder / f"{arch}.onnx")
        export_onnx(*random_network(arch, columns), paths[-1])
    return paths


def compare(model, blocks, seconds):
    """Our pipeline and OpenCV's, by turns: a dict of medians, and of the ratio of their frame rates."""
    context = multiprocessing.get_context("spawn")
    peers = {name: Peer(context, name, model) for name in ("edge_ssd", "opencv_dnn")}
    frames = {name: max(3, round(seconds * 1e3 / peer.turn(3)["frame"])) for name, peer in peers.items()}
    turns = {name: [] for name in peers}
    for block in range(blocks):
        for name, peer in peers.items():
            turns[name].append(peer.turn(frames[name]))
            _progress(f"{Path(model).stem}: block {block + 1}/{blocks}")
    _progress("")
    for peer in peers.values():
        peer.close()
    medians = {
        name: {stage: float(np.median([t[stage] for t in taken])) for stage in taken[0]}
        for name, taken in turns.items()
    }
    ratios = [o["frame"] / e["frame"] for e, o in zip(turns["edge_ssd"], turns["opencv_dnn"])]
    ours = medians["edge_ssd"]
    return {
        "model": Path(model).stem,
        "median_ms": medians,
        "fps_ratio": float(np.median(ratios)),
        "around_network_share": (ours["preprocess"] + ours["postprocess"]) / ours["frame"],
    }


def _progress(text):
    if sys.stderr.isatty():
        print(f"\r{text}\x1b[K", end="", file=sys.stderr, flush=True)


class Peer:
    """One way to run the model, in a process of its own that is idle between its turns."""

    def __init__(self, context, name, model):
        self._pipe, child = context.Pipe()
        self._process = context.Process(target=_serve, args=(child, name, str(model)), daemon=True)
        self._process.start()

    def turn(self, frames):
        """Median milliseconds per frame and per stage over `frames` frames."""
        self._pipe.send(frames)
        return self._pipe.recv()

    def close(self):
        """Ends the process."""
        self._pipe.send(0)
        self._process.join()


def _serve(pipe, name, model):
    run = {"edge_ssd": edge_ssd_runner, "opencv_dnn": opencv_runner}[name](model)
    images = [frame.image for frame in open_source(FRAME_SOURCE)]
    for image in images[:3]:
        run(image)
    while frames := pipe.recv():
        times = [_timed(run, images[i % len(images)]) for i in range(frames)]
        figures = {stage: float(np.median([t[stage] for t in times])) for stage in times[0]}
        for point in (95, 99):
            figures[f"frame_p{point}"] = float(np.percentile([t["frame"] for t in times], point))
        pipe.send(figures)


def _timed(run, image):
    start = time.perf_counter()
    stages = run(image)
    return {"frame": (time.perf_counter() - start) * 1e3, **stages}


def edge_ssd_runner(model):
    """image -> stage times in milliseconds, through Detector."""
    detector = Detector.load(model, score_threshold=SCORE_THRESHOLD)

    def run(image):
        detector.detect(image)
        return dict(detector.timing_ms)

    return run


def opencv_runner(model):
    """image -> stage times in milliseconds, as one would write it with OpenCV alone."""
    spec = SsdSpec.load(Path(model).with_suffix(".json"))
    check_supported(spec)
    network, priors = cv2.dnn.readNetFromONNX(for_opencv(model)), make_priors(spec)
    size, outputs = spec.input.size[::-1], [spec.outputs.loc, spec.outputs.conf]
    swap = spec.input.color == "rgb"
    check_same_network(network, model, spec)

    def run(image):
        started = time.perf_counter()
        blob = cv2.dnn.blobFromImage(image, 1 / spec.input.std[0], size, spec.input.mean, swap)
        prepared = time.perf_counter()
        network.setInput(blob)
        loc, conf = network.forward(outputs)
        inferred = time.perf_counter()
        opencv_postprocess(loc[0], conf[0], priors, spec, image.shape)
        finished = time.perf_counter()
        return {
            "preprocess": (prepared - started) * 1e3,
            "infer": (inferred - prepared) * 1e3,
            "postprocess": (finished - inferred) * 1e3,
        }

    return run


def check_supported(spec):
    """Raises ValueError for a spec that `opencv_runner` does not follow."""
    followed = (
        spec.input.resize == "stretch"
        and len(set(spec.input.std)) == 1
        and (spec.score_activation, spec.background_index, spec.loc_order) == ("softmax", 0, "cxcywh")
    )
    if not followed:
        raise ValueError(
            f"{spec.name}: the OpenCV side of this benchmark takes stretched, softmaxed SSDs only"
        )


def check_same_network(network, model, spec):
    """Raises ValueError unless OpenCV's network gives what ONNX Runtime's gives."""
    blob = np.random.default_rng(0).normal(size=(1, 3, *spec.input.size)).astype(np.float32)
    outputs = [spec.outputs.loc, spec.outputs.conf]
    network.setInput(blob)
    expected = OnnxRuntimeEngine(model, spec, threads=1).infer(blob)
    for name, ours, theirs in zip(outputs, expected, network.forward(outputs)):
        difference = np.abs(ours - theirs).max() / max(1.0, np.abs(ours).max())
        if not difference < 1e-3:
            raise ValueError(
                f"{model}: output {name!r} of OpenCV's DNN differs by {difference:.2g} of its range"
            )


def for_opencv(model):
    """The model as bytes that OpenCV reads: x * HardSigmoid(y) is taken for HardSwish(y) by its importer
    (5.0.0), so HardSigmoid is written out as Clip(alpha * x + beta, 0, 1)."""
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
        onnx.numpy_helper.from_array(np.float32(value), name) for name, value in constants.items()
    )
    return np.frombuffer(graph.SerializeToString(), np.uint8)


def opencv_postprocess(loc, conf, priors, spec, shape):
    """Softmax, decoding and cv2.dnn.NMSBoxesBatched; boxes x y w h in source pixels, scores, labels."""
    exps = np.exp(conf - conf.max(axis=1, keepdims=True))
    scores = (exps / exps.sum(axis=1, keepdims=True))[:, 1:]
    rows, labels = np.nonzero(scores > SCORE_THRESHOLD)
    boxes = reference.decode_boxes(loc[rows], priors[rows], spec.variance) * np.tile(shape[1::-1], 2)
    boxes[:, 2:] -= boxes[:, :2]
    best = scores[rows, labels]
    kept = (
        cv2.dnn.NMSBoxesBatched(boxes, best, labels, SCORE_THRESHOLD, spec.postprocess.iou_threshold)
        if len(rows)
        else []
    )
    return boxes[kept], best[kept], labels[kept]


def all_priors_firing():
    """Median milliseconds of post-processing when every class of every prior is a candidate."""
    spec = _ssdlite_spec()
    priors = make_priors(spec)
    rng = np.random.default_rng(0)
    shape = (len(priors), spec.num_columns)
    random_loc = rng.normal(size=(len(priors), 4)).astype(np.float32)
    noise, zeros = rng.normal(size=shape).astype(np.float32), np.zeros(shape, np.float32)
    cases = {
        "random logits": (random_loc, noise),
        "all logits zero (all tie)": (random_loc, zeros),
        "random logits, one place": (offsets_to_one_place(priors), noise),
        "all tie, one place": (offsets_to_one_place(priors), zeros),
    }
    return {
        name: _median_ms(reference.postprocess, loc, conf, priors, spec)
        for name, (loc, conf) in cases.items()
    }


def _ssdlite_spec():
    return SsdSpec(
        name="ssdlite320",
        input=InputSpec("image", 320, 320, "rgb", (127.5,) * 3, (127.5,) * 3),
        outputs=OutputSpec("loc", "conf"),
        class_names=tuple(f"class {i}" for i in range(1, 91)),
        background_index=0,
        score_activation="softmax",
        loc_order="cxcywh",
        variance=(0.1, 0.2),
        priors=PriorSpec(levels=ssdlite_levels()),
        postprocess=PostprocessSpec(0.001, 0.55, 300, 300),
    )


def _median_ms(function, *arguments, repeats=15):
    times = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        function(*arguments)
        times.append((time.perf_counter() - start) * 1e3)
    return float(np.median(times[2:]))


def print_comparison(result):
    """A small table for people."""
    print(f"{result['model']}, FP32, batch 1, 640x480 frames to detections, ms per frame (medians):")
    columns = ("frame", "p95", "p99", "preprocess", "network", "postprocess", "FPS", "network FPS")
    print(f"  {'':12s}" + "".join(f"{column:>12s}" for column in columns))
    for name, ms in result["median_ms"].items():
        values = [
            ms[key] for key in ("frame", "frame_p95", "frame_p99", "preprocess", "infer", "postprocess")
        ]
        values += [1e3 / ms["frame"], 1e3 / ms["infer"]]
        print(f"  {name:12s}" + "".join(f"{value:12.2f}" for value in values))
    print(f"  FPS: {result['fps_ratio']:.2f}x OpenCV DNN's (median of the blocks' ratios)")
    if result["model"].startswith("ssd300_vgg16"):
        fps = 1e3 / result["median_ms"]["edge_ssd"]["frame"]
        ratios = ", ".join(f"{fps / published:.3f}x {published}" for published in PAPER_FPS)
        print(f"  of the Titan X: {ratios} FPS (early abstract; published, batch 1; batch 8)")
    print(f"  preprocess + postprocess: {100 * result['around_network_share']:.1f} % of the frame\n")


if __name__ == "__main__":
    sys.exit(main())
