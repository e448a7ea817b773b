"""Values of JSON files, checked as they are read: every error names the key, with the path that leads to it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from .. import limits
from . import StrPath, read_text


class BadKey(ValueError):
    """A value that does not fit its key; `inside` puts the path of the key in front of it."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}")
        self.key, self.problem = key, problem


def read_json(
    path: StrPath,
    most_bytes: int = limits.MOST_JSON_BYTES,
    make_object: Callable[[list[tuple[str, Any]]], Any] | None = None,
) -> Any:
    """What a JSON file holds.   make_object: of the (key, value) pairs of each object; default: a dict.

    A byte order mark is skipped. Raises FileNotFoundError, and ValueError naming the file for anything but a regular
    file of at most `most_bytes` with JSON in UTF-8, and what `make_object` raises.
    """
    text = read_text(path, most_bytes)
    try:
        return parse_json(text, make_object)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def parse_json(text: str, make_object: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """What a JSON text holds, see `read_json`. Raises ValueError, also where it is nested too deeply for Python."""
    try:
        return json.loads(text, object_pairs_hook=make_object, parse_int=_short_int)
    except json.JSONDecodeError as error:
        raise ValueError(f"not valid JSON: {error}") from None
    except RecursionError:
        raise ValueError("not valid JSON: nested too deeply") from None


def _short_int(text: str) -> int:
    if len(text) > limits.MOST_DIGITS:  # Python takes quadratic time for a long one
        raise ValueError(f"not valid JSON: a number of {len(text)} digits")
    return int(text)


@contextmanager
def inside(key: str) -> Iterator[None]:
    """Around the reading of what stands under `key`: its errors name the whole path."""
    try:
        yield
    except BadKey as error:
        raise BadKey(f"{key}.{error.key}", error.problem) from None


def shown(value: object) -> str:
    """A value as an error quotes it: as JSON has it, and not too long."""
    is_of_json = isinstance(value, (dict, list, str, bool, type(None)))
    return _quoted(value, json.dumps if is_of_json else repr)


def _as_python(value: object) -> str:
    return _quoted(value, repr)


def _quoted(value: object, write: Callable[[object], str]) -> str:
    try:
        return short(write(value))
    except RecursionError:
        return f"a {type(value).__name__} nested too deeply"


def short(text: str) -> str:
    """A text, cut where it is too long for an error."""
    return text if len(text) <= 60 else text[:57] + "..."


def check_keys(values: Collection[str], known: Collection[str], required: Collection[str]) -> None:
    """Raises BadKey for the first of an object's keys that is not known, or the first required one that it lacks."""
    for key in values:
        if key not in known:
            raise BadKey(short(key), f"unknown key; known: {', '.join(known)}")
    for key in required:
        if key not in values:
            raise BadKey(key, "missing")


def check_type(value: object, key: str, expected: type) -> None:
    """Raises BadKey unless a value is of exactly this type: True is no int."""
    if type(value) is not expected:
        raise BadKey(key, f"expected {expected.__name__}, got {_as_python(value)}")


def finite_number(value: object, key: str) -> float:
    """A number that is finite; true and false are none."""
    try:
        if not isinstance(value, bool) and isinstance(value, (int, float)) and math.isfinite(value):
            return float(value)
    except OverflowError:  # a whole number beyond any float
        pass
    raise BadKey(key, f"expected a finite number, got {shown(value)}")


def finite_numbers(value: object, key: str, length: int) -> tuple[float, ...]:
    """A list of `length` finite numbers."""
    return tuple(finite_number(v, f"{key}[{i}]") for i, v in enumerate(list_of(value, key, length)))


def positive_numbers(value: object, key: str, length: int) -> tuple[float, ...]:
    """A list of `length` numbers above 0."""
    numbers = finite_numbers(value, key, length)
    for i, number in enumerate(numbers):
        if number <= 0:
            raise BadKey(f"{key}[{i}]", f"expected a number above 0, got {number:g}")
    return numbers


def whole_number(value: object, key: str, least: int = 1) -> int:
    """A whole number of at least `least`; 300.0 is one."""
    number = value if isinstance(value, int) and not isinstance(value, bool) else finite_number(value, key)
    if number != int(number) or number < least:
        raise BadKey(key, f"expected a whole number of at least {least}, got {shown(value)}")
    return int(number)


def whole_numbers(value: object, key: str, count: int) -> tuple[int, ...]:
    """A list of `count` whole numbers of at least 0, written as such: 300.0 is none."""
    if not isinstance(value, list) or len(value) != count or any(type(v) is not int or v < 0 for v in value):
        raise BadKey(key, f"expected {count} whole numbers, got {_as_python(value)}")
    return tuple(value)


def fraction(value: object, key: str) -> float:
    """A number from 0 to 1."""
    number = finite_number(value, key)
    if not 0 <= number <= 1:
        raise BadKey(key, f"expected a number from 0 to 1, got {shown(value)}")
    return number


def text_of(value: object, key: str, choices: Collection[str] = ()) -> str:
    """A text that is not empty, and one of `choices` where there are any."""
    if not isinstance(value, str) or not value:
        raise BadKey(key, f"expected a text, got {shown(value)}")
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise BadKey(
            key, f"expected a text, got {shown(value)}, which has half a character"
        )  # no file can hold it
    if choices and value not in choices:
        raise BadKey(key, f"expected one of {', '.join(choices)}, got {shown(value)}")
    return value


def list_of(value: object, key: str, length: int | None = None) -> Sequence[Any]:
    """A list or tuple, of `length` where that is given."""
    if not isinstance(value, (list, tuple)):
        raise BadKey(key, f"expected a list, got {shown(value)}")
    if length is not None and len(value) != length:
        raise BadKey(key, f"expected {length} values, got {len(value)}")
    return value
