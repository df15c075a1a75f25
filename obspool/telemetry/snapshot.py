"""A snapshot: one frozen, typed reading of a segment, which is all that any viewer ever sees.

Counts are totals since the pool's start. Times named `*_time` are seconds of the UNIX epoch, all
durations are seconds, all sizes bytes.
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from obspool.words import WorkerState

if TYPE_CHECKING:
    from obspool.telemetry.facts import PoolFacts
    from obspool.words import (
        Direction,
        EventKind,
        ExitReason,
        IdleReason,
        JobKind,
        Outcome,
        PoolOutcome,
        PoolState,
    )


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of observations by bucket.

    Attributes:
        bounds: upper bounds, inclusive; the last bucket's, +Inf, is left out. In seconds, but for
            those of how many, of which each says so.
        counts: observations in each bucket, not cumulated; one more than there are bounds.
        sum: of all observations, in the bounds' unit.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float

    @property
    def count(self) -> int:
        """How many observations there are."""
        return sum(self.counts)

    @property
    def mean(self) -> float | None:
        """The mean in seconds, or None when nothing was observed."""
        count = self.count
        return self.sum / count if count else None

    def quantile(self, q: float) -> float | None:
        """Estimate the q-quantile in seconds as Prometheus does: linear within its bucket.

        None when nothing was observed; the largest bound when it lies in the +Inf bucket.
        """
        cumulated = list(accumulate(self.counts))
        if not cumulated or not cumulated[-1]:
            return None
        rank = q * cumulated[-1]
        bucket = bisect_left(cumulated, rank)
        if bucket >= len(self.bounds):
            return self.bounds[-1]
        below = cumulated[bucket - 1] if bucket else 0
        low = self.bounds[bucket - 1] if bucket else 0.0
        inside = self.counts[bucket]
        share = (rank - below) / inside if inside else 0.0
        return low + (self.bounds[bucket] - low) * share

    def __add__(self, other: Histogram) -> Histogram:
        """Add the observations of two histograms with the same bounds."""
        counts = tuple(a + b for a, b in zip(self.counts, other.counts, strict=True))
        return Histogram(self.bounds, counts, self.sum + other.sum)


@dataclass(frozen=True, slots=True)
class Tasks:
    """Depth at each stage: four numbers that never overlap.

    Attributes:
        queued: not yet sent to a worker.
        dispatched: sent to a worker, not begun there.
        running: begun.
        result: done, its result not yet handed over to the caller.
    """

    queued: int
    dispatched: int
    running: int
    result: int


@dataclass(frozen=True, slots=True)
class Serializing:
    """Seconds that went into pickling (dump) and unpickling (load), by where that was.

    Attributes:
        parent_dump: of arguments, in the pool's process.
        parent_load: of results there, when somebody asks for them.
        worker_load: of arguments, in all workers.
        worker_dump: of results there.
    """

    parent_dump: float
    parent_load: float
    worker_dump: float
    worker_load: float


@dataclass(frozen=True, slots=True)
class ItemError:
    """What an item raised in a worker.

    Attributes:
        generation: of the process that it was in.
        function: `other` for those after the 16th; None when it isn't known.
        item: what it was, by the pool's `describe=`; else empty.
        text: the exception's type and, unless OBSPOOL_ERRORS=type, its text: one line of at most
            200 bytes of UTF-8.
    """

    time: float
    generation: int
    function: str | None
    item: str
    text: str


@dataclass(frozen=True, slots=True)
class WorkerSnapshot:
    """One slot: the process that works there now, and the totals of all its generations.

    Attributes:
        torn: the row was being written in each of a bounded number of readings (a worker may have
            been killed in the middle): its fields are true alone, not together.
        state: starting, idle, busy, draining or gone.
        function: the one it runs now, or ran when it was killed; None when idle.
        description: of the item that runs, by the pool's `describe=`; else empty.
        task_start_time: when the running task began, None when idle.
        item_start_time: when the running item, or the slice of small items it belongs to, began.
        process_tasks: tasks of the present process only.
        queue_tasks: sent to it, not begun.
        restarts: generations after the first.
        item_run: run time of items, of all functions.
        exit_reason: of the present process, when it is gone.
        errors: the last that its items raised, the oldest first: of all generations, four at least
            of the present one if it had so many, eight at most.
    """

    slot: int
    generation: int
    pid: int
    state: WorkerState
    torn: bool
    start_time: float | None
    function: str | None
    task_start_time: float | None
    item_start_time: float | None
    process_tasks: int
    queue_tasks: int
    resident_memory: int
    memory_growth: int
    cpu_seconds: float
    busy_seconds: float
    restarts: int
    tasks: Mapping[Outcome, int]
    items: Mapping[Outcome, int]
    item_run: Histogram
    exit_reason: ExitReason | None
    description: str = ""
    errors: tuple[ItemError, ...] = ()

    @property
    def doing(self) -> str | None:
        """The function that runs and, where items are described, which one; None when idle."""
        return f"{self.function} {self.description}" if self.description else self.function


@dataclass(frozen=True, slots=True)
class JobSnapshot:
    """A job with items of its own: map, starmap, imap, imap_unordered; `apply` jobs have no row.

    Attributes:
        items_total: None while the iterable's length isn't known.
        outcome: None while it is in progress.
    """

    id: int
    kind: JobKind
    function: str
    submitted_time: float
    ended_time: float | None
    outcome: Outcome | None
    items_total: int | None
    items_ok: int
    items_error: int
    items_skipped: int

    @property
    def items_done(self) -> int:
        """Items with a result, an error, or skipped."""
        return self.items_ok + self.items_error + self.items_skipped


@dataclass(frozen=True, slots=True)
class Event:
    """A record of the ring of events.

    Attributes:
        slot: None when it isn't about a worker.
        text: at most 200 bytes of UTF-8, for people.
    """

    number: int
    time: float
    kind: EventKind
    slot: int | None
    pid: int
    generation: int
    text: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One reading of a pool's segment.

    Attributes:
        time: when it was read.
        alive: whether the owner still holds the segment's lock.
        heartbeat_time: when the pool's own thread last went round; old: stuck or stopped.
        outcome: None while the pool lives.
        max_tasks_per_child: None when unlimited.
        queue_oldest_time: submission of the oldest queued task, None when the queue is empty.
        item_run: run time of items by function; the name `other` collects those after the 16th.
        task_items: how many items tasks had when they were submitted.
        task_bytes: serialized arguments and results.
        idle_seconds: time of workers that ran nothing, by reason.
        scheduler_busy_seconds: CPU time of the pool's own thread.
        job_duration: from submission to the end.
        worker_lifetime_tasks: how many tasks workers that are gone had run.
        worker_memory_growth: of workers that are gone, from when they were ready to their end; sums
            those that grew.
        user_counters: the program's own, by name (`obspool.counter`).
        jobs: the newest first.
        events: the oldest first, at most 256.
    """

    facts: PoolFacts
    time: float
    alive: bool
    heartbeat_time: float
    state: PoolState
    outcome: PoolOutcome | None
    ended_time: float | None
    last_success_time: float | None
    workers_configured: int
    max_tasks_per_child: int | None
    workers: tuple[WorkerSnapshot, ...]
    tasks: Tasks
    queue_oldest_time: float | None
    jobs_in_progress: int
    jobs_submitted: Mapping[JobKind, int]
    jobs_completed: Mapping[Outcome, int]
    tasks_submitted: Mapping[JobKind, int]
    tasks_completed: Mapping[Outcome, int]
    items_submitted: int
    items_completed: Mapping[Outcome, int]
    worker_exits: Mapping[ExitReason, int]
    tasks_stolen: int
    items_retried: int
    callback_errors: int
    telemetry_errors: int
    task_wait: Histogram
    task_run: Histogram
    task_result_wait: Histogram
    item_run: Mapping[str, Histogram]
    worker_startup: Histogram
    task_items: Histogram
    task_bytes: Mapping[Direction, int]
    serialize_seconds: Serializing
    idle_seconds: Mapping[IdleReason, float]
    scheduler_busy_seconds: float
    job_duration: Mapping[JobKind, Histogram]
    worker_lifetime_tasks: Histogram
    worker_memory_growth: int
    user_counters: Mapping[str, int]
    jobs: tuple[JobSnapshot, ...]
    events: tuple[Event, ...]

    @property
    def present_workers(self) -> tuple[WorkerSnapshot, ...]:
        """The rows to show: without empty slots that a resize removed, which count in sums only."""
        size = self.workers_configured
        return tuple(w for w in self.workers if w.slot < size or w.state is not WorkerState.GONE)

    def as_dict(self) -> dict[str, Any]:
        """Return the snapshot as plain dicts, lists, strings and numbers, ready for JSON."""
        plain: dict[str, Any] = _plain(self)
        return plain


def _plain(value: Any) -> Any:
    """Turn dataclasses, mappings and tuples into dicts and lists; enum members are strings."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, str) else value
