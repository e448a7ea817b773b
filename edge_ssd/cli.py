"""`edge-ssd <command>`: parse, call, and turn a known error into one line and exit code 1."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import limits
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
from .files.terminal import cleaned_streams, joined
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


# Of an error's text: what a class name of a megabyte would put into it is cut.
_LONGEST_ERROR = 8000

DEBUG_VARIABLE = "EDGE_SSD_DEBUG"


class _Parser(argparse.ArgumentParser):
    """No abbreviations: a script that uses one breaks when another option is added. Subcommands inherit it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "allow_abbrev": False})


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code: 0 done, 1 a known error, 2 wrong use."""
    with cleaned_streams():
        parser, _ = build_parser()
        return _guarded(parser.parse_args(argv))


def build_parser() -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    """The parser of `edge-ssd`, and its commands: a dictionary of parsers by name."""
    parser = _Parser(prog="edge-ssd", description="SSD object detection from camera to detections.")
    parser.add_argument("--version", action="version", version=f"edge_ssd {__version__}")
    _add_debug(parser)
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(subparsers)
    return parser, subparsers.choices


def run_alone(command: Any, prog: str, argv: Sequence[str] | None = None) -> int:
    """One command as a program of its own, such as `python -m edge_ssd.run`."""
    with cleaned_streams():
        parser = _Parser(
            prog=prog, description=command.DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        _add_debug(parser)
        command.add_arguments(parser)
        parser.set_defaults(main=command.main)
        return _guarded(parser.parse_args(argv))


def _add_debug(parser):
    parser.add_argument(
        "--debug",
        action="store_true",
        default=os.environ.get(DEBUG_VARIABLE, "0") not in ("", "0"),
        help=f"show where an error comes from; also {DEBUG_VARIABLE}=1",
    )


def _guarded(arguments):
    _set_up_libraries()
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
        return _failed(error, arguments.debug, _text_of(error))
    except Exception as error:  # of no kind that is expected: nobody has checked what led to it
        text = f"{type(error).__name__}: {_text_of(error)} ({_place_of(error)}); this is a bug"
        advice = "please report it to the maintainers, with what it printed"
        if not arguments.debug:
            advice = "run it again with --debug before the command and report it to the maintainers"
        return _failed(error, arguments.debug, f"{text}; {advice}")


def _failed(error, debug, text):
    """Prints an error in one line, after its traceback where that is wanted; the exit code."""
    if debug:
        traceback.print_exception(type(error), error, error.__traceback__)
    print(f"error: {text}", file=sys.stderr)
    return 1


def _text_of(error):
    # Libraries put several lines into one message; the rest would hide the first.
    text = joined(str(error)) or type(error).__name__
    if len(text) > _LONGEST_ERROR:
        text = f"{text[: _LONGEST_ERROR // 2]} ... {text[-_LONGEST_ERROR // 2 :]}"
    return text


def _place_of(error):
    """The innermost line of this package that an error came through, such as edge_ssd/datasets/coco.py:12."""
    here = Path(__file__).resolve().parent
    folders = here, here.parent / "build_engine", here.parent / "kernels"  # the latter in a checkout
    frames = [
        (Path(frame.filename).resolve(), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)
    ]
    path, line = [(p, line) for p, line in frames if any(p.is_relative_to(folder) for folder in folders)][-1]
    return f"{path.relative_to(here.parent).as_posix()}:{line}"


def _set_up_libraries():
    """OpenCV and FFmpeg print their own view of every failure; ours is one line. And OpenCV has our limit of pixels
    for what gets past ours. The user's settings win."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    with suppress(ValueError):  # told by the first that reads an image
        os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(limits.most_image_pixels()))
