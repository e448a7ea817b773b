"""Progress bars on standard error, where the package for them is installed."""

from __future__ import annotations


def shown(items, description, unit, wanted=True, total=None):
    """`items` with a bar; `items` itself when none is wanted, or tqdm is not there: a bar is no reason to stop."""
    if not wanted:
        return items
    try:
        from tqdm import tqdm
    except ImportError:
        return items
    return tqdm(items, desc=description, unit=unit, total=total, dynamic_ncols=True)


class BuildBar:
    """Called with (done, total, phase) as TensorRT builds."""

    def __init__(self, wanted=True):
        self._bar = None
        if wanted:
            try:
                from tqdm import tqdm
            except ImportError:
                return
            self._bar = tqdm(desc="compile", unit="step", dynamic_ncols=True)

    def __call__(self, done, total, phase):
        if self._bar is not None:
            self._bar.total, self._bar.n = total, done
            self._bar.set_postfix_str(phase[:40], refresh=False)
            self._bar.update(0)  # which draws when the last time is a while ago

    def close(self):
        """Leaves the bar as it is."""
        if self._bar is not None:
            self._bar.refresh()
            self._bar.close()
