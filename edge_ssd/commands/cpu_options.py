"""Options of the commands that run a model on the CPU."""

from __future__ import annotations

import argparse

from ..detector import CPU_ENGINES


def add_cpu_arguments(parser):
    """--threads and --engine, as `Detector.load` takes them."""
    parser.add_argument(
        "--threads",
        type=count,
        default=0,
        metavar="N",
        help="CPU threads of the network; default: one per core",
    )
    parser.add_argument(
        "--engine",
        choices=CPU_ENGINES,
        default="auto",
        help="what runs an ONNX model; auto takes the fastest that is installed",
    )


def count(text):
    """A whole number of at least 0, for argparse."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, got {text!r}")
    return int(text)
