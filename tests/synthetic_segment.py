"""Segments made up for tests: the numbers of a snapshot, stored as a pool's own writers would.

fill(cells, layout, snapshot)     into a segment of your own
live_segment(snapshot)            a segment in OBSPOOL_DIR whose lock this process holds
write_segment(directory, ...)     a file without an owner: a pool that ended, or one that died
"""

from __future__ import annotations

import dataclasses
from contextlib import contextmanager
from typing import TYPE_CHECKING

from obspool.telemetry import header
from obspool.telemetry.layout import (
    COUNTER,
    COUNTER_NAME_WORDS,
    ERROR_ITEM_WORDS,
    EVENT,
    EVENTS,
    FUNCTION,
    FUNCTION_NAME_WORDS,
    FUNCTIONS,
    HISTOGRAM_WORDS,
    ITEM_ERRORS,
    JOB,
    PARENT,
    POOL,
    TEXT_WORDS,
    WORD,
    WORKER,
    Layout,
    counter_key,
)
from obspool.telemetry.segment import Segment
from obspool.words import (
    EventKind,
    ExitReason,
    JobKind,
    Outcome,
    PoolOutcome,
    PoolState,
    WorkerState,
)
from tests.synthetic import NOW, make_snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from enum import StrEnum
    from pathlib import Path

    from obspool.telemetry.snapshot import Histogram, ItemError, Snapshot, WorkerSnapshot

SECOND = 1_000_000_000
# The made-up host started five days before: what its wall clock says less its monotonic one.
BOOT = int((NOW - 5 * 86_400) * SECOND)


def nanoseconds(seconds: float | None) -> int:
    """Return a time or duration as a segment has it; 0 for None."""
    if seconds is None:
        return 0
    whole = int(seconds)  # a float of nanoseconds of the epoch would be off by a hundred
    return whole * SECOND + round((seconds - whole) * SECOND)


@contextmanager
def live_segment(snapshot: Snapshot | None = None, slots: int = 0) -> Iterator[Segment]:
    """Publish a filled segment, which lives until the end of the `with` at the latest."""
    shown = snapshot or make_snapshot()
    segment = Segment.create(shown.facts, max(slots, len(shown.workers)))
    try:
        fill(segment.cells, segment.layout, shown)
        yield segment
    finally:
        segment.close(PoolOutcome.FINISHED)


def write_segment(
    directory: Path,
    snapshot: Snapshot | None = None,
    *,
    outcome: PoolOutcome | None = PoolOutcome.FINISHED,
) -> Path:
    """Write the file of a pool without an owner and return its path.

    Args:
        directory: where.
        snapshot: what it holds; None for a made-up one that ended so.
        outcome: DIED or None leave the state as it was: a reader finds out by itself.
    """
    shown = snapshot or make_snapshot(outcome=outcome)
    if outcome is PoolOutcome.DIED:
        shown = dataclasses.replace(shown, state=PoolState.RUNNING, outcome=None, ended_time=None)
    layout = header.fitting(shown.facts, len(shown.workers))
    raw = bytearray(layout.words * WORD)
    head = header.encode(shown.facts, layout)
    raw[: len(head)] = head
    fill(memoryview(raw).cast("Q"), layout, shown)
    path = directory / f"{shown.facts.name}.{abs(hash(shown.facts)) % 16**12:012x}.obspool"
    path.write_bytes(raw)
    return path


def fill(cells: memoryview, layout: Layout, snapshot: Snapshot, boot: int = BOOT) -> None:
    """Store a snapshot's numbers; a reader gives the same snapshot back.

    Args:
        cells: of the whole segment; the header stays as it is.
        layout: where everything goes.
        snapshot: its workers' slots must fit the layout.
        boot: wall time less CLOCK_MONOTONIC, in nanoseconds.
    """
    names = [name for name in snapshot.item_run if name != "other"][:FUNCTIONS]
    _Filling(cells, layout, snapshot, boot, names).fill()


