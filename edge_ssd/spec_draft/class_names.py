"""Class names as users have them: a list in the command, or one of the files of the frameworks."""

from __future__ import annotations

import re
from pathlib import Path

from .. import limits
from ..files import StrPath, read_text
from .text_proto import entries, parse_text_proto, texts

# Files of names: one a line (jetson-inference, TensorFlow Lite, darknet), or messages `item` (TensorFlow, Caffe).
_LINES, _MESSAGES = (".txt", ".names", ".labels", ".list"), (".pbtxt", ".prototxt")

_NUMBERED = re.compile(r"\s*(\d{1,6})\s*[:=,\t]\s*(.*)")


def class_names(text: str) -> tuple[str, ...]:
    """The names that --classes gives: in the text itself, separated by commas, or in the file that it names.

    Raises FileNotFoundError, or ValueError naming the file, for one without names.
    """
    if Path(text).suffix.lower() in (*_LINES, *_MESSAGES) and "," not in text:
        return read_class_names(text)
    return tuple(name.strip() for name in text.split(",") if name.strip())


def read_class_names(path: StrPath) -> tuple[str, ...]:
    """The names in a file, in the order of the columns. Numbers that the file leaves out are named after themselves."""
    path = Path(path)
    try:
        content = read_text(path, limits.MOST_DESCRIPTION_BYTES)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file of class names") from None
    try:
        names = _from_messages(content) if path.suffix.lower() in _MESSAGES else _from_lines(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if not names:
        raise ValueError(f"{path}: expected class names, one a line, got none")
    return names


def _from_lines(content: str) -> tuple[str, ...]:
    lines = [line.strip() for line in content.splitlines() if line.strip()]
    numbered = [_NUMBERED.fullmatch(line) for line in lines]
    if lines and all(numbered):
        return _in_order({int(m[1]): m[2].strip().strip("\"'") for m in numbered if m})
    return tuple(lines)


def _from_messages(content: str) -> tuple[str, ...]:
    named = {}
    for item in entries(parse_text_proto(content), "item"):
        number = next(iter(texts(item, "id") or texts(item, "label")), None)
        name = next(iter(texts(item, "display_name") or texts(item, "name")), None)
        if number is None or name is None or not re.fullmatch(r"\d{1,6}", number):
            raise ValueError("item: expected a name and an id, got " + repr(dict(item)))
        named[int(number)] = name
    return _in_order(named)


def _in_order(named: dict[int, str]) -> tuple[str, ...]:
    """Names by number, from the first one on: 0, or 1 where 0 is background and not written."""
    if not named:
        return ()
    if max(named) >= limits.MOST_CLASSES:
        raise ValueError(f"expected numbers below {limits.MOST_CLASSES}, got {max(named)}")
    first = 0 if 0 in named else 1
    return tuple(named.get(number) or f"class {number}" for number in range(first, max(named) + 1))
