"""Progress bars on standard error, where the package for them is installed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from ..files.terminal import one_line, progress_bar

_Item = TypeVar("_Item")


def shown(
    items: Iterable[_Item], description: str, unit: str, wanted: bool = True, total: int | None = None
) -> Iterable[_Item]:
    """`items` with a bar; `items` itself when none is wanted, or tqdm is not there: a bar is no reason to stop."""
    if not wanted:
        return items
    try:
        return progress_bar(items, desc=description, unit=unit, total=total)
    except ImportError:
        return items


class BuildBar:
    """Called with (done, total, phase) as TensorRT builds."""

    def __init__(self, wanted: bool = True) -> None:
        self._bar = None
        if wanted:
            try:
                self._bar = progress_bar(desc="compile", unit="step")
            except ImportError:
                return

    def __call__(self, done: int, total: int, phase: str) -> None:
        if self._bar is not None:
            self._bar.total, self._bar.n = total, done
            self._bar.set_postfix_str(one_line(phase)[:40], refresh=False)
            self._bar.update(0)  # which draws when the last time is a while ago

    def close(self) -> None:
        """Leaves the bar as it is."""
        if self._bar is not None:
            self._bar.refresh()
            self._bar.close()
