"""Nothing that a file says makes a terminal do anything."""

from __future__ import annotations

import pytest

from edge_ssd.files.terminal import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),  # sets a terminal's title
        ("a\rb", r"a\rb"),  # overwrites the line
        ("\x9b2J", r"\x9b2J"),  # C1: clears the screen
        ("\x7f", r"\x7f"),
        ("a\u202egpj.exe", r"a\u202egpj.exe"),  # turns the direction
        ("\u2066x\u2069", r"\u2066x\u2069"),
        ("a\u2028b", r"a\u2028b"),
        ("\udcff.jpg", r"\udcff.jpg"),  # an undecodable file name
    ],
)
def test_control_characters_are_written_out(text, shown):
    assert printable(text) == shown


@pytest.mark.parametrize("text", ["", "person", "a\tb\nc", "Größe 猫 שלום", "🐈", "it costs $5"])
def test_other_text_stays_as_it_is(text):
    assert printable(text) == text
