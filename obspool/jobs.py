"""A job: one call on the pool, its items on their way to workers, and how far they are."""

from __future__ import annotations

import itertools
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from obspool.messages import Kind
from obspool.words import JobKind, Outcome

if TYPE_CHECKING:
    from threading import Lock, Thread

    from obspool.callbacks import Callbacks
    from obspool.functions import Function
    from obspool.iterators import Room
    from obspool.supervisor import Worker

# A part of results that the parent made itself: its payload is the exception, not encoded.
PARENT_ERROR = 4

# What says that an item failed.
FAILURES = frozenset({Kind.ERROR, Kind.TIMEOUT, Kind.CANCELLED, PARENT_ERROR})

_OUTCOMES = {Kind.TIMEOUT: Outcome.TIMEOUT, Kind.CANCELLED: Outcome.CANCELLED}

# How far a feeder gets ahead of what was sent to workers. With less, workers wait for the feeder's
# next turn of the GIL (5 ms); with more, a map over 10 GB holds more of it as pickles.
AHEAD_TASKS = 16384
AHEAD_BYTES = 32 << 20

_ids = itertools.count(1)


class Sink(Protocol):
    """What the caller holds of a job; the scheduler's thread fills it and never waits for it."""

    def receive(self, first: int, count: int, kind: int, payloads: list[Any]) -> None:
        """Take the outcome of `count` items from `first` on; kinds as in messages, PARENT_ERROR."""

    def tell(self) -> None:
        """Wake whoever waits."""

    def finish(self, callbacks: Callbacks) -> None:
        """Wake whoever waits, after the callback if there is one."""


class Job:
    """A call on the pool; or several (see `streams`), where it is `shared`.

    The feeder (one thread) appends to `pending`, the scheduler's thread takes from it; each of the
    other fields has one writer too.

    Attributes:
        chunk: items per task; 1 for a payload that is an item.
        listed: whether payloads are lists of items (tasks of a chunksize above 1).
        pending: payloads not sent yet; for listed ones, (payload, number of items).
        fed: the feeder has appended its last.
        items_fed: how many items it appended.
        flawed: among the pending ones there may be an Unsendable.
        odd_sizes: of tasks that have not `chunk` items: the last one, or those with a flaw; None
            where each item is a task.
        dump_time: what pickling has taken, ns.
        hungry: the scheduler would like to be woken at the next one.
        cancelled: the feeder is to end.
        dropped: nothing more of it begins, whatever its feeder still appends: this is the outcome
            of what has not. None while it is wanted.
        interrupted_at: when what runs of it was to be interrupted, ns; 0: it is to run on.
        length: how many items there will be, None when that isn't known before they are fed.
        holders: workers that have the job's function, where it isn't kept.
        room: how far it may be read ahead of its iterator, None where that isn't bounded.
        timeout: how long an item may run (seconds), 0 for ever.
        retries: how often an item runs again that was lost with its worker.
        caller: number of the call that the job is from.
        feeder: the thread that feeds it, None when the caller does.
    """

    __slots__ = (
        "bytes_counted",
        "bytes_fed",
        "bytes_taken",
        "call",
        "caller",
        "cancelled",
        "chunk",
        "dropped",
        "dump_counted",
        "dump_time",
        "errors",
        "failed_outcome",
        "fed",
        "feeder",
        "feeder_waits",
        "flawed",
        "function",
        "holders",
        "hungry",
        "id",
        "interrupted_at",
        "items_counted",
        "items_done",
        "items_fed",
        "items_ok",
        "items_skipped",
        "items_taken",
        "kind",
        "length",
        "listed",
        "odd_sizes",
        "pending",
        "retries",
        "room",
        "row",
        "sink",
        "stop_on_error",
        "submitted",
        "tasks_counted",
        "tasks_fed",
        "tasks_taken",
        "timeout",
    )

    shared = False

    def __init__(
        self,
        kind: JobKind,
        function: Function,
        call: int,
        chunk: int,
        sink: Sink,
        *,
        stop_on_error: bool = False,
        retries: int = 0,
        timeout: float = 0.0,
    ) -> None:
        self.id = next(_ids)
        self.kind = kind
        self.function = function
        self.call = call
        self.chunk = chunk
        self.listed = chunk > 1
        self.stop_on_error = stop_on_error
        self.retries = retries
        self.timeout = timeout
        self.room: Room | None = None
        self.sink = sink
        self.submitted = time.monotonic_ns()
        self.pending: deque[Any] = deque()
        self.odd_sizes: deque[int] | None = deque() if chunk > 1 else None
        self.dump_time = self.dump_counted = self.bytes_counted = 0
        self.fed = False
        self.flawed = False
        self.hungry = True  # at first the scheduler does not know of it yet
        self.cancelled = False
        self.dropped: BaseException | None = None
        self.interrupted_at = 0
        self.length: int | None = None
        self.holders: list[Worker] = []
        self.caller = -1
        self.feeder: Thread | None = None
        self.feeder_waits: Lock | None = None
        self.items_fed = self.tasks_fed = self.bytes_fed = 0
        self.items_counted = self.tasks_counted = 0
        self.items_taken = self.tasks_taken = self.bytes_taken = 0
        self.items_done = self.items_ok = self.items_skipped = self.errors = 0
        self.failed_outcome = Outcome.OK
        self.row = -1

    def receive(self, first: int, count: int, kind: int, payloads: list[Any]) -> None:
        """Take the outcome of items."""
        self.items_done += count
        if kind in {Kind.ITEMS, Kind.LIST}:
            self.items_ok += count
        elif kind == Kind.SKIPPED:
            self.items_skipped += count
        else:
            self.errors += count
            if self.failed_outcome is Outcome.OK:
                self.failed_outcome = _OUTCOMES.get(kind, Outcome.ERROR)
        self.sink.receive(first, count, kind, payloads)

    @property
    def done(self) -> bool:
        """Whether every item has its outcome."""
        if self.dropped is not None:
            return self.items_done == self.items_taken
        return self.fed and self.items_done == self.items_fed

    @property
    def idle(self) -> bool:
        """Whether nothing of it is to be done, though it has not ended."""
        return False

    def items_total(self) -> int | None:
        """Return how many items there are, as far as that is known."""
        return self.items_fed if self.fed else self.length

    def counts(self) -> tuple[int, int | None, int]:
        """Return how many items are done, how many there are, and how many failed."""
        return self.items_done, self.items_total(), self.errors

    def waited_for(self) -> None:
        """See that somebody waits for it, or for one of the calls that share it."""

    def feed_one(self, payload: Any) -> None:
        """Feed all of a job of one item."""
        self.pending.append(payload)
        self.items_fed = self.tasks_fed = 1
        self.fed = True

    def oldest(self) -> int:
        """Return when the first of the tasks pending was submitted, ns."""
        return self.submitted

    def take(self, number: int) -> tuple[list[Any], int]:
        """Take so many single items; return their payloads, and when they were submitted."""
        pending = self.pending
        return [pending.popleft() for _ in range(number)], self.submitted

    def taken(self, tasks: int, items: int) -> None:
        """Note that so much of what was pending is on its way."""
        self.tasks_taken += tasks
        self.items_taken += items
        # By the mean size: the size of each would have to be asked for again.
        self.bytes_taken = self.bytes_fed - len(self.pending) * self.task_bytes()

    def task_bytes(self) -> int:
        """Return the mean size of a task's payload, at least 1."""
        return self.bytes_fed // (self.tasks_fed or 1) + 1

    def finish(self, callbacks: Callbacks) -> None:
        """Hand over what has ended."""
        self.sink.finish(callbacks)

    def refuse(self, error: BaseException) -> None:
        """End with an error, for any thread: nobody will run it."""
        self.cancelled = True
        self.sink.receive(0, 1, PARENT_ERROR, [error])
        self.sink.tell()

    def release_feeder(self) -> None:
        """Let a feeder go on that waits, unless it is too far ahead."""
        waits = self.feeder_waits
        if waits is not None and (
            self.cancelled
            or (
                self.tasks_fed - self.tasks_taken < AHEAD_TASKS // 2
                and self.bytes_fed - self.bytes_taken < AHEAD_BYTES // 2
            )
        ):
            self.feeder_waits = None
            waits.release()


