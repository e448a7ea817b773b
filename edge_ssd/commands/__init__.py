"""The subcommands of `edge-ssd`, one module each: `add_parser(subparsers)` and `main(arguments) -> exit code`.

They import heavy packages inside `main`, so that `-h` works on a bare install.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..files.terminal import one_line

if TYPE_CHECKING:
    from ..datasets import Dataset


def new_parser(subparsers: Any, name: str, text: str, description: str) -> argparse.ArgumentParser:
    """The parser of a command. text: its line in the list of all.   description: shown as it is, examples and all."""
    return subparsers.add_parser(
        name, help=text, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def say_left_out(dataset: Dataset) -> None:
    """Says on standard error what lies in a data set's folder and is not taken."""
    for text in dataset.left_out:
        print(f"left out: {one_line(text)}", file=sys.stderr)


@contextmanager
def plotting() -> Iterator[None]:
    """Around the import of a plot module: says what to install where matplotlib is missing."""
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f"--plot needs the 'matplotlib' package ({error}): pip install edge-ssd[eval]"
        ) from None
