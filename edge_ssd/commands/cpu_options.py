"""Options of the commands that run a model."""

from __future__ import annotations

import argparse

from ..detector import CPU_ENGINES
from ..engines.choice import PRECISIONS


def add_cpu_arguments(parser):
    """--threads, --engine, --precision and --in-flight, as `Detector.load` takes them; in_flight is None when not
    given."""
    add_threads_argument(parser)
    parser.add_argument(
        "--engine",
        choices=CPU_ENGINES,
        default="auto",
        help="what runs an ONNX model; auto takes the fastest that is installed",
    )
    add_precision_argument(parser)
    parser.add_argument(
        "--in-flight",
        type=count,
        metavar="N",
        help="frames that an ONNX model works on at once, each on its share of the threads: more frames a second, "
        "each of them later; 0: one per thread, at most 8, the default for files on this machine; all else has 1",
    )


def add_threads_argument(parser):
    """--threads."""
    parser.add_argument(
        "--threads",
        type=count,
        default=0,
        metavar="N",
        help="CPU threads of the network; default: one per core",
    )


def add_precision_argument(parser):
    """--precision of an ONNX model on the CPU."""
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="auto",
        help="what an ONNX model's float layers are computed in on the CPU; auto takes what EDGE_SSD_PRECISION says, "
        "else bf16 where the CPU and OpenVINO have it",
    )


def add_trust_arguments(parser):
    """--trust-engine and --trust-checkpoint: see SECURITY.md."""
    parser.add_argument(
        "--trust-engine",
        action="store_true",
        help="run an engine that was built version-compatible: it holds code of its own",
    )
    add_trust_checkpoint_argument(parser)


def add_trust_checkpoint_argument(parser):
    """--trust-checkpoint alone."""
    parser.add_argument(
        "--trust-checkpoint",
        action="store_true",
        help="read a checkpoint from elsewhere with a torch before 2.10, in which a file can do what it likes",
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
