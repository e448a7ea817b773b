"""Fields of JSON files: every error has the path of its key."""

from __future__ import annotations

import pytest

from edge_ssd.files import json_fields
from edge_ssd.files.json_fields import BadKey, check_keys, check_type, inside


def test_an_error_has_the_path_that_leads_to_it():
    with (
        pytest.raises(BadKey, match=r"^outer\.levels\[0\]\.step: missing$"),
        inside("outer"),
        inside("levels[0]"),
    ):
        check_keys({}, known=("step",), required=("step",))


def test_an_optional_key_may_be_missing_and_an_unknown_one_may_not():
    check_keys({"step": 1}, known=("step", "offset"), required=("step",))
    with pytest.raises(BadKey, match=r"^stop: unknown key; known: step, offset$"):
        check_keys({"step": 1, "stop": 1}, known=("step", "offset"), required=("step",))


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (json_fields.whole_number, True),
        (json_fields.finite_number, False),
        (lambda value, key: check_type(value, key, int), True),
        (lambda value, key: json_fields.whole_numbers(value, key, 1), [True]),
    ],
)
def test_true_and_false_are_no_numbers(read, value):
    with pytest.raises(BadKey, match=r"^count: expected "):
        read(value, "count")


def test_a_long_value_is_quoted_in_part():
    assert len(json_fields.shown(list(range(100)))) == 60
