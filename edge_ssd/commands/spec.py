"""`edge-ssd spec`: draft the spec of an ONNX model that was trained elsewhere."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from ..files.terminal import joined
from ..spec import BOX_CODINGS, COLORS, LOC_ORDERS, RESIZE_MODES, SCORE_ACTIVATIONS
from . import new_parser

DESCRIPTION = """\
Draft NAME.json for NAME.onnx, from what the model tells and the options below; then look at it.

  edge-ssd spec face.onnx --classes face --mean 127 --std 128 \\
      --levels 8:10,16,24 16:32,48 32:64,96 64:128,192,256x240
  edge-ssd spec ssd300.onnx --classes labels.txt --levels voc
  edge-ssd spec mobilenet.onnx --from pipeline.config --classes label_map.pbtxt

Layouts that --levels knows by name, where the number of priors fits:

  coco, voc    SSD300 (8732 priors) and SSD512 (24564), for COCO (torchvision, too) and for VOC
  torchvision  SSD300 (8732) and SSDLite320 (3234)
  mmdet        MMDetection's SSD300 (8732), SSD512 (24564) and SSDLite320 (3234)
  tf           TensorFlow's SSD-MobileNet at 300 (1917) and 320 (2034)
  caffe        Caffe's MobileNet-SSD (1917)
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds `spec` to the commands of `edge-ssd`."""
    parser = new_parser(subparsers, "spec", "draft the spec of an ONNX model from elsewhere", DESCRIPTION)
    parser.add_argument("model", metavar="M.onnx")
    parser.add_argument(
        "--out",
        metavar="F.json",
        help="default: M.json; another name also cuts off NMS inside, into F.onnx (needs onnx)",
    )
    parser.add_argument("--force", action="store_true", help="overwrite an existing spec")
    parser.add_argument(
        "--classes",
        default="",
        metavar="A,B",
        help="classes, in the order of the columns, or a file of them: labels.txt, coco.names, label_map.pbtxt",
    )
    parser.add_argument(
        "--from",
        dest="source",
        default="",
        metavar="FILE",
        help="what a framework's file says: pipeline.config (TensorFlow), deploy.prototxt (Caffe), config.py "
        "(MMDetection; read, not run) or another spec; options go before it",
    )
    parser.add_argument(
        "--size", type=_size, metavar="HxW", help="input, where the model leaves height and width open"
    )
    parser.add_argument("--color", choices=COLORS, help="default: rgb")
    parser.add_argument(
        "--mean", type=float, nargs="+", metavar="V", help="one number or three, 0..255 scale; default: 127.5"
    )
    parser.add_argument("--std", type=float, nargs="+", metavar="V", help="default: 127.5")
    parser.add_argument("--resize", choices=RESIZE_MODES, help="default: stretch")
    parser.add_argument(
        "--levels",
        nargs="+",
        default=(),
        metavar="STEP:SIZES",
        help="boxes of each feature map, input pixels: 16:32,48 or 16:32x64; or one name from above",
    )
    parser.add_argument(
        "--cell-spacing",
        choices=("even", "step"),
        default="even",
        help="where a step does not divide the input: cells spread evenly over it, or a step apart (Caffe)",
    )
    parser.add_argument(
        "--priors-file", default="", metavar="F.npy", help="(P, 4) cx cy w h in 0..1, beside the model"
    )
    parser.add_argument(
        "--loc", default="", metavar="NAME", help="output with the offsets, or A,B,... by level"
    )
    parser.add_argument("--conf", default="", metavar="NAME", help="output with the class scores")
    parser.add_argument(
        "--box-coding",
        choices=[coding for coding in BOX_CODINGS if coding != "linear"],
        default="",
        help="what the offsets are: of the priors, or finished boxes (corners)",
    )
    parser.add_argument("--activation", choices=SCORE_ACTIVATIONS, default="")
    parser.add_argument("--background", type=int, metavar="N", help="column of background; -1: none")
    parser.add_argument("--loc-order", choices=LOC_ORDERS, help="default: cxcywh; cycxhw is TensorFlow's")
    parser.add_argument(
        "--variance", type=float, nargs=2, metavar="V", help="of center and size; default: 0.1 0.2"
    )
    parser.add_argument("--iou-threshold", type=float, metavar="T", help="default: 0.45")
    parser.add_argument("--score-threshold", type=float, metavar="T", help="default: 0.01")
    parser.set_defaults(main=main)


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if not match:
        raise argparse.ArgumentTypeError(f"expected HxW such as 300x300, got {text!r}")
    return int(match[1]), int(match[2])


def main(arguments: argparse.Namespace) -> int:
    """Writes the draft; what it assumes goes to standard error."""
    from ..spec_draft import DraftOptions, draft_spec
    from ..spec_draft.class_names import class_names
    from ..spec_draft.from_file import options_from

    target = Path(arguments.out) if arguments.out else Path(arguments.model).with_suffix(".json")
    if target.exists() and not arguments.force:
        raise ValueError(f"{target}: there is a spec already; --force overwrites it, --out writes another")
    arguments.classes = class_names(arguments.classes)
    given = {name: getattr(arguments, name, None) for name in DraftOptions.__dataclass_fields__}
    options = DraftOptions(**{name: value for name, value in given.items() if value is not None})
    if arguments.source:
        options = options.over(options_from(arguments.source))
    model, done = _model_to_draft(arguments, target)
    try:
        spec, guesses = draft_spec(model, options)
    except BaseException:
        if done:
            model.unlink()
        raise
    spec.save(target)
    print(f"wrote {target}", file=sys.stderr)
    guesses = [*done, *guesses]
    for guess in guesses:
        print(f"  check {joined(guess)}", file=sys.stderr)
    return 0


def _model_to_draft(arguments: argparse.Namespace, target: Path) -> tuple[Path, list[str]]:
    """The model itself, or with --out what is left of one with NMS inside; what was done to it."""
    from ..spec_draft.network import has_nms

    model, rewritten = Path(arguments.model), target.with_suffix(".onnx")
    if not arguments.out or not model.is_file() or rewritten == model or not has_nms(model):
        return model, []
    if rewritten.exists() and not arguments.force:
        raise ValueError(
            f"{rewritten}: there is a model already; --force overwrites it, --out writes another"
        )
    from ..spec_draft.rewrite import without_nms

    return rewritten, without_nms(model, rewritten)
