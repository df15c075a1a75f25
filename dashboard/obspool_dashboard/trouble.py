"""What is wrong with a pool, told from its snapshots alone, the worst first."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from obspool import units
from obspool.words import EventKind, ExitReason, PoolState, WorkerState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from obspool_dashboard.frame import Frame

# Workers lost, or that could not start, within this time: one may be bad luck, three are a pattern.
CRASH_SECONDS = 60.0
CRASHES = 3
# Without an end of any item for so long, and nobody at work on one, work that waits has stalled.
STALL_SECONDS = 10.0
# One bad item in ten, of enough items to say so.
ERROR_SHARE = 0.1
ERROR_LEAST = 5


class Severity(IntEnum):
    """How bad it is; the table of pools is sorted by it."""

    NONE = 0
    ERRORS = 1
    STUCK = 2
    STALLED = 3
    CRASHING = 4
    SILENT = 5


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that is wrong.

    Attributes:
        word: for a column.
        text: a sentence for people, without its full stop.
    """

    severity: Severity
    word: str
    text: str

    @property
    def is_alarm(self) -> bool:
        """Whether nothing gets done while it lasts."""
        return self.severity >= Severity.STALLED


def troubles(frame: Frame) -> list[Trouble]:
    """Return what is wrong with a pool that lives, the worst first."""
    return [] if frame.ended else list(_found(frame))


def _found(frame: Frame) -> Iterator[Trouble]:
    if frame.silent_for is not None:
        silent = units.span(frame.silent_for)
        yield Trouble(
            Severity.SILENT,
            f"silent {silent}",
            f"SILENT for {silent}: the pool's process is stopped or stuck",
        )
    crashes = crashes_lately(frame)
    if crashes >= CRASHES:
        minute = units.span(CRASH_SECONDS)
        yield Trouble(
            Severity.CRASHING,
            f"{crashes} crashes",
            f"CRASH LOOP: {crashes} workers were lost or failed to start within {minute}",
        )
    if frame.silent_for is None and _has_stalled(frame):
        tasks = frame.snapshot.tasks
        waiting = tasks.queued + tasks.dispatched + tasks.running
        since = units.span(frame.rates.still)
        yield Trouble(
            Severity.STALLED,
            "stalled",
            f"STALLED: no item ended for {since}, and {waiting:,} tasks wait",
        )
    if stuck := sum(row.stuck for row in frame.workers):
        yield Trouble(Severity.STUCK, f"{stuck} stuck", f"{stuck} stuck in an item")
    items, errors = frame.rates.items or 0.0, frame.rates.errors or 0.0
    if errors * frame.rates.over >= ERROR_LEAST and errors >= ERROR_SHARE * items:
        share = units.percent(errors / items)
        yield Trouble(Severity.ERRORS, f"{share} errors", f"{share} of its items fail")


def crashes_lately(frame: Frame) -> int:
    """Count the workers that were lost or could not start in the last minute."""
    since = frame.snapshot.time - CRASH_SECONDS
    return sum(
        event.time >= since
        and (
            (event.kind is EventKind.WORKER_EXITED and event.text.startswith(ExitReason.LOST))
            or (event.kind is EventKind.TROUBLE and event.slot is not None)
        )
        for event in frame.snapshot.events
    )


def _has_stalled(frame: Frame) -> bool:
    snapshot, still = frame.snapshot, frame.rates.still
    tasks = snapshot.tasks
    if snapshot.state is PoolState.PAUSED or not tasks.queued + tasks.dispatched + tasks.running:
        return False
    if still is None or still < STALL_SECONDS:
        return False
    if any(worker.state is WorkerState.STARTING for worker in snapshot.workers):
        return False
    return all(row.stuck for row in frame.workers if row.running is not None)
