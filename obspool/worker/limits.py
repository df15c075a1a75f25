"""How long an item may run: a SoftTimeoutError is raised in it when its time is over.

By a signal to the main thread, which ends a sleep or a wait in the kernel too. Not by
PyThreadState_SetAsyncExc, which does not, and would need ctypes in every worker. What doesn't come
back to the interpreter, the parent ends.
"""

from __future__ import annotations

import signal
import threading
from contextlib import suppress
from math import inf
from time import monotonic

from obspool.errors import SoftTimeoutError
from obspool.messages import INTERRUPT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# A signal that was blocked, or came just before a wait in the kernel, is sent again after this (s).
_AGAIN = 0.05


class Limiter:
    """Limits items of a worker's main thread; made in that thread."""

    def __init__(self) -> None:
        self._limit = inf  # of the items that run now, seconds
        self._deadline = inf  # of the item that runs now
        self._main = threading.get_ident()
        self._wake: threading.Lock | None = None

    def limited(self, function: Callable[[Any], Any], limit: float) -> Callable[[Any], Any]:
        """Return what calls the function, for so long (seconds) at most, until `rest`."""
        self._limit = limit
        if self._wake is None:
            self._wake = threading.Lock()
            self._wake.acquire()
            threading.Thread(target=self._run, name="obspool-limiter", daemon=True).start()
        else:
            with suppress(RuntimeError):  # it is awake already
                self._wake.release()

        def call(item: Any) -> Any:
            self._deadline = monotonic() + limit
            try:
                return function(item)
            finally:
                self._deadline = inf

        return call

    def rest(self) -> None:
        """Limit nothing until further notice."""
        self._limit = inf

    def _run(self) -> None:
        wake = self._wake
        while wake is not None:
            left = self._deadline - monotonic()
            if left <= 0:
                signal.pthread_kill(self._main, INTERRUPT)
                left = _AGAIN
            pause = min(left, self._limit)  # no item that begins meanwhile ends before that
            wake.acquire(timeout=-1 if pause == inf else min(pause, threading.TIMEOUT_MAX))

    def expire(self) -> None:
        """Interrupt the item that runs if its time is over; else it has just ended.

        Raises:
            SoftTimeoutError: it is.
        """
        if monotonic() >= self._deadline:
            self._deadline = inf
            raise SoftTimeoutError("this item's time is over")
