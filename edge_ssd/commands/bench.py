"""`edge-ssd bench`, `python -m benchmarks.fps`: frames per second of every engine here, beside its peers."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..engines.choice import wanted_precision
from ..files.terminal import one_line, progress_bar
from ..machine.cpu import usable_cores
from . import new_parser
from .options import add_precision_argument, add_threads_argument, add_trust_arguments, positive

if TYPE_CHECKING:
    import numpy as np

DESCRIPTION = """\
Frames per second and latency of a model on every engine and precision that this machine has, camera to detections
and of the network alone, beside OpenCV DNN, OpenVINO, torch and torchvision on the same images where they are
installed. Each runs in a process of its own; they take turns. Before, each has to give the reference's results.

  edge-ssd bench                                     # the demo model and SSD300-VGG16 (random weights)
  edge-ssd bench --model mine.onnx --source clip.mp4 --out bench_mine
  edge-ssd bench --model ssdlite320_mobilenet_v3_large --batch 1 8 --seconds 60
"""
_SOURCE = "demo://?seed=7&size=640x480&frames=48"


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds `bench` to the commands of `edge-ssd`."""
    parser = new_parser(
        subparsers, "bench", "frames per second here, beside peers and the paper's Titan X", DESCRIPTION
    )
    add_arguments(parser)
    parser.set_defaults(main=main)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `bench`."""
    parser.add_argument(
        "--model",
        action="append",
        metavar="M",
        help="an .onnx with what lies beside it (.fp16.onnx, .int8.onnx, .engine, .pt), an engine, a checkpoint, a "
        "shipped model's name, or an architecture's for random weights; may be given several times",
    )
    parser.add_argument("--source", default=_SOURCE, metavar="S", help="images: a video, folder or demo://")
    parser.add_argument("--batch", type=positive, nargs="+", default=[1], metavar="B", help="default: 1")
    parser.add_argument("--seconds", type=_seconds, default=20, metavar="S", help="of each row (default: 20)")
    add_threads_argument(parser)
    add_precision_argument(parser)
    parser.add_argument("--score-threshold", type=float, default=0.5, metavar="T", help="default: 0.5")
    add_trust_arguments(parser)
    parser.add_argument("--no-peers", action="store_true", help="this package's engines alone")
    parser.add_argument(
        "--note", default="", metavar="TEXT", help="what else a reader should know of the run"
    )
    parser.add_argument("--out", metavar="DIR", help="bench.html, bench.json and PNG files go there")


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError(f"expected seconds above 0, at most 3600, got {text!r}")
    return value


def main(arguments: argparse.Namespace) -> int:
    """Measures, prints a table and writes the report; 1 when nothing could be measured."""
    from ..bench.frames import load_images
    from ..bench.report import new_report, text_of
    from ..sources.address import without_login

    images = load_images(arguments.source)
    height, width = images[0].shape[:2]
    report = new_report(
        {
            "source": without_login(arguments.source),
            "images": len(images),
            "image_size": f"{width}x{height}",
            "seconds_per_row": arguments.seconds,
            "threads": arguments.threads or "all cores",
            "score_threshold": arguments.score_threshold,
            "precision": wanted_precision(arguments.precision),
            "note": arguments.note,
        }
    )
    try:
        with tempfile.TemporaryDirectory() as folder, _progress() as progress:
            # All of them first: a wrong name shows at once, and not after minutes of the others.
            models = [_model_file(name, Path(folder)) for name in arguments.model or _defaults()]
            for model, is_random in models:
                _measure(report, model, is_random, images, arguments, progress)
                if arguments.out:  # after each model: minutes of measuring are not lost
                    _write(report, Path(arguments.out))
    finally:
        if report["models"]:  # whatever became of the page or the next model
            print(text_of(report), flush=True)
    if arguments.out:
        print(f"written: {Path(arguments.out) / 'bench.html'}, bench.json", file=sys.stderr)
    return 0 if any(row["status"] == "ok" for model in report["models"] for row in model["rows"]) else 1


def _defaults() -> list[str]:
    from importlib.util import find_spec

    if find_spec("torch"):
        return ["demo", "ssd300_vgg16"]
    print("SSD300-VGG16 needs the 'torch' package: pip install edge-ssd[train]", file=sys.stderr)
    return ["demo"]


def _measure(
    report: dict[str, Any],
    model: Path,
    is_random: bool,
    images: Sequence[np.ndarray],
    arguments: argparse.Namespace,
    progress: Callable[[int, int, str], None],
) -> None:
    from ..bench.candidates import Limits, candidates_of
    from ..bench.disturbance import worst_of
    from ..bench.measure import measure
    from ..bench.plan import Plan
    from ..bench.report import add_model

    rows, verdicts = [], []
    for batch in arguments.batch:
        plan = Plan(arguments.seconds, batch, arguments.threads, arguments.score_threshold, progress)
        # In throughput mode, and with the peers, it is one image at a time.
        threads = arguments.threads or usable_cores() if batch == 1 else 1
        limits = Limits(
            peers=not arguments.no_peers and batch == 1,
            threads=threads,
            precision=arguments.precision,
            trust_engine=arguments.trust_engine,
            trust_checkpoint=arguments.trust_checkpoint,
        )
        candidates = candidates_of(model, limits)
        measured, verdict = measure(candidates, images, plan)
        rows += measured
        verdicts.append(verdict)
    add_model(report, model, is_random, rows, worst_of(verdicts), arguments.trust_checkpoint)


def _model_file(name: str, folder: Path) -> tuple[Path, bool]:
    """The file of a model, and whether its weights are random."""
    from ..bench.networks import COLUMNS, save_random_network
    from ..engines.opening import check_graph
    from ..models import model_path

    if name in COLUMNS:
        return save_random_network(name, folder), True
    path = model_path(name)
    if path.suffix not in (".onnx", ".engine", ".pt"):
        raise ValueError(f"{path}: expected .onnx, .engine or .pt, or one of {', '.join(COLUMNS)}")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such model file")
    if path.suffix == ".onnx":
        check_graph(path)  # before a peer opens it
    return path, False


def _write(report: dict[str, Any], folder: Path) -> None:
    from ..bench.report import write_json
    from ..files import replacing

    folder.mkdir(parents=True, exist_ok=True)
    write_json(report, folder / "bench.json")
    try:
        from ..bench.page import html_of
    except ImportError as error:
        raise ImportError(
            f"The page needs the 'matplotlib' package ({error}): pip install edge-ssd[eval]"
        ) from None
    html, files = html_of(report)
    for name, png in files.items():
        with replacing(folder / name) as temporary:
            temporary.write_bytes(png)
    with replacing(folder / "bench.html") as temporary:
        temporary.write_text(html, encoding="utf-8")


@contextmanager
def _progress() -> Iterator[Callable[[int, int, str], None]]:
    """A function (done, total, text) that shows a bar on standard error, where that is a terminal."""
    bar = progress_bar(
        disable=not sys.stderr.isatty(), bar_format="{desc} {n_fmt}/{total_fmt} [{elapsed}]", leave=False
    )

    def show(done: int, total: int, text: str) -> None:
        bar.total, bar.n = total, done
        bar.set_description_str(one_line(text))

    try:
        yield show
    finally:
        bar.close()