class _Filling:
    def __init__(
        self, cells: memoryview, layout: Layout, snapshot: Snapshot, boot: int, names: list[str]
    ) -> None:
        self.cells = cells
        self.layout = layout
        self.snapshot = snapshot
        self.boot = boot
        self.names = names

    def fill(self) -> None:
        snapshot, layout = self.snapshot, self.layout
        self._pool()
        for index, name in enumerate(self.names):
            self._text(layout.functions + index * FUNCTION.words, FUNCTION_NAME_WORDS, name)
        for worker in snapshot.workers:
            self._worker(worker)
        self._counters()
        if snapshot.workers:  # what isn't told by worker is put into the first one's bank
            first = snapshot.workers[0]
            at = layout.worker_block(first.slot, first.generation)
            self._histogram(at + WORKER["task_wait"], snapshot.task_wait)
            self._histogram(at + WORKER["task_run"], snapshot.task_run)
            self.cells[at + WORKER["load"]] = nanoseconds(snapshot.serialize_seconds.worker_load)
            self.cells[at + WORKER["dump"]] = nanoseconds(snapshot.serialize_seconds.worker_dump)
        for index, job in enumerate(snapshot.jobs):
            at = layout.jobs + index * JOB.words
            self.cells[at + JOB["id"]] = job.id
            self.cells[at + JOB["kind"]] = list(JobKind).index(job.kind)
            self.cells[at + JOB["submitted_wall"]] = nanoseconds(job.submitted_time)
            self.cells[at + JOB["ended_wall"]] = nanoseconds(job.ended_time)
            self.cells[at + JOB["outcome"]] = _optional(Outcome, job.outcome)
            total = job.items_total
            self.cells[at + JOB["items_total"]] = 0 if total is None else 1 + total
            self.cells[at + JOB["items_ok"]] = job.items_ok
            self.cells[at + JOB["items_error"]] = job.items_error
            self.cells[at + JOB["items_skipped"]] = job.items_skipped
            self._text(at + JOB["function"], FUNCTION_NAME_WORDS, job.function)
        for event in snapshot.events:
            at = layout.events + (event.number - 1) % EVENTS * EVENT.words
            self.cells[at + EVENT["wall"]] = nanoseconds(event.time)
            self.cells[at + EVENT["kind"]] = list(EventKind).index(event.kind)
            self.cells[at + EVENT["slot"]] = 0 if event.slot is None else 1 + event.slot
            self.cells[at + EVENT["pid"]] = event.pid
            self.cells[at + EVENT["generation"]] = event.generation
            self._text(at + EVENT["text"], TEXT_WORDS, event.text)
            self.cells[at + EVENT["number"]] = event.number

    def _pool(self) -> None:
        snapshot, at = self.snapshot, self.layout.pool
        heartbeat = nanoseconds(snapshot.heartbeat_time)
        outstanding = snapshot.tasks.dispatched + snapshot.tasks.running
        numbers = {
            "heartbeat_wall": heartbeat,
            "heartbeat": heartbeat - self.boot,
            "state": list(PoolState).index(snapshot.state),
            "outcome": _optional(PoolOutcome, snapshot.outcome),
            "ended_wall": nanoseconds(snapshot.ended_time),
            "last_success_wall": nanoseconds(snapshot.last_success_time),
            "workers_configured": snapshot.workers_configured,
            "max_tasks_per_child": snapshot.max_tasks_per_child or 0,
            "functions": len(self.names),
            "jobs_in_progress": snapshot.jobs_in_progress,
            "items_submitted": snapshot.items_submitted,
            "tasks_queued": snapshot.tasks.queued,
            "tasks_outstanding": outstanding,
            "tasks_result": snapshot.tasks.result,
            "queue_oldest": self._monotonic(snapshot.queue_oldest_time),
            "tasks_stolen": snapshot.tasks_stolen,
            "items_retried": snapshot.items_retried,
            "callback_errors": snapshot.callback_errors,
            "telemetry_errors": snapshot.telemetry_errors,
            "dump": nanoseconds(snapshot.serialize_seconds.parent_dump),
            "load": nanoseconds(snapshot.serialize_seconds.parent_load),
            "scheduler_busy": nanoseconds(snapshot.scheduler_busy_seconds),
            "memory_growth": snapshot.worker_memory_growth,
            "counters": len(snapshot.user_counters),
            "events": max((event.number for event in snapshot.events), default=0),
        }
        for name, number in numbers.items():
            self.cells[at + POOL[name]] = number
        self._counts(at + POOL["jobs_submitted"], snapshot.jobs_submitted.values())
        self._counts(at + POOL["jobs_completed"], snapshot.jobs_completed.values())
        self._counts(at + POOL["tasks_submitted"], snapshot.tasks_submitted.values())
        self._counts(at + POOL["tasks_completed"], snapshot.tasks_completed.values())
        self._counts(at + POOL["items_completed"], snapshot.items_completed.values())
        self._counts(at + POOL["worker_exits"], snapshot.worker_exits.values())
        self._histogram(at + POOL["task_result_wait"], snapshot.task_result_wait)
        self._histogram(at + POOL["worker_startup"], snapshot.worker_startup)
        self._counts(at + POOL["idle"], map(nanoseconds, snapshot.idle_seconds.values()))
        self._counts(at + POOL["task_bytes"], snapshot.task_bytes.values())
        self._histogram(at + POOL["task_items"], snapshot.task_items, 1)
        self._histogram(at + POOL["lifetime_tasks"], snapshot.worker_lifetime_tasks, 1)
        for index, histogram in enumerate(snapshot.job_duration.values()):
            self._histogram(at + POOL["job_duration"] + index * HISTOGRAM_WORDS, histogram)

    def _counters(self) -> None:
        """Store the program's counters: one in the parent's and a worker's part, each."""
        layout, workers = self.layout, self.snapshot.workers
        for index, (name, value) in enumerate(self.snapshot.user_counters.items()):
            at = layout.counters + index * COUNTER.words
            self._text(at, COUNTER_NAME_WORDS, name)
            place = layout.pool + POOL["counter_values"] + index
            self.cells[place] = value
            if workers:
                worker = workers[-1 - index % len(workers)]
                at = layout.worker_block(worker.slot, worker.generation)
                self.cells[at + WORKER["counter_keys"] + index] = counter_key(name)
                self.cells[at + WORKER["counter_values"] + index] = value // 3
                self.cells[place] -= value // 3

    def _worker(self, worker: WorkerSnapshot) -> None:
        lifecycle = WorkerState.IDLE if worker.state is WorkerState.BUSY else worker.state
        ready = worker.resident_memory - worker.memory_growth
        at = self.layout.parent_block(worker.slot, worker.generation)
        told = {
            "generation": worker.generation,
            "pid": worker.pid,
            "lifecycle": list(WorkerState).index(lifecycle),
            "started_wall": nanoseconds(worker.start_time),
            "queue_tasks": worker.queue_tasks,
            "resident_bytes": worker.resident_memory,
            "ready_resident_bytes": ready if worker.resident_memory else 0,
            "exit_reason": _optional(ExitReason, worker.exit_reason),
        }
        for name, number in told.items():
            self.cells[at + PARENT[name]] = number
        at = self.layout.worker_block(worker.slot, worker.generation)
        function = self.names.index(worker.function) + 1 if worker.function in self.names else 0
        if worker.function == "other":
            function = FUNCTIONS + 1
        own = {
            "sequence": 1 if worker.torn else 2,
            "task_start": self._monotonic(worker.task_start_time),
            "slice_start": self._monotonic(worker.item_start_time),
            "function": function,
            "process_tasks": worker.process_tasks,
            "busy": nanoseconds(worker.busy_seconds),
            "cpu": nanoseconds(worker.cpu_seconds),
        }
        for name, number in own.items():
            self.cells[at + WORKER[name]] = number
        self._counts(at + WORKER["tasks"], worker.tasks.values())
        self._counts(at + WORKER["items"], worker.items.values())
        # A snapshot doesn't tell which function a worker's items were of: all of the last one.
        last = len(self.names) - 1 if self.names else FUNCTIONS
        self._histogram(at + WORKER["item_run"] + last * HISTOGRAM_WORDS, worker.item_run)
        for number, error in enumerate(worker.errors):
            self._error(worker.slot, number, error)

    def _error(self, slot: int, number: int, error: ItemError) -> None:
        at = self.layout.errors_block(slot, error.generation)
        told = {
            "number": number + 1,
            "again": number + 1,
            "wall": nanoseconds(error.time),
            "generation": error.generation,
            "function": 0 if error.function is None else self.names.index(error.function) + 1,
        }
        for name, word in told.items():
            self.cells[at + ITEM_ERRORS[name] + number] = word
        place = at + ITEM_ERRORS["item"] + number * ERROR_ITEM_WORDS
        self._text(place, ERROR_ITEM_WORDS, error.item)
        self._text(at + ITEM_ERRORS["text"] + number * TEXT_WORDS, TEXT_WORDS, error.text)

    def _monotonic(self, seconds: float | None) -> int:
        return 0 if seconds is None else nanoseconds(seconds) - self.boot

    def _counts(self, at: int, counts: Iterable[int]) -> None:
        for index, count in enumerate(counts):
            self.cells[at + index] = count

    def _histogram(self, at: int, histogram: Histogram, unit: int = SECOND) -> None:
        total = nanoseconds(histogram.sum) * unit // SECOND
        for index, count in enumerate((*histogram.counts, total)):
            self.cells[at + index] = count

    def _text(self, at: int, words: int, text: str) -> None:
        raw = text.encode()[: words * WORD].ljust(words * WORD, b"\0")
        self.cells[at : at + words] = memoryview(raw).cast("Q")


def _optional(words: type[StrEnum], member: StrEnum | None) -> int:
    return 0 if member is None else 1 + list(words).index(member)
