"""`edge-ssd eval`: average precision of a model on a data set."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from . import plotting

DESCRIPTION = """\
VOC and COCO average precision of a model, an engine or a checkpoint.

  edge-ssd eval --data 'demo://?seed=1000&frames=500'
  edge-ssd eval --model ssd300.onnx --data VOCdevkit/VOC2007 --split test --report ap.json --plot pr.png
"""


def add_parser(subparsers):
    """Adds `eval` to the commands of `edge-ssd`."""
    parser = subparsers.add_parser(
        "eval",
        help="average precision on a data set",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", metavar="M", help="default: the demo model that comes with the package")
    parser.add_argument(
        "--data", required=True, metavar="D", help="VOC or COCO folder, or demo://?seed=S&frames=N"
    )
    parser.add_argument(
        "--split", default="", metavar="S", help="VOC: list in ImageSets/Main; COCO: set of the file"
    )
    parser.add_argument("--report", metavar="F.json", help="write the numbers there")
    parser.add_argument("--plot", metavar="F.png", help="write the precision-recall curves there")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="CPU threads; default: all cores")
    parser.set_defaults(main=main)


def main(arguments):
    """Evaluates and prints the table; known errors come out as exceptions."""
    from ..datasets import open_dataset
    from ..detector import Detector
    from ..evaluation import predict, score
    from ..evaluation.report import load_coco_scorer, report_text
    from ..run import DEMO_MODEL

    # All that may be missing is said before the work, not after it.
    load_coco_scorer()
    plot_curves = _load_plotter() if arguments.plot else None
    for path in filter(None, (arguments.report, arguments.plot)):
        if not Path(path).absolute().parent.is_dir():
            raise FileNotFoundError(f"{path}: no such folder to write to")
    model = arguments.model or str(DEMO_MODEL)
    dataset = open_dataset(arguments.data, arguments.split)
    with Detector.load(model, score_threshold=None, threads=arguments.threads) as detector:
        predictions = predict(detector.detect, dataset, detector.class_names, progress=True)
        origin = {
            "model": model,
            "engine": detector.description,
            "data": arguments.data,
            "split": arguments.split,
        }
    report = {**score(predictions), **origin}
    if arguments.report:
        _write_json(report, arguments.report)
    if plot_curves:
        plot_curves(predictions, arguments.plot, f"{Path(model).name} on {dataset.address}")
    print(f"{model} ({report['engine']}) on {dataset.address}")
    print(report_text(report))
    return 0


def _write_json(report, path):
    from ..files import replacing

    with replacing(path) as partial:
        partial.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _load_plotter():
    with plotting():
        from ..evaluation.plot import plot_curves
    return plot_curves
