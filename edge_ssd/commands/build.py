"""`edge-ssd build`, `python -m edge_ssd.build_engine`: an ONNX model as an engine."""

from __future__ import annotations

import argparse
import math
import re
import sys
from pathlib import Path

from ..files.terminal import joined, one_line
from . import new_parser

DESCRIPTION = """\
Build an engine. Precision goes into the ONNX file first (M.fp16.onnx, M.int8.onnx), which runs on any machine;
TensorRT only compiles it. Beside the engine lies its manifest, which is checked before it is loaded.

  edge-ssd build ssd300.onnx --precision fp16 --calibration photos/
  edge-ssd build ssd300.onnx --precision int8 --calibration photos/ --max-drop 0.5 --data VOC2007 --split test
  edge-ssd build ssd300.onnx --precision int8 --runtime cpu --calibration photos/
  edge-ssd build ssd300.int8.engine            # again, for this machine, from the ONNX file beside it
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds `build` to the commands of `edge-ssd`."""
    parser = new_parser(subparsers, "build", "an ONNX model as an FP16 or INT8 engine", DESCRIPTION)
    add_arguments(parser)
    parser.set_defaults(main=main)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `build`."""
    parser.add_argument(
        "model", metavar="M.onnx", help="model with its spec beside it; or an engine, to rebuild it"
    )
    parser.add_argument("--precision", choices=("fp32", "fp16", "int8"), default="fp16")
    parser.add_argument(
        "--runtime",
        choices=("tensorrt", "rtx", "cpu"),
        default="",
        help="default: the TensorRT that is installed; cpu: an ONNX file for ONNX Runtime, no engine",
    )
    parser.add_argument(
        "--out", default="", metavar="F", help="default: M.<precision>.engine beside the model"
    )
    _add_calibration(parser)
    parser.add_argument(
        "--max-drop", type=_points, metavar="P", help="AP points that INT8 may lose on --data"
    )
    parser.add_argument(
        "--data",
        default="",
        metavar="D",
        help="VOC or COCO folder or demo:// for INT8's quantization report, the loss of AP",
    )
    parser.add_argument("--split", default="", metavar="S", help="set of images of --data")
    parser.add_argument(
        "--batch",
        type=int,
        nargs=3,
        default=(1, 1, 1),
        metavar=("MIN", "OPT", "MAX"),
        help="images at a time; batch 1 is always tuned for exactly (default: 1 1 1)",
    )
    parser.add_argument(
        "--workspace-gib", type=_size, default=0, metavar="G", help="limit of TensorRT's scratch memory"
    )
    parser.add_argument(
        "--timing-cache",
        default="",
        metavar="F",
        help="keep TensorRT's timings there; one file for each GPU and version",
    )
    parser.add_argument(
        "--compute-capability",
        type=_capability,
        nargs="+",
        default=(),
        metavar="X.Y",
        help="GPUs that a TensorRT-RTX engine is for; default: the one at hand, all without one",
    )
    parser.add_argument(
        "--version-compatible", action="store_true", help="later TensorRT releases can read it, too"
    )
    parser.add_argument(
        "--hardware-compatible", action="store_true", help="other GPUs from Ampere on can, too"
    )
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="CPU threads; default: all cores")


def _add_calibration(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--calibration",
        default="",
        metavar="D",
        help="images of what the camera will see: a folder, a VOC or COCO folder, or demo://?seed=S&frames=N",
    )
    parser.add_argument("--calibration-split", default="", metavar="S", help="set of images of a data set")
    parser.add_argument(
        "--calibration-images", type=int, default=128, metavar="N", help="at most (default: 128)"
    )
    parser.add_argument(
        "--method",
        choices=("minmax", "percentile", "entropy"),
        default="percentile",
        help="how ranges come from what was seen (default: percentile)",
    )


def _number(text: str) -> float:
    """NaN, which is in no range, for what is no number."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _points(text: str) -> float:
    value = _number(text)
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"expected AP points from 0 to 100, got {text!r}")
    return value


def _size(text: str) -> int:
    value = _number(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected GiB above 0, got {text!r}")
    return int(value * 2**30)


def _capability(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)\.(\d)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"expected a compute capability such as 8.6, got {text!r}")
    return int(found[1]), int(found[2])


def main(arguments: argparse.Namespace) -> int:
    """Builds and says what was written; known errors come out as exceptions."""
    from .needs import build_packages, warnings_on_stderr

    with warnings_on_stderr(), build_packages("build"):
        if arguments.model.endswith(".engine"):
            return _rebuild(arguments.model)
        from ..build_engine.build import build
        from ..build_engine.options import BuildOptions

        values = {
            name: getattr(arguments, name)
            for name in vars(arguments).keys() & BuildOptions.__dataclass_fields__
        }
        values |= {"batch": tuple(arguments.batch), "targets": tuple(arguments.compute_capability)}
        built = build(BuildOptions(**values, workspace_bytes=arguments.workspace_gib))
    for name, reason in built.islands.items():
        print(one_line(f"kept in FP32: {name} ({reason})"), file=sys.stderr)
    for path in filter(None, (built.onnx, built.engine, built.report)):
        print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB")
    if built.verdict:
        print(joined(built.verdict))
    return 0


def _rebuild(engine: str) -> int:
    from ..build_engine.build import rebuild

    manifest = rebuild(engine)
    print(f"{engine}: {Path(engine).stat().st_size / 2**20:.1f} MiB, {manifest.flavour} {manifest.version}")
    return 0
