"""A real pool under a load that has something of everything."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import obspool
from obspool import Pool, WorkerLostError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WORKERS = 3
LEAK = 64 << 10

_kept: list[bytes] = []

_rows = obspool.counter("rows")


class BadItemError(Exception):
    """What a bad item raises."""


def work(number: int) -> int:
    """Take a few milliseconds, and keep some memory as a leak does."""
    _kept.append(os.urandom(LEAK))
    _rows.add()
    _take(0.002 * (1 + number % 3))
    return number


def slow(number: int) -> int:
    """Take longer than two scrapes lie apart, so that it is seen running."""
    _take(2.5)
    return number


def bad(number: int) -> int:
    """Raise."""
    raise BadItemError(number)


def die(number: int) -> int:
    """End this worker as the kernel does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def _take(seconds: float) -> None:
    """Compute, rather than sleep: CPU seconds are among what is shown."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(1000))


def _rounds(pool: Any, stop: threading.Event, before_first: Callable[[], object]) -> None:
    pool.map(work, range(30), chunksize=5)
    before_first()
    with contextlib.suppress(WorkerLostError):
        pool.apply(die, (0,))
    while not stop.is_set():
        waiting = pool.apply_async(slow, (1,))
        pool.map(work, range(120), chunksize=8)
        pool.map(bad, range(2), chunksize=2, return_exceptions=True)
        list(pool.imap_unordered(work, range(40), chunksize=1))
        calls = [pool.apply_async(work, (number,)) for number in range(40)]
        for call in calls:
            call.get()
        waiting.get()


@contextlib.contextmanager
def mixed_pool(name: str, *, until: Callable[[Any], object]) -> Iterator[Any]:
    """Run a pool with metrics whose workers are busy, recycled and once killed.

    Args:
        name: the pool's.
        until: called with the pool before a worker is killed; the kill waits for it.
    """
    stop = threading.Event()
    failed: list[BaseException] = []
    with Pool(WORKERS, metrics=0, name=name, maxtasksperchild=40) as pool:

        def run() -> None:
            try:
                _rounds(pool, stop, lambda: until(pool))
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield pool
        finally:
            stop.set()
            thread.join()
            assert not failed, failed
