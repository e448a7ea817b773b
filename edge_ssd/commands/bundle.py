"""`edge-ssd bundle`: a model and what was made of it, in one file for a robot."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..files.terminal import one_line
from . import new_parser

DESCRIPTION = """\
Pack a model, its spec, its FP16 and INT8 forms, reports and engines into one file that runs as it is.

A machine runs the first that it can: an engine that was built for it, else the model as it is. --run puts another
in front, such as an INT8 form for the CPU.

  edge-ssd bundle ssd300.onnx --out robot.zip
  edge-ssd bundle ssd300.onnx --out robot.zip --run ssd300.int8.engine --run ssd300.int8-cpu.onnx
  edge-ssd run --model robot.zip --camera 0
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds `bundle` to the commands of `edge-ssd`."""
    parser = new_parser(subparsers, "bundle", "all that a robot needs, in one file", DESCRIPTION)
    parser.add_argument(
        "model", metavar="M.onnx", help="what was made of it and lies beside it goes in as well"
    )
    parser.add_argument("--out", required=True, metavar="F.zip")
    parser.add_argument(
        "--engine", action="append", default=[], metavar="E", help="an engine from another folder"
    )
    parser.add_argument(
        "--run",
        action="append",
        default=[],
        metavar="NAME",
        help="ONNX model or engine of these to run first; again for the next",
    )
    parser.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    """Packs and lists what went in; known errors come out as exceptions."""
    from ..model_files.bundle import write_bundle

    packed = write_bundle(arguments.model, arguments.out, arguments.engine, arguments.run)
    for name in packed.names:
        print(one_line(name))
    print(f"{arguments.out}: {Path(arguments.out).stat().st_size / 2**20:.1f} MiB")
    print(one_line(f"runs the first that a machine can: {', '.join(packed.run)}"))
    print(f"run it: edge-ssd run --model {arguments.out} --camera 0")
    return 0