class Sent:
    """A run of a job's items that was sent to a worker: the parent's ledger.

    Attributes:
        item: index in the job of the first item.
        first: its sequence number; set when it is sent.
        count: items; fewer than were sent, once some were taken back.
        received: how many of them have an outcome.
        payloads: kept, so that what hasn't begun can be sent again.
        skip: items at the start of the payload of a chunk that are not of this run.
        failed: an item of this chunk failed.
        attempts: workers that died with this at the head of what they had, not begun.
        losses: workers that died with items of this begun, and so how often it has run again.
        submitted: when its first item was, ns.
    """

    __slots__ = (
        "attempts",
        "count",
        "failed",
        "first",
        "item",
        "job",
        "losses",
        "payloads",
        "received",
        "skip",
        "submitted",
    )

    def __init__(
        self,
        job: Job,
        item: int,
        count: int,
        payloads: list[Any],
        *,
        skip: int = 0,
        submitted: int = 0,
    ) -> None:
        self.job = job
        self.submitted = submitted or job.submitted
        self.item = item
        self.first = 0
        self.count = count
        self.payloads = payloads
        self.skip = skip
        self.received = 0
        self.failed = False
        self.attempts = 0
        self.losses = 0

    @property
    def tasks(self) -> int:
        """How many tasks this is: one for (a part of) a chunk."""
        return 1 if self.job.listed else self.count

    def tail(self, offset: int) -> Sent:
        """Return the run from the item at `offset` on, not sent yet; this one ends before it."""
        count = self.count - offset
        self.count = offset
        if self.job.listed:
            skip = self.skip + offset
            tail = Sent(self.job, self.item + offset, count, self.payloads, skip=skip)
        else:
            rest = self.payloads[offset:]
            tail = Sent(self.job, self.item + offset, count, rest, submitted=self.submitted)
            del self.payloads[offset:]
        tail.attempts = 0 if offset else self.attempts
        tail.losses = self.losses
        return tail
