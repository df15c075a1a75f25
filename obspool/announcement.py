"""When a pool lets itself be found: its control socket, its name, its segment's place.

That takes as long as the start of a worker, and nobody can look for a pool within its first
milliseconds. So it is done shortly after the start, when the first workers are there; at once for
whoever asks for the name, which is final only then; and at the end for a pool that was quicker.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from obspool.telemetry.locks import DIRECTORY_PATIENCE
from obspool.waiting import Flag

if TYPE_CHECKING:
    from collections.abc import Callable

    from obspool.telemetry.segment import Segment

# Two workers' start takes some milliseconds; `obspool ls` needs ten times this to be there (ns).
_AFTER = 20_000_000
_PUT_OFF = 1_000_000_000


class Announcement:
    """Publishes a segment, once; all but `wait` is for the scheduler's thread.

    Attributes:
        due: when to call `make` (CLOCK_MONOTONIC in ns), None when it was made.
    """

    def __init__(self, segment: Segment, serve: Callable[[], str | None] | None) -> None:
        """Take what starts the control socket and returns its path; None: nothing is published."""
        self._segment = segment
        self._serve = serve
        self._made = Flag()
        self.due: int | None = None
        if serve is None:
            self._made.set()
        else:
            self.due = time.monotonic_ns() + _AFTER
        self._put_off_until = time.monotonic_ns() + _PUT_OFF

    def is_made(self) -> bool:
        """Tell whether the pool has its name."""
        return self._made.is_set()

    def wait(self) -> None:
        """Wait until somebody else has made it."""
        self._made.wait()

    def make(self, *, ended: bool = False, patience: float = DIRECTORY_PATIENCE) -> None:
        """Let the pool be found and, unless it has ended, steered.

        Args:
            ended: there is nothing to steer any more.
            patience: how long to wait for other pools that do the same (seconds).
        """
        if self.due is None:
            return
        made = True
        try:
            control = None if ended or self._serve is None else self._serve()
            made = self._segment.publish(control, patience=patience)
        finally:
            self.due = None if made else time.monotonic_ns() + _AFTER
            if made:
                self._made.set()

    def make_if_due(self, now: int) -> None:
        """Do so when it is time; nothing waits for others then, until it has been put off often."""
        if self.due is not None and now >= self.due:
            self.make(patience=0 if now < self._put_off_until else DIRECTORY_PATIENCE)

    def give_up(self) -> None:
        """Let nobody wait any longer: it won't be made here."""
        self.due = None
        self._made.set()
