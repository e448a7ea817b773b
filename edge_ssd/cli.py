"""`edge-ssd <command>`: parse, call, and turn a known error into one line and exit code 1."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from .commands import (
    bench,
    build,
    bundle,
    data,
    doctor,
    evaluate,
    export,
    inspect,
    priors,
    pull,
    run,
    spec,
    train,
    verify,
)
from .version import __version__

COMMANDS = (
    run,
    spec,
    evaluate,
    train,
    export,
    build,
    verify,
    inspect,
    bundle,
    priors,
    pull,
    data,
    bench,
    doctor,
)


class _Parser(argparse.ArgumentParser):
    """No abbreviations: a script that uses one breaks when another option is added. Subcommands inherit it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "allow_abbrev": False})


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code: 0 done, 1 a known error, 2 wrong use."""
    parser, _ = build_parser()
    return _guarded(parser.parse_args(argv))


def build_parser() -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    """The parser of `edge-ssd`, and its commands: a dictionary of parsers by name."""
    parser = _Parser(prog="edge-ssd", description="SSD object detection from camera to detections.")
    parser.add_argument("--version", action="version", version=f"edge_ssd {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(subparsers)
    return parser, subparsers.choices


def run_alone(command: Any, prog: str, argv: Sequence[str] | None = None) -> int:
    """One command as a program of its own, such as `python -m edge_ssd.run`."""
    parser = _Parser(
        prog=prog, description=command.DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_arguments(parser)
    parser.set_defaults(main=command.main)
    return _guarded(parser.parse_args(argv))


def _guarded(arguments):
    try:
        code = arguments.main(arguments)
        if sys.stdout is not None:  # closed by whoever started us
            sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output has had enough. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except (ValueError, OSError, ImportError, MemoryError) as error:
        # Libraries put several lines into one message; the rest would hide the first.
        text = " ".join(str(error).split()) or type(error).__name__
        print(f"error: {text}", file=sys.stderr)
        return 1
