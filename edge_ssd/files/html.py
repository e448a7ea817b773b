"""Pages that need nothing else: no script, no font, no file beside them."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape

from .terminal import printable

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --good: #1a7f37; --bad: #cf222e; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 78rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.verdict { border-left: .35rem solid var(--good); padding: .4rem .9rem; background: #8881; }
.verdict.broken { border-color: var(--bad); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; } th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); }
td, th { text-align: right; font-variant-numeric: tabular-nums; }
td:first-child, th:first-child { text-align: left; min-width: 12rem; }
th { font-weight: 600; vertical-align: bottom; } .engine { max-width: 11rem; }
small { opacity: .75; } .slow { color: var(--bad); display: block; font-size: .8rem; } .published { opacity: .75; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.2rem; }
dd { margin: 0; overflow-wrap: anywhere; }
code { font-size: .9em; } svg text { fill: currentColor; font: 12px system-ui, sans-serif; }
svg, img { max-width: 100%; height: auto; } img { background: #fff; }
"""


def page(title: str, parts: Iterable[str]) -> str:
    """A whole page. title: text, its heading too.   parts: HTML. Control characters are written out."""
    return printable(
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def table(head: Iterable[str], rows: Sequence[Iterable[str]], classes: Sequence[str] | None = None) -> str:
    """A table, which scrolls where it is too wide.

    head: texts.   rows: lists of ready-made HTML.   classes: of each row, "" for none.
    """
    lines = ['<div class="wide"><table><tr>' + "".join(f"<th>{cell}</th>" for cell in head) + "</tr>"]
    for row, name in zip(rows, classes or [""] * len(rows)):
        opening = f'<tr class="{name}">' if name else "<tr>"
        lines.append(opening + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>")
    return "\n".join([*lines, "</table></div>"])


def facts(pairs: Iterable[tuple[str, object]]) -> str:
    """A list of what and how much. pairs: (text, what str makes a text of)."""
    return "<dl>" + "".join(f"<dt>{escape(a)}</dt><dd>{escape(str(b))}</dd>" for a, b in pairs) + "</dl>"


def picture(png: bytes, description: str) -> str:
    """A PNG inside the page. png: bytes.   description: for who cannot see it."""
    data = base64.b64encode(png).decode()
    return f'<img alt="{escape(description)}" src="data:image/png;base64,{data}">'
