"""`edge-ssd eval`: average precision of a model on a data set."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from . import new_parser, plotting, say_left_out
from .options import add_cpu_arguments, add_data_arguments, add_trust_arguments

DESCRIPTION = """\
VOC and COCO average precision of a model, an engine or a checkpoint, and which classes it takes for which.

  edge-ssd eval --data 'demo://?seed=1000&frames=500'
  edge-ssd eval --model ssd300.onnx --data VOCdevkit/VOC2007 --split test \\
      --report ap.json --plot pr.png --worst worst.png
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds `eval` to the commands of `edge-ssd`."""
    parser = new_parser(subparsers, "eval", "average precision on a data set", DESCRIPTION)
    parser.add_argument(
        "--model", metavar="M", help="a file, or what comes with the package: demo (default) or fod31"
    )
    add_data_arguments(parser)
    parser.add_argument("--report", metavar="F.json", help="write the numbers there")
    parser.add_argument("--plot", metavar="F.png", help="write the precision-recall curves there")
    parser.add_argument("--worst", metavar="F.png", help="write the 20 images with the most errors there")
    add_cpu_arguments(parser)
    add_trust_arguments(parser)
    parser.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    """Evaluates and prints the table; known errors come out as exceptions."""
    from ..datasets import open_dataset
    from ..detector import Detector
    from ..evaluation import predict, score
    from ..evaluation.errors import confusion_report, confusion_text
    from ..evaluation.report import load_coco_scorer, report_text
    from ..files.image import use_one_opencv_thread
    from ..models import DEMO_MODEL

    # All that may be missing is said before the work, not after it.
    load_coco_scorer()
    plot_curves, plot_worst = _load_plotters() if arguments.plot or arguments.worst else (None, None)
    for path in filter(None, (arguments.report, arguments.plot, arguments.worst)):
        if not Path(path).absolute().parent.is_dir():
            raise FileNotFoundError(f"{path}: no such folder to write to")
    model = arguments.model or str(DEMO_MODEL)
    dataset = open_dataset(arguments.data, arguments.split)
    say_left_out(dataset)
    use_one_opencv_thread()
    with Detector.load(
        model,
        score_threshold=None,
        threads=arguments.threads,
        engine=arguments.engine,
        in_flight=arguments.in_flight or 0,
        precision=arguments.precision,
        trust_engine=arguments.trust_engine,
        trust_checkpoint=arguments.trust_checkpoint,
    ) as detector:
        predictions = predict(detector, dataset, detector.class_names, progress=True)
        origin = {
            "model": model,
            "engine": detector.description,
            "data": arguments.data,
            "split": arguments.split,
        }
    report = {**score(predictions), "confusion": confusion_report(predictions), **origin}
    if arguments.report:
        _write_json(report, arguments.report)
    print(f"{model} ({report['engine']}) on {dataset.address}")
    print(report_text(report))
    print(confusion_text(report["confusion"]), flush=True)
    # Last: a picture that cannot be drawn leaves the numbers.
    title = f"{Path(model).name} on {dataset.address}"
    if plot_curves and arguments.plot:
        plot_curves(predictions, arguments.plot, title)
    if plot_worst and arguments.worst:
        plot_worst(predictions, dataset, arguments.worst, title)
    return 0


def _write_json(report: dict[str, Any], path: str) -> None:
    from ..files import replacing

    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    with replacing(path) as partial:
        # Half of a surrogate pair, which a class name in JSON may have, is written as JSON's own escape.
        partial.write_bytes(text.encode("utf-8", "backslashreplace"))


def _load_plotters():
    with plotting():
        from ..evaluation.plot import plot_curves
        from ..evaluation.worst import plot_worst
    return plot_curves, plot_worst
