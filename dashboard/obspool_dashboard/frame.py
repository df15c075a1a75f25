"""A frame: one reading with the rates up to it, which is all that the widgets draw from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from obspool.words import PoolOutcome, PoolState, WorkerState
from obspool_dashboard.history import (
    NO_JOB_RATES,
    NO_WORKER_RATES,
    History,
    JobRates,
    Rates,
    WorkerRates,
    ended_average,
    item_running,
    items_done,
    items_failed,
)

if TYPE_CHECKING:
    from obspool.telemetry.snapshot import JobSnapshot, Snapshot, WorkerSnapshot

# An item stands out when it has run ten times as long as 95 of 100 items of its function, and long
# enough for a person to care.
STUCK_TIMES_P95 = 10.0
STUCK_SECONDS = 10.0
# The pool's own thread goes round several times a second; a loaded machine may delay it.
SILENT_SECONDS = 5.0


@dataclass(frozen=True)
class WorkerRow:
    """One worker at one moment.

    Attributes:
        running: seconds in the present item, None when there is none.
        usual: the p95 of its function in seconds, None when that isn't known.
        stuck: whether that is far longer than its function usually takes.
    """

    worker: WorkerSnapshot
    rates: WorkerRates
    running: float | None
    usual: float | None
    stuck: bool

    @cached_property
    def p50(self) -> float | None:
        """The median of this slot's items, in seconds."""
        return self.worker.item_run.quantile(0.5)

    @cached_property
    def p95(self) -> float | None:
        """The 95th percentile of this slot's items, in seconds."""
        return self.worker.item_run.quantile(0.95)

    @property
    def items(self) -> int:
        """Items ended."""
        return items_done(self.worker.items)

    @property
    def errors(self) -> int:
        """Items ended badly."""
        return items_failed(self.worker.items)


@dataclass(frozen=True)
class JobRow:
    """One job at one moment."""

    job: JobSnapshot
    rates: JobRates
    now: float

    @property
    def running(self) -> bool:
        """Whether it is in progress."""
        return self.job.ended_time is None

    @property
    def share(self) -> float | None:
        """How much of it is done, of 1; None while nobody knows how long it is."""
        if self.job.items_total:
            return self.job.items_done / self.job.items_total
        return None if self.running else 1.0

    @property
    def took(self) -> float:
        """Seconds since it was submitted, or until it ended."""
        return max(0.0, (self.job.ended_time or self.now) - self.job.submitted_time)


@dataclass(frozen=True)
class Frame:
    """What is on the screen at one moment."""

    snapshot: Snapshot
    rates: Rates

    @property
    def ended(self) -> bool:
        """Whether the pool is no more."""
        return not self.snapshot.alive or self.snapshot.state is PoolState.ENDED

    @property
    def outcome(self) -> PoolOutcome:
        """How it ended; a pool without a word of its end died."""
        return self.snapshot.outcome or PoolOutcome.DIED

    @property
    def values_time(self) -> float:
        """When these values were true: at the reading, or when the pool last wrote any."""
        if self.ended:
            heard = max(self.snapshot.facts.start_time, self.snapshot.heartbeat_time)
            return self.snapshot.ended_time or heard
        return self.snapshot.time

    @property
    def silent_for(self) -> float | None:
        """Seconds since a live pool's own thread gave a sign, when those are too many."""
        facts = self.snapshot.facts
        silent = self.snapshot.time - max(facts.start_time, self.snapshot.heartbeat_time)
        return silent if not self.ended and silent > SILENT_SECONDS else None

    @property
    def done(self) -> int:
        """Items ended."""
        return items_done(self.snapshot.items_completed)

    @property
    def errors(self) -> int:
        """Items ended badly."""
        return items_failed(self.snapshot.items_completed)

    @cached_property
    def workers(self) -> tuple[WorkerRow, ...]:
        """The rows of the table; a slot that a resize removed is counted in totals, not listed."""
        usual = {
            function: histogram.quantile(0.95)
            for function, histogram in self.snapshot.item_run.items()
        }
        now, rates = self.values_time, self.rates.workers
        return tuple(
            _row(
                worker,
                rates.get(worker.slot, NO_WORKER_RATES),
                usual.get(worker.function or ""),
                now,
            )
            for worker in self.snapshot.present_workers
        )

    @cached_property
    def live_workers(self) -> int:
        """How many workers there are now."""
        return sum(worker.state is not WorkerState.GONE for worker in self.snapshot.workers)

    @property
    def jobs(self) -> tuple[JobRow, ...]:
        """The jobs in progress, then those that ended, the newest first."""
        jobs = sorted(self.snapshot.jobs, key=lambda job: job.ended_time is not None)
        now = self.values_time
        return tuple(JobRow(job, self.rates.jobs.get(job.id, NO_JOB_RATES), now) for job in jobs)


def _row(worker: WorkerSnapshot, rates: WorkerRates, usual: float | None, now: float) -> WorkerRow:
    running = item_running(worker, now)
    stuck = (
        running is not None
        and running > STUCK_SECONDS
        and usual is not None
        and running > STUCK_TIMES_P95 * usual
    )
    return WorkerRow(worker, rates, running, usual, stuck)


def next_frame(history: History, snapshot: Snapshot) -> Frame:
    """Make the frame of a new reading; an ended pool's shows the averages over its life."""
    frame = Frame(snapshot, Rates())
    rates = ended_average(snapshot) if frame.ended else history.add(snapshot)
    return Frame(snapshot, rates)
