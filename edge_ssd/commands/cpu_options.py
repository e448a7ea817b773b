"""Options of the commands that run a model on the CPU."""

from __future__ import annotations

import argparse

from ..detector import CPU_ENGINES


def add_cpu_arguments(parser):
    """--threads, --engine and --in-flight, as `Detector.load` takes them; in_flight is None when not given."""
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
    parser.add_argument(
        "--in-flight",
        type=count,
        metavar="N",
        help="frames that an ONNX model works on at once, each on its share of the threads: more frames a second, "
        "each of them later; 0: one per thread, at most 8, the default for files on this machine; all else has 1",
    )


def count(text):
    """A whole number of at least 0, for argparse."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, got {text!r}")
    return int(text)


def positive(text):
    """A whole number above 0, for argparse."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
    return int(text)
