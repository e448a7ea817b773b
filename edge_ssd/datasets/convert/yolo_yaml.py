"""The few keys of YOLO's data.yaml that tell classes and splits.

Of YAML, what such files are written in: one key a line, lists and maps in brackets or a line each, quotes, comments.
That is a screen of code; PyYAML would be one more package on every robot, and reads a thousand things that have no
place here. What is not read is an error that names the line, never a guess.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from ... import limits
from ...files import read_file

_KEY = re.compile(r"""(["']?)([A-Za-z_][\w-]*)\1\s*:(?:\s+(.*))?$""")
_NUMBER_KEY = re.compile(r"""(["']?)([0-9]{1,6})\1\s*:\s+(.*)$""")
_SPLITS = ("train", "val", "test")
_READ = ("names", "path", "kpt_shape", *_SPLITS)
# What begins a value of a kind that is not read: anchors, tags, blocks of text, brackets that are left over.
_OTHER_KINDS = tuple("&*!|>%@`[{]}")
_ESCAPES = {"\\": "\\", '"': '"', "/": "/", "t": "\t"}


class DataYaml(NamedTuple):
    """What a data.yaml says.

    names: dict class number -> name.   path: where the splits lie, "" for where the file is.
    splits: dict "train", "val" or "test" -> folders or lists of images.
    has_keypoints: rows have points behind the box.
    """

    names: dict[int, str]
    path: str
    splits: dict[str, tuple[str, ...]]
    has_keypoints: bool


def read_data_yaml(path: Path) -> DataYaml:
    """The DataYaml in a file. Raises ValueError naming the file and what of it cannot be read."""
    content = read_file(path, limits.MOST_JSON_BYTES)
    try:
        values = _values(content.decode("utf-8-sig"))
        names = values.get("names", [])
        pairs = names.items() if isinstance(names, dict) else enumerate(_as_list(names))
        splits = {key: tuple(_as_list(values[key])) for key in _SPLITS if values.get(key)}
        place = values.get("path", "")
        if not isinstance(place, str):
            raise ValueError("path: expected one path")
        return DataYaml({int(key): name for key, name in pairs}, place, splits, "kpt_shape" in values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _as_list(value: str | list[str] | dict[str, str]) -> list[str]:
    if isinstance(value, dict):
        raise ValueError("expected a list, got a map")
    return [value] if isinstance(value, str) else value


def _values(text: str) -> dict[str, str | list[str] | dict[str, str]]:
    """The values of the keys that are read: a text, a list of texts, or a map from text to text."""
    lines: dict[str, list[str]] = {}
    key = ""
    for number, line in enumerate(text.splitlines(), 1):
        line = _without_comment(line)
        if not line.strip() or line.strip() in ("---", "..."):
            continue
        found = _KEY.match(line)
        if found:
            key = found[2]
            if key in lines:
                raise ValueError(f"line {number}: {key}: is there twice")
            lines[key] = [found[3] or ""]
        elif key and line[0] in " \t-]}":
            lines[key].append(line)
        else:
            raise ValueError(f"line {number}: expected KEY: VALUE, got {line.strip()!r:.60}")
    values = {}
    for key in _READ:
        if key in lines:
            try:
                values[key] = _value(lines[key])
            except ValueError as error:
                raise ValueError(f"{key}: {error}") from None
    return values


def _value(lines: list[str]) -> str | list[str] | dict[str, str]:
    """The value that the lines behind a key hold."""
    first, *more = [line.strip() for line in lines]
    if first.startswith(("[", "{")):
        return _in_brackets(" ".join([first, *more]))
    if first and more:
        raise ValueError(f"expected one line, got a second one: {more[0]!r:.60}")
    if not more:
        return "" if first in ("~", "null") else _scalar(first)
    if all(line == "-" or line.startswith("- ") for line in more):
        return [_scalar(line[1:].strip()) for line in more]
    return _map(more)


def _in_brackets(text: str) -> list[str] | dict[str, str]:
    closing = "]" if text[0] == "[" else "}"
    if not text.endswith(closing):
        raise ValueError(f"expected {closing} at the end, got {text[-20:]!r}")
    parts = [part.strip() for part in _split_at_commas(text[1:-1])]
    if parts and not parts[-1]:  # a comma at the end, or nothing at all
        parts.pop()
    return [_scalar(part) for part in parts] if closing == "]" else _map(parts)


def _map(parts: list[str]) -> dict[str, str]:
    pairs = {}
    for part in parts:
        found = _NUMBER_KEY.match(part)
        if not found or found[2] in pairs:
            raise ValueError(f"expected NUMBER: NAME, each number once, got {part!r:.60}")
        pairs[str(int(found[2]))] = _scalar(found[3].strip())
    return pairs


def _scalar(text: str) -> str:
    """A value without its quotes."""
    if text[:1] == "'":
        if not re.fullmatch(r"'(?:[^']|'')*'", text):
            raise ValueError(f"expected a text in quotes, got {text!r:.60}")
        return text[1:-1].replace("''", "'")
    if text[:1] == '"':
        if not re.fullmatch(r'"(?:[^"\\]|\\[\\"/t])*"', text):
            raise ValueError(f"expected a text in quotes, got {text!r:.60}")
        return re.sub(r"\\(.)", lambda found: _ESCAPES[found[1]], text[1:-1])
    if text.startswith(_OTHER_KINDS):
        raise ValueError(f"expected a plain value, got {text!r:.60}")
    return text


def _split_at_commas(text: str) -> list[str]:
    return _outside_quotes(text, lambda before, character: character == ",")


def _without_comment(line: str) -> str:
    return _outside_quotes(line, lambda before, character: character == "#" and before in " \t")[0].rstrip()


def _outside_quotes(text: str, is_end) -> list[str]:
    """The text, cut where `is_end` holds of (the character before, the character), quotes left whole."""
    parts, start, quote, before = [], 0, "", " "
    for i, character in enumerate(text):
        if quote:
            if character == quote and not (quote == '"' and before == "\\"):
                quote = ""
        elif character in "\"'" and before in " \t,[{:-":
            quote = character
        elif is_end(before, character):
            parts.append(text[start:i])
            start = i + 1
        before = character
    return [*parts, text[start:]]
