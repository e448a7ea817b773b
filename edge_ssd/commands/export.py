"""`edge-ssd export`: a training checkpoint as an ONNX model."""

from __future__ import annotations

import argparse

from .needs import train_packages
from .options import add_trust_checkpoint_argument

DESCRIPTION = """\
Write the network of a checkpoint as NAME.onnx with its spec NAME.json. The graph gives raw offsets and class
scores; it is compared with torch before it is written.
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds `export` to the commands of `edge-ssd`."""
    parser = subparsers.add_parser("export", help="a checkpoint as an ONNX model", description=DESCRIPTION)
    parser.add_argument("checkpoint", metavar="RUN/best.pt", help="checkpoint of edge-ssd train")
    parser.add_argument(
        "--out", required=True, metavar="M.onnx", help="where to write; the spec goes beside it"
    )
    add_trust_checkpoint_argument(parser)
    parser.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    """Exports; returns the exit code. Known errors come out as exceptions."""
    with train_packages("export"):
        from ..networks.checkpoint import load_model
        from ..training.export_onnx import export_onnx

    model, spec = load_model(arguments.checkpoint, arguments.trust_checkpoint)
    export_onnx(model, spec, arguments.out)
    print(
        f"{arguments.out}: {model.arch}, {len(spec.class_names)} classes, {spec.input.width} x {spec.input.height}"
    )
    return 0
