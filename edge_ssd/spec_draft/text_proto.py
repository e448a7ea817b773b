"""Protobuf's text format, as pipeline.config, deploy.prototxt and label maps are written, without protobuf."""

from __future__ import annotations

import math
import re
from typing import Any, Union

from ..files.json_fields import short

# Fields in the order of the file; one may come several times.
Message = list[tuple[str, Union[str, "Message"]]]

_TOKEN = re.compile(
    r"""\s*(?:\#[^\n]*(?:\n|$)\s*)*("(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|[A-Za-z0-9_.+/-]+|[{}<>:;,\[\]])"""
)
_REST = re.compile(r"\s*(?:\#[^\n]*(?:\n\s*|$))*")

_ESCAPE, _ESCAPES = re.compile(r"\\(.)"), {"n": "\n", "t": "\t", "r": "\r"}

_MOST_DEPTH = 50
_MOST_NUMBER = 1e9


def parse_text_proto(content: str) -> Any:
    """The Message in a text. Raises ValueError naming the line that is no text format."""
    tokens, place = [], 0
    while match := _TOKEN.match(content, place):
        tokens.append((match[1], match.start(1)))
        place = match.end()
    place = _REST.match(content, place).end()  # type: ignore[union-attr]  # it matches the empty text, too
    if place < len(content):
        raise ValueError(f"line {content.count(chr(10), 0, place) + 1}: not protobuf's text format")
    reader = _Reader(content, tokens)
    return reader.message("", 0)


class _Reader:
    def __init__(self, content: str, tokens: list[tuple[str, int]]) -> None:
        self._content, self._tokens, self._next = content, tokens, 0

    def _look(self) -> str:
        return self._tokens[self._next][0] if self._next < len(self._tokens) else ""

    def _take(self) -> str:
        token = self._look()
        self._next += 1
        return token

    def _wrong(self, expected: str) -> ValueError:
        place = self._tokens[min(self._next, len(self._tokens)) - 1][1] if self._tokens else 0
        line = self._content.count("\n", 0, place) + 1
        return ValueError(f"line {line}: not protobuf's text format, expected {expected}")

    def message(self, end: str, depth: int) -> Any:
        """Fields up to `end`, which is taken."""
        if depth > _MOST_DEPTH:
            raise self._wrong(f"at most {_MOST_DEPTH} messages in each other")
        fields: list[Any] = []
        while (token := self._take()) != end:
            if token in (",", ";"):
                continue
            if not re.fullmatch(r"[A-Za-z_]\w*", token):
                raise self._wrong("a field's name" if token else repr(end))
            colon = self._look() == ":"
            if colon:
                self._take()
            if self._look() in ("{", "<"):
                fields.append((token, self.message({"{": "}", "<": ">"}[self._take()], depth + 1)))
            elif not colon:
                raise self._wrong(f"a value of {token}")
            elif self._look() == "[":
                self._take()
                while (value := self._take()) != "]":
                    if value != ",":
                        fields.append((token, self._value(value)))
            else:
                fields.append((token, self._value(self._take())))
        return fields

    def _value(self, token: str) -> str:
        if token in ("", "{", "}", "<", ">", ":", ";", ",", "[", "]"):
            raise self._wrong("a value")
        if token[0] not in "\"'":
            return token
        text = _unquoted(token)
        while self._look()[:1] in ("'", '"') and self._look():  # texts in a row are one
            text += _unquoted(self._take())
        return text


def _unquoted(token: str) -> str:
    """The text between quotes; a backslash before another letter is left out."""
    return _ESCAPE.sub(lambda match: _ESCAPES.get(match[1], match[1]), token[1:-1])


def entries(message: Any, *way: str) -> list[Any]:
    """The messages that the names lead to, from one to the next."""
    found = [message]
    for name in way:
        found = [
            value for inside in found for key, value in inside if key == name and isinstance(value, list)
        ]
    return found


def texts(message: Any, *way: str) -> list[str]:
    """The plain values that the names lead to, as the file writes them."""
    *inner, last = way
    return [
        value
        for inside in entries(message, *inner)
        for key, value in inside
        if key == last and not isinstance(value, list)
    ]


def numbers(message: Any, *way: str) -> list[float]:
    """The numbers that the names lead to. Raises ValueError naming the field for anything else."""
    found = []
    for text in texts(message, *way):
        try:
            value = float(text.rstrip("f")) if len(text) < 100 else math.inf
        except ValueError:
            value = math.nan  # of no size, too
        if not abs(value) < _MOST_NUMBER:
            raise ValueError(f"{way[-1]}: expected a number, got {short(text)!r}")
        found.append(value)
    return found


def number(message: Any, *way: str, default: float) -> float:
    """The last number that the names lead to, as protobuf takes it."""
    return (numbers(message, *way) or [default])[-1]


def text(message: Any, *way: str, default: str = "") -> str:
    """The last plain value that the names lead to."""
    return (texts(message, *way) or [default])[-1]
