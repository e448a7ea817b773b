"""`edge-ssd inspect`: what a model or an engine is made of."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds `inspect` to the commands of `edge-ssd`."""
    description = "Layers, precisions and sizes of an ONNX model or an engine. Needs no GPU."
    parser = subparsers.add_parser("inspect", help="layers, precisions, sizes", description=description)
    parser.add_argument("file", metavar="X", help="an .onnx file, or an .engine with its manifest beside it")
    parser.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    """Prints what there is to know; known errors come out as exceptions."""
    from .needs import build_packages

    with build_packages("inspect"):
        from ..build_engine.inspect_model import engine_text, inspect_onnx, layers_text

        path = Path(arguments.file)
        if path.suffix == ".engine":
            print(engine_text(path))
        else:
            print(layers_text(inspect_onnx(path)))
            print(f"{path}: {path.stat().st_size / 2**20:.2f} MiB")
    return 0
