"""Magnitudes of a tensor, counted; and where to cut them off for 8 bits."""

from __future__ import annotations

import numpy as np

_BINS = 2048
_PERCENTILE = 99.99
# Levels of a magnitude in symmetric INT8, the zero included.
_LEVELS = 128
# Limits that the entropy search tries, evenly from _LEVELS bins to all.
_TRIALS = 160
# Magnitudes below count as zero: bins for them alone would be too narrow for float32, whose largest number bounds
# the bins per unit.
_SMALLEST = float(np.finfo(np.float32).tiny) * _BINS


class Histogram:
    """Counts of |x| in equal bins from 0 on. The range doubles when something larger comes."""

    def __init__(self) -> None:
        self.counts = np.zeros(_BINS, np.int64)
        self.top = 0.0

    def add(self, array: np.ndarray) -> None:
        """Counts the magnitudes of an array."""
        magnitudes = np.abs(array.reshape(-1))
        largest = float(magnitudes.max(initial=0))
        if largest < _SMALLEST:
            self.counts[0] += len(magnitudes)
            return
        if self.top == 0:
            self.top = largest  # so far all were zero, and lie in the first bin
        while largest > self.top:
            self.counts = np.concatenate(
                [self.counts.reshape(-1, 2).sum(axis=1), np.zeros(_BINS // 2, np.int64)]
            )
            self.top *= 2
        bins = np.minimum((magnitudes * np.float32(_BINS / self.top)).astype(np.int32), _BINS - 1)
        self.counts += np.bincount(bins, minlength=_BINS)

    def percentile_limit(self) -> float:
        """The magnitude below which 99.99 % lie."""
        total = self.counts.sum()
        if not total:
            return 0.0
        reached = np.searchsorted(np.cumsum(self.counts), total * (_PERCENTILE / 100))
        return self.top * (reached + 1) / _BINS

    def entropy_limit(self) -> float:
        """The magnitude whose 128 levels tell the most of the distribution (Migacz, 8-bit inference, GTC 2017)."""
        counts = self.counts.astype(np.float64)
        counts[0] = 0  # exact zeros, of which ReLU makes many, cost nothing at any limit
        filled = np.flatnonzero(counts)
        if not len(filled) or filled[-1] < _LEVELS:
            return self.top
        trials = np.unique(np.linspace(_LEVELS, filled[-1] + 1, _TRIALS).astype(int))
        return self.top * min(trials, key=lambda bins: _divergence(counts, bins)) / _BINS


def _divergence(counts: np.ndarray, bins: int) -> float:
    """Kullback-Leibler divergence of the first `bins` bins, cut off there, from themselves in 128 levels."""
    kept = counts[:bins].copy()
    kept[-1] += counts[bins:].sum()
    level = np.arange(bins) * _LEVELS // bins
    filled = counts[:bins] > 0
    mass = np.bincount(level, counts[:bins], _LEVELS)
    spread = np.bincount(level, filled, _LEVELS)
    quantised = np.where(filled, (mass / np.maximum(spread, 1))[level], 0)
    if not quantised.sum():
        return np.inf
    p, q = kept / kept.sum(), quantised / quantised.sum()
    q = np.where((p > 0) & (q == 0), 1e-9, q)  # the last bin may be empty but for what was cut off
    where = p > 0
    return float((p[where] * np.log(p[where] / q[where])).sum())
