"""Options that several commands share, and the types of their values for argparse."""

from __future__ import annotations

import argparse
import csv
import re

from ..options import CPU_ENGINES, PRECISIONS

_WHOLE = r"[0-9]{1,9}"  # of no other script, and no more than any library takes

ADDRESS = "VOC or COCO folder, or demo://?seed=S&frames=N"


def add_cpu_arguments(parser: argparse.ArgumentParser) -> None:
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


def add_threads_argument(parser: argparse.ArgumentParser) -> None:
    """--threads."""
    parser.add_argument(
        "--threads",
        type=count,
        default=0,
        metavar="N",
        help="CPU threads of the network; default: one per core",
    )


def add_precision_argument(parser: argparse.ArgumentParser) -> None:
    """--precision of an ONNX model on the CPU."""
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="auto",
        help="what an ONNX model's float layers are computed in on the CPU; auto takes what EDGE_SSD_PRECISION says, "
        "else bf16 where the CPU and OpenVINO have it",
    )


def add_trust_arguments(parser: argparse.ArgumentParser) -> None:
    """--trust-engine and --trust-checkpoint: see SECURITY.md."""
    parser.add_argument(
        "--trust-engine",
        action="store_true",
        help="run an engine that was built with --version-compatible: it is a program that TensorRT runs on the host",
    )
    add_trust_checkpoint_argument(parser)


def add_trust_checkpoint_argument(parser: argparse.ArgumentParser) -> None:
    """--trust-checkpoint alone."""
    parser.add_argument(
        "--trust-checkpoint",
        action="store_true",
        help="read a checkpoint from elsewhere with a torch before 2.10, where a file can run code or corrupt memory",
    )


def add_data_arguments(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """--data and --split."""
    parser.add_argument("--data", required=required, default="", metavar="D", help=ADDRESS)
    add_split_argument(parser)


def add_split_argument(parser: argparse.ArgumentParser) -> None:
    """--split alone, where the address is no option."""
    parser.add_argument(
        "--split", default="", metavar="S", help="VOC: list in ImageSets/Main; COCO: set of the file"
    )


def count(text: str) -> int:
    """A whole number of at least 0, for argparse."""
    if not re.fullmatch(_WHOLE, text):
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, got {text!r}")
    return int(text)


def positive(text: str) -> int:
    """A whole number above 0, for argparse."""
    if not re.fullmatch(_WHOLE, text) or not int(text):
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
    return int(text)


def fraction(text: str) -> float:
    """A number from 0 to 1, for argparse."""
    value = _number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got {text!r}")
    return value


def seconds(text: str) -> float:
    """Seconds of at least 0, for argparse."""
    value = _number(text)
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"expected seconds of at least 0, got {text!r}")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")  # which is in no range


def names_list(text: str) -> tuple[str, ...]:
    """Names separated by commas, without the spaces around them; one that has a comma stands in double quotes."""
    try:
        (names,) = csv.reader([text], skipinitialspace=True, strict=True) if text.strip() else ([],)
    except (csv.Error, ValueError) as error:  # ValueError: lines
        raise argparse.ArgumentTypeError(
            f"expected names with commas between them, those that have a comma in double quotes; got {text!r} ({error})"
        ) from None
    return tuple(name.strip() for name in names if name.strip())
