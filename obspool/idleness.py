"""For how long slots ran nothing, and why: worker-seconds, by what the parent knows.

At each round the scheduler says how many slots are idle for which reason, and that holds until it
says otherwise. A worker is idle while nothing that was sent to it is without its outcome; so the
time that a message takes on its way is counted as busy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from obspool.words import IdleReason, WorkerState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from obspool.supervisor import Slot

NO_WORK, STARVED, TAIL, PAUSED, RECYCLING = range(len(IdleReason))
_IDLE, _STARTING = WorkerState.IDLE, WorkerState.STARTING


class Idleness:
    """Sums up worker-time by reason; for the scheduler's thread.

    Attributes:
        totals: ns, in the order of the reasons.
    """

    def __init__(self, totals: list[int], now: int) -> None:
        """Take the sums to add to, and the time (CLOCK_MONOTONIC, ns)."""
        self.totals = totals
        self._since = now
        self._reason = RECYCLING
        self._idle = self._recycling = 0
        self._fresh = 0  # what was added since the sums were last shown

    def advance(self, now: int) -> None:
        """Add the time that has passed."""
        passed = now - self._since
        if passed > 0:
            self._since = now
            self.totals[self._reason] += passed * self._idle
            self._fresh += passed * self._idle
            self.totals[RECYCLING] += passed * self._recycling

    def change(self, now: int, reason: int, idle: int, recycling: int) -> None:
        """Say that from now on so many workers are idle, for the reason, and so many recycling."""
        self.advance(now)
        if reason != self._reason:
            self._reason, self._fresh = reason, 0
        self._idle, self._recycling = idle, recycling

    def was_busy(self, taken: int, now: int) -> None:
        """Say that idle ones were not for so long (ns) in all: callers had them.

        Sums never fall: what was shown already stays.
        """
        self.advance(now)
        taken = min(taken, self._fresh)
        self._fresh -= taken
        self.totals[self._reason] -= taken

    def show(self, now: int) -> None:
        """Bring the sums up to date, to be shown."""
        self.advance(now)
        self._fresh = 0


def without_worker(slots: Sequence[Slot]) -> int:
    """Return how many of the slots have no worker that is ready, nor one that ends its work."""
    return sum(
        1
        for slot in slots
        if (current := slot.current) is None
        or current.state is _STARTING
        or (current.state is not _IDLE and not current.outstanding)
    )
