"""What the parts of `edge-ssd doctor` say."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for.

    name: what.   present: whether it is there and usable.   detail: version, or what is wrong.
    advice: what to do about it; empty when nothing needs doing.
    """

    name: str
    present: bool
    detail: str
    advice: str = ""
