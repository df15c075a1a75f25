"""Reading in a thread of its own, so that no target can ever stall the screen."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reading(Generic[T]):
    """What one attempt gave: a value, or the error that was raised instead."""

    value: T | None
    error: Exception | None = None


class Reader(Generic[T]):
    """Calls `read` at an interval and keeps the newest answer for the screen to take.

    There is a place for one answer: while the screen is busy (a slow ssh link, a stopped terminal)
    newer answers replace the one that waits there, and nothing piles up.

    It is a daemon thread and not a Textual worker: Textual's end with their executor, which waits
    for a read that never returns, and `q` must always quit.
    """

    def __init__(
        self, read: Callable[[], T], deliver: Callable[[], object], interval: float
    ) -> None:
        """Prepare; `start` begins.

        Args:
            read: called in the thread.
            deliver: called in the thread, once for each answer that is there to be taken.
            interval: seconds from one answer to the next call.
        """
        self.interval = interval
        self._read = read
        self._deliver = deliver
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._latest: Reading[T] | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="obspool-reader", daemon=True)

    def start(self) -> None:
        """Begin with a reading at once."""
        self._thread.start()

    def stop(self) -> None:
        """End; nothing is delivered after this, also when a read returns later."""
        with self._lock:
            self._stopped = True
        self._wake.set()

    def now(self) -> None:
        """Read at once instead of at the end of the interval."""
        self._wake.set()

    def take(self) -> Reading[T] | None:
        """Take the newest answer; None when it was taken before."""
        with self._lock:
            latest, self._latest = self._latest, None
        return latest

    def _run(self) -> None:
        while not self._stopped:
            self._wake.clear()
            reading: Reading[T]
            try:
                reading = Reading(self._read())
            except Exception as error:  # noqa: BLE001 - delivered: the screen tells it
                reading = Reading(None, error)
            with self._lock:
                if self._stopped:
                    return
                waits = self._latest is not None
                self._latest = reading
                if not waits:
                    self._deliver()
            self._wake.wait(self.interval)


def in_background(call: Callable[[], T], done: Callable[[Reading[T]], object]) -> None:
    """Make a call in a thread and tell what it gave, there, to `done`."""

    def run() -> None:
        reading: Reading[T]
        try:
            reading = Reading(call())
        except Exception as error:  # noqa: BLE001 - told: the screen shows it
            reading = Reading(None, error)
        done(reading)

    threading.Thread(target=run, name="obspool-command", daemon=True).start()
