"""Text from elsewhere, made harmless for a terminal: names of classes, files and models, reasons of servers."""

from __future__ import annotations

import re

# C0 without tab and line feed, DEL, C1, the line and paragraph separators, everything that changes the direction of
# writing, and the halves of surrogate pairs that stand for undecodable bytes of a file's name.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    r"""The text with every control character written out: a terminal shows `\x1b` and does nothing.

    Tabs and line feeds stay, as do letters of all languages. A text without control characters comes back as it is.
    """
    return _CONTROL.sub(lambda match: match.group().encode("unicode_escape").decode("ascii"), text)
