"""Figures of matplotlib as PNG files, in which every text is text: names come from files of other people."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from . import StrPath, replacing
from .terminal import short_name

# Of a class or an image, in a place of a few centimeters.
_LONGEST_NAME, _LONGEST_TITLE = 40, 160


@contextmanager
def plain_text() -> Iterator[None]:
    """Around all drawing and saving: a dollar sign is no mathematics, and a letter that the font lacks no warning.

    Numbers of a logarithmic axis need a formatter of their own, for matplotlib writes them as mathematics.
    """
    with mpl.rc_context({"text.parse_math": False, "text.usetex": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


@contextmanager
def plot_file(path: StrPath, dpi: int, **options: Any) -> Iterator[Figure]:
    """A Figure to draw on, which is written to `path` as a PNG at the end of the block, whole or not at all.

    options: of Figure.
    """
    with plain_text():
        figure = Figure(**options)
        yield figure
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=dpi, format="png")


def plot_name(name: str) -> str:
    """The name of a class, an image or a model as a plot shows it: in one line, and short."""
    return short_name(name, _LONGEST_NAME)


def plot_title(text: str) -> str:
    """A title as a plot shows it: names and addresses in it may be of any length."""
    return short_name(text, _LONGEST_TITLE)
