"""Counts what a frame may not do on a GPU: allocate, or wait more than once."""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from unittest import mock

import cupy
from cupy.cuda import runtime

from edge_ssd.kernels import device

# Where Python code can wait for the GPU: (holder, name). CuPy's compiled inside is not seen, but for what
# it exports to Python; the package waits through the first two alone.
_WAITS = (
    (device.Event, "synchronize"),
    (device.Stream, "synchronize"),
    (runtime, "deviceSynchronize"),
    (runtime, "streamSynchronize"),
    (runtime, "eventSynchronize"),
)
_TORCH_WAITS = ("synchronize", "Stream.synchronize", "Event.synchronize")


@dataclass
class Counts:
    """allocations: asked of CuPy's pool or torch's, served from the pool or not.   waits: calls that let the host
    wait for the GPU.   free_bytes_lost: free memory of the GPU before, less that after; other programs count too.
    """

    allocations: int = 0
    waits: int = 0
    free_bytes_lost: int = 0


class _Allocations(cupy.cuda.MemoryHook):
    name = "edge_ssd_counting"

    def __init__(self, counts):
        self._counts = counts

    def malloc_preprocess(self, **_):
        self._counts.allocations += 1


@contextmanager
def counting():
    """Counts of what this thread does in the block."""
    counts = Counts()
    torch = sys.modules.get("torch")
    with ExitStack() as stack:
        for holder, name in (*_WAITS, *_waits_of_torch(torch)):
            stack.enter_context(_counted(holder, name, counts))
        torch_before, free_before = _torch_allocations(torch), runtime.memGetInfo()[0]
        with _Allocations(counts):
            yield counts
        counts.free_bytes_lost = free_before - runtime.memGetInfo()[0]
        counts.allocations += _torch_allocations(torch) - torch_before


def _counted(holder, name, counts):
    original = getattr(holder, name)

    def wrapped(*arguments, **options):
        counts.waits += 1
        return original(*arguments, **options)

    return mock.patch.object(holder, name, wrapped)


def _waits_of_torch(torch):
    if torch is None:
        return
    for path in _TORCH_WAITS:
        *holder, name = path.split(".")
        yield (getattr(torch.cuda, holder[0]) if holder else torch.cuda), name


def _torch_allocations(torch):
    """How often torch's pool was asked so far."""
    return torch.cuda.memory_stats().get("allocation.all.allocated", 0) if torch else 0
