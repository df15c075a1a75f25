"""Waiting without a lock that the side that tells would have to take.

A signal handler may interrupt a thread anywhere in its waiting, and may call the pool there: an
Event or a Condition would be held by that very thread.
"""

from __future__ import annotations

import os
from collections import deque
from contextlib import contextmanager, suppress
from threading import Lock, get_ident
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Threads for which others wait. A forked child has none of them, but one with the number of that
# which forked.
_never: set[int] = set()
os.register_at_fork(after_in_child=_never.clear)


# By thread: how to give up what it has to itself while it runs no code of anybody else's. That it
# waits all the same, or asks for something, is a signal handler's doing, or a `__del__`'s.
_held: dict[int, Callable[[], None]] = {}


def hold(release: Callable[[], None]) -> None:
    """Say what this thread has to call before it waits."""
    _held[get_ident()] = release


def unhold() -> None:
    """Say that it has nothing to itself any more."""
    _held.pop(get_ident(), None)


def let_go() -> None:
    """Give up what this thread has to itself, if anything: it was interrupted."""
    release = _held.pop(get_ident(), None)
    if release is not None:
        release()


@contextmanager
def forbidden() -> Iterator[None]:
    """Keep this thread from waiting: it is one for which others wait.

    The garbage collector runs a `__del__` in any thread; one that waits for a result in the thread
    that brings it would wait for ever, and everybody else with it.
    """
    _never.add(get_ident())
    try:
        yield
    finally:
        _never.discard(get_ident())


# How long a thread waits without looking up (seconds): Python looks at signals between bytecodes.
# One that comes just before the wait, or to another thread, doesn't end it: a Ctrl-C would be lost.
_MOMENT = 0.5


class Waiters:
    """Threads that wait for something."""

    __slots__ = ("_locks",)

    def __init__(self) -> None:
        self._locks: deque[Lock] = deque()

    def __bool__(self) -> bool:
        """Tell whether there are any."""
        return bool(self._locks)

    def wait(self, ready: Callable[[], bool], timeout: float | None) -> bool:
        """Wait until told, the timeout (seconds) is over, or a moment; return if it is ready now.

        Raises:
            RuntimeError: this thread is one for which others wait.
        """
        let_go()
        if get_ident() in _never and not ready():
            raise RuntimeError(
                "a pool's own thread can't wait for a pool: this code runs there because the "
                "garbage collector found it there"
            )
        lock = Lock()
        lock.acquire()
        self._locks.append(lock)
        # Asked again after the lock is there to be found: so nobody is told too early.
        limit = _MOMENT if timeout is None else min(max(0.0, timeout), _MOMENT)
        if not ready() and not lock.acquire(timeout=limit):
            with suppress(ValueError):  # told at this very moment
                self._locks.remove(lock)
        return ready()

    def wait_until(self, ready: Callable[[], bool], timeout: float | None) -> bool:
        """Wait until it is ready, or the timeout (seconds) is over; return whether it is."""
        deadline = None if timeout is None else monotonic() + timeout
        while not self.wait(ready, timeout):
            if deadline is not None:
                timeout = deadline - monotonic()
                if timeout <= 0:
                    return False
        return True

    def tell(self) -> None:
        """Wake all."""
        locks = self._locks
        while locks:
            try:
                locks.popleft().release()
            except IndexError:  # another thread took the last one
                return


class Flag:
    """Something that becomes true once; a `threading.Event` for signal handlers too."""

    __slots__ = ("_set", "_waiters")

    def __init__(self) -> None:
        self._set = False
        self._waiters = Waiters()

    def is_set(self) -> bool:
        """Tell whether it is true."""
        return self._set

    def set(self) -> None:
        """Make it true; from any thread, a signal handler, a forked child."""
        self._set = True
        self._waiters.tell()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is true, or the timeout (seconds) is over; return whether it is."""
        return self._set or self._waiters.wait_until(self.is_set, timeout)
