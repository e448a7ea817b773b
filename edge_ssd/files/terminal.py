"""Text from elsewhere, made harmless for a terminal: names of classes, files and models, reasons of servers.

A command's standard output and error are cleaned as a whole (`cleaned_streams`), so that nothing is forgotten. Only
what draws on the terminal itself, a status line or a bar, gets past that, and cleans the text that it shows. Text for
people is cleaned on a terminal and in a file or pipe alike. JSON lines are bytes: they go to the file descriptor as
they are, in ASCII with escapes.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

# C0 without tab and line feed, DEL, C1, the line and paragraph separators, everything that changes the direction of
# writing, and the halves of surrogate pairs that stand for undecodable bytes of a file's name.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)

# Characters of a name in a table or a picture.
_LONGEST_NAME = 60


def printable(text: str) -> str:
    r"""The text with every control character written out: a terminal shows `\x1b` and does nothing.

    Tabs and line feeds stay, as do letters of all languages. A text without control characters comes back as it is.
    """
    return _CONTROL.sub(lambda match: match.group().encode("unicode_escape").decode("ascii"), text)


def one_line(text: str) -> str:
    r"""The printable text with its tabs and line feeds written out, too: no name begins a line of its own."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def joined(text: str) -> str:
    """A message of several lines as one: a blank for each run of white space."""
    return printable(" ".join(text.split()))


def short_name(name: str, most: int = _LONGEST_NAME) -> str:
    """A name as a table or a picture shows it: in one line of at most `most` characters, cut in the middle."""
    name = one_line(name[: 2 * most] + name[-most:] if len(name) > 3 * most else name)
    if len(name) <= most:
        return name
    tail = most // 3
    return f"{name[: most - tail - 3]}...{name[-tail:]}"


class _CleanedStream:
    """A text stream that writes what `printable` makes of a text, and what its encoding lacks as an escape."""

    def __init__(self, stream: TextIO) -> None:
        self.uncleaned = stream

    def write(self, text: str) -> int:
        encoding = self.uncleaned.encoding or "utf-8"
        shown = printable(text).encode(encoding, "backslashreplace").decode(encoding)
        self.uncleaned.write(shown)
        return len(text)

    def writelines(self, lines: Iterator[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.uncleaned, name)


@contextmanager
def cleaned_streams() -> Iterator[None]:
    """Standard output and error clean what is written to them, while the block runs."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_cleaned(stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _cleaned(stream: TextIO) -> TextIO:
    if stream is None or isinstance(stream, _CleanedStream):  # None: closed by whoever started us
        return stream
    return cast(TextIO, _CleanedStream(stream))


def uncleaned(stream: TextIO) -> TextIO:
    """The stream beneath a cleaned one, for what moves the cursor itself."""
    return getattr(stream, "uncleaned", stream)


def progress_bar(items: Any = None, desc: str = "", **options: Any) -> Any:
    """tqdm's bar on standard error over `items`, where that is a terminal: in a log it would be a line of noise.

    Raises ImportError without tqdm.

    desc: what is done.   options: of tqdm.
    """
    from tqdm import tqdm

    options = {"disable": None, "dynamic_ncols": True, "file": uncleaned(sys.stderr), **options}
    return tqdm(items, desc=one_line(desc) or None, **options)
