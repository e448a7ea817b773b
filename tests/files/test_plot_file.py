"""Figures in which every text is text."""

from __future__ import annotations

import warnings

import pytest

pytest.importorskip("matplotlib")

import matplotlib as mpl

from edge_ssd.files.plot_file import plot_file, plot_name, plot_title


def test_what_looks_like_mathematics_is_drawn_as_it_is(tmp_path):
    before = dict(mpl.rcParams)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with plot_file(tmp_path / "a.png", dpi=50, figsize=(2, 2)) as figure:
            axes = figure.subplots()
            axes.set(title=r"$\bad{$", xlabel="$x^$", ylabel="猫")
            axes.plot([1, 2], label="$$a^$")
            axes.set_yticks([1, 2], ["$^$", "b"])
            axes.text(1, 1, r"\frac{")
            axes.legend()
            figure.suptitle(r"$\frac$")
    assert (tmp_path / "a.png").stat().st_size > 1000
    assert dict(mpl.rcParams) == before


def test_failed_drawing_leaves_no_file(tmp_path):
    with pytest.raises(KeyError), plot_file(tmp_path / "a.png", dpi=50):
        raise KeyError("x")
    assert list(tmp_path.iterdir()) == []


def test_names_are_short_and_in_one_line():
    assert plot_name("cat") == "cat"
    assert plot_name("a\nb\x1b") == r"a\nb\x1b"
    assert len(plot_name("x" * 1_000_000)) == 40
    assert len(plot_title("x" * 1_000_000)) == 160
