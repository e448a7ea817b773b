"""`edge-ssd spec`: draft the spec of an ONNX model that was trained elsewhere."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..files.terminal import joined
from ..spec import COLORS, LOC_ORDERS, RESIZE_MODES, SCORE_ACTIVATIONS
from . import new_parser
from .options import names_list

DESCRIPTION = """\
Draft NAME.json for NAME.onnx, from what the model tells and the options below; then look at it.

  edge-ssd spec face.onnx --classes face --mean 127 --std 128 \\
      --levels 8:10,16,24 16:32,48 32:64,96 64:128,192,256x240
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds `spec` to the commands of `edge-ssd`."""
    parser = new_parser(subparsers, "spec", "draft the spec of an ONNX model from elsewhere", DESCRIPTION)
    parser.add_argument("model", metavar="M.onnx")
    parser.add_argument("--out", metavar="F.json", help="default: M.json")
    parser.add_argument("--force", action="store_true", help="overwrite an existing spec")
    parser.add_argument(
        "--classes",
        type=names_list,
        default=(),
        metavar="A,B",
        help="foreground classes, in the order of the columns",
    )
    parser.add_argument("--color", choices=COLORS, default="rgb")
    parser.add_argument(
        "--mean",
        type=float,
        nargs="+",
        default=(127.5,),
        metavar="V",
        help="one number or three, 0..255 scale",
    )
    parser.add_argument("--std", type=float, nargs="+", default=(127.5,), metavar="V")
    parser.add_argument("--resize", choices=RESIZE_MODES, default="stretch")
    parser.add_argument(
        "--levels",
        nargs="+",
        default=(),
        metavar="STEP:SIZES",
        help="boxes of each feature map, input pixels: 16:32,48 or 16:32x64",
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
    parser.add_argument("--loc", default="", metavar="NAME", help="output with the offsets")
    parser.add_argument("--conf", default="", metavar="NAME", help="output with the class scores")
    parser.add_argument("--activation", choices=SCORE_ACTIVATIONS, default="")
    parser.add_argument("--background", type=int, metavar="N", help="column of background; -1: none")
    parser.add_argument("--loc-order", choices=LOC_ORDERS, default="cxcywh", help="cycxhw is TensorFlow's")
    parser.add_argument(
        "--variance", type=float, nargs=2, default=(0.1, 0.2), metavar="V", help="of centre and size"
    )
    parser.add_argument("--iou-threshold", type=float, default=0.45)
    parser.add_argument("--score-threshold", type=float, default=0.01)
    parser.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    """Writes the draft; the guesses go to standard error."""
    from ..spec_draft import DraftOptions, draft_spec

    target = Path(arguments.out) if arguments.out else Path(arguments.model).with_suffix(".json")
    if target.exists() and not arguments.force:
        raise ValueError(f"{target}: there is a spec already; --force overwrites it, --out writes another")
    values = {name: getattr(arguments, name) for name in DraftOptions.__dataclass_fields__}
    spec, guesses = draft_spec(arguments.model, DraftOptions(**values))
    spec.save(target)
    print(f"wrote {target}", file=sys.stderr)
    given = ("color", "mean", "std", "resize", "variance", "loc_order")
    taken = ", ".join(f"{name} {getattr(arguments, name)}" for name in given)
    for guess in [*guesses, f"what the model cannot tell: {taken}"]:
        print(f"  check {joined(guess)}", file=sys.stderr)
    return 0
