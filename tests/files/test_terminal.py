"""Nothing that a file says makes a terminal do anything."""

from __future__ import annotations

import io
import sys

import pytest

from edge_ssd.files.terminal import cleaned_streams, joined, one_line, printable, short_name, uncleaned


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


def test_a_name_stays_in_its_line():
    assert one_line("cat\nerror: forged\tx\r") == r"cat\nerror: forged\tx\r"
    assert joined("first\n  second\u2028third\x1c\x1b") == r"first second third \x1b"


def test_a_long_name_is_cut_in_the_middle():
    assert short_name("x" * 60) == "x" * 60
    assert short_name("a" * 50 + "z" * 50, most=20) == "a" * 11 + "..." + "z" * 6
    assert len(short_name("\x1b" * 1_000_000)) == 60


def test_streams_are_cleaned_as_a_whole(monkeypatch):
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with cleaned_streams():
        print("a\x1b[2Jb\n\u202ec")
        sys.stderr.writelines(["\x07\n", "x\n"])
        uncleaned(sys.stderr).write("\x1b[K")
    assert out.getvalue() == "a\\x1b[2Jb\n\\u202ec\n"
    assert err.getvalue() == "\\x07\nx\n\x1b[K"
    assert (sys.stdout, sys.stderr) == (out, err)


def test_what_an_encoding_lacks_is_written_out(monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    with cleaned_streams():
        print("猫")
    out.flush()
    assert out.buffer.getvalue() == b"\\u732b\n"


def test_a_program_without_standard_output_runs(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with cleaned_streams():
        assert sys.stdout is None
        print("lost")
