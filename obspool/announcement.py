"""When a pool lets itself be found: its control socket, its name, its segment's place.

That takes as long as the start of a worker, and nobody can look for a pool within its first
milliseconds. So it is done shortly after the start, when the first workers are there; at once for
whoever asks for the name, which is final only then; and at the end for a pool that was quicker.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from obspool.telemetry.segment import Segment

# Two workers' start takes some milliseconds; `obspool ls` needs ten times this to be there (ns).
_AFTER = 20_000_000


class Announcement:
    """Publishes a segment, once; all but `name` is for the scheduler's thread.

    Attributes:
        due: when to call `make` (CLOCK_MONOTONIC in ns), None when it was made.
    """

    def __init__(self, segment: Segment, serve: Callable[[], str | None] | None) -> None:
        """Take what starts the control socket and returns its path; None: it is published."""
        self._segment = segment
        self._serve = serve
        self._made = threading.Event()
        self.due: int | None = None
        if serve is None:
            self._made.set()
        else:
            self.due = time.monotonic_ns() + _AFTER

    def is_made(self) -> bool:
        """Tell whether the pool can be found."""
        return self._made.is_set()

    def wait(self) -> None:
        """Wait until somebody else has made it."""
        self._made.wait()

    def make(self) -> None:
        """Let the pool be found and steered."""
        self._publish(self._serve)

    def make_at_end(self) -> None:
        """Let the pool's end be found."""
        self._publish(None)

    def _publish(self, serve: Callable[[], str | None] | None) -> None:
        if self.due is None:
            return
        self.due = None
        try:
            self._segment.publish(serve() if serve is not None else None)
        finally:
            self.release()

    def release(self) -> None:
        """Let nobody wait any longer."""
        self._made.set()

    def after_fork_in_child(self) -> None:
        """Let nobody wait: who would make it isn't here."""
        self.due = None
        # A new one: another thread may have held the old one's lock when the process forked.
        self._made = threading.Event()
        self._made.set()
