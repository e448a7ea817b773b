"""Fields of JSON files: every error has the path of its key."""

from __future__ import annotations

import pytest

from edge_ssd.files import json_fields
from edge_ssd.files.json_fields import BadKey, check_keys, check_type, inside, read_json


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


class TestReadJson:
    """A whole JSON file, or a ValueError that names it."""

    def read(self, folder, content, **options):
        path = folder / "x.json"
        path.write_bytes(content)
        return read_json(path, **options)

    def test_it_holds_what_json_says(self, tmp_path):
        content = b'{"a": [1, 2.5, "\xc3\xa9", NaN, 1%s]}' % (b"0" * 400)
        values = self.read(tmp_path, content)["a"]
        assert values[:3] == [1, 2.5, "é"]
        assert values[3] != values[3]
        assert values[4] == 10**400

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", r"not valid JSON: Expecting value"),
            (b'{"a": 1', r"not valid JSON: Expecting ',' delimiter"),
            (b'{"a": "\xff"}', r"not a text file \(invalid start byte at byte 7\)"),
            (b"[" * 100_000, r"not valid JSON: nested too deeply"),
            (b'{"a":' * 100_000, r"not valid JSON: nested too deeply"),
            (b"[" + b"9" * 1_000_000 + b"]", r"not valid JSON: a number of 1000000 digits"),
        ],
    )
    def test_anything_else_is_named(self, tmp_path, content, reason):
        with pytest.raises(ValueError, match=rf"x\.json: {reason}"):
            self.read(tmp_path, content)

    def test_a_file_beyond_the_limit_is_not_read(self, tmp_path):
        assert self.read(tmp_path, b"[1]", most_bytes=3) == [1]
        with pytest.raises(ValueError, match=r"x\.json: has 4 bytes, more than the 3 that are read"):
            self.read(tmp_path, b"[12]", most_bytes=3)

    def test_a_value_that_was_just_shallow_enough_to_be_read_can_be_quoted(self):
        value = []
        for _ in range(100_000):
            value = [value]
        assert json_fields.shown(value) == "a list nested too deeply"
