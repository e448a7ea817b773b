"""One user of a backend at a time: another thread, or a forked process, is told so instead of getting wrong boxes."""

from __future__ import annotations

import os
from threading import Lock
from weakref import WeakSet


class OneUser:
    """A guard around every use of a backend: `with guard: ...`.

    Two threads at once would write into the same arrays. They may take turns: whoever is not inside, is no user.
    After a fork, the child has the memory of an engine without its threads, and would wait for them for ever.
    """

    def __init__(self, backend: object) -> None:
        self._backend = backend
        self._lock = Lock()
        self.is_forked = False
        _guards.add(self)

    def __enter__(self) -> None:
        """Raises RuntimeError when another thread is inside, and in a forked process."""
        self.check_process()
        if not self._lock.acquire(blocking=False):
            raise RuntimeError("detector: is at work in another thread; load one for each thread")

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def check_process(self) -> None:
        """Raises RuntimeError in a process that was forked from the one that made the backend."""
        if self.is_forked:
            raise RuntimeError(
                "detector: was loaded before this process was forked, and its threads stayed behind; load one here"
            )

    def abandon(self) -> None:
        """In a forked process: the backend is not used any more, nor freed, which would wait for its threads, too."""
        self.is_forked = True
        _keep_for_ever(self._backend)


_guards: WeakSet[OneUser] = WeakSet()


def _keep_for_ever(backend: object) -> None:
    """One reference that nobody gives back, so that it outlives the interpreter."""
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(backend))


def _abandon_all() -> None:
    for guard in list(_guards):
        guard.abandon()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_abandon_all)
