"""What the parent writes into the segment: its own counts, workers as it knows them, jobs, events.

Used by the scheduler's thread only, but for `count_callback_error`. Counts are plain integers here
and are stored all at once when the thread goes to wait, so a busy pool pays for them once a round.
"""

from __future__ import annotations

import time
from array import array
from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

from obspool.telemetry.bank import OK, observe, observe_all
from obspool.telemetry.layout import (
    COUNT_BOUNDS,
    COUNT_WORDS,
    DESCRIPTION_WORDS,
    EVENT,
    EVENTS,
    FUNCTION,
    FUNCTION_NAME_WORDS,
    FUNCTIONS,
    HISTOGRAM_WORDS,
    JOB,
    JOBS,
    PARENT,
    POOL,
    TEXT_WORDS,
    WORD,
    WORKER,
    text_of,
    text_words,
)
from obspool.words import (
    Direction,
    EventKind,
    ExitReason,
    IdleReason,
    JobKind,
    Outcome,
    PoolOutcome,
    PoolState,
    WorkerState,
)

if TYPE_CHECKING:
    from obspool.engines.protocol import WorkerId
    from obspool.jobs import Job
    from obspool.telemetry.segment import Segment

KINDS = list(JobKind)
OUTCOMES = list(Outcome)
REASONS = list(ExitReason)
APPLY = KINDS.index(JobKind.APPLY)
_STATES = list(PoolState)
_POOL_OUTCOMES = list(PoolOutcome)
_WORKER_STATES = list(WorkerState)
_EVENT_KINDS = list(EventKind)
IN, OUT = map(list(Direction).index, (Direction.IN, Direction.OUT))


class LastSeen(NamedTuple):
    """What was last seen of a worker that died: its resident memory (bytes), and its item."""

    memory: int
    description: str


class Recorder:
    """The parent's counts; `flush` stores them.

    Attributes are named as the fields of the pool block are; those by kind, outcome or reason are
    lists in the order of the enumeration.
    """

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._pool = segment.layout.pool
        self.state = PoolState.RUNNING
        self.outcome = 0
        self.ended_wall = 0
        self.last_success_wall = 0
        self.workers_configured = 0
        self.max_tasks_per_child = 0
        self.jobs_in_progress = 0
        self.jobs_submitted = [0] * len(JobKind)
        self.jobs_completed = [0] * len(Outcome)
        self.tasks_submitted = [0] * len(JobKind)
        self.tasks_completed = [0] * len(Outcome)
        self.items_submitted = 0
        self.items_completed = [0] * len(Outcome)
        self.tasks_queued = 0
        self.tasks_outstanding = 0
        self.tasks_result = 0
        self.queue_oldest = 0
        self.worker_exits = [0] * len(ExitReason)
        self.tasks_stolen = 0
        self.items_retried = 0
        self.callback_errors = 0
        self.telemetry_errors = 0
        self.idle = [0] * len(IdleReason)
        self.task_bytes = [0] * len(Direction)
        self.dump = 0
        self.load = 0
        self.scheduler_busy = 0
        self.memory_growth = 0
        self.task_items = [0] * COUNT_WORDS
        # Their words are stored with the others: a job of one item has no time for it.
        self._job_duration = [[0] * HISTOGRAM_WORDS for _ in KINDS]
        self._changed_durations: set[int] = set()
        self._events = 0
        self._functions: list[str] = []
        self._rows: list[Job | None] = [None] * JOBS
        self._next_row = 0

    def flush(self, now: int) -> None:
        """Store the counts; `now` is CLOCK_MONOTONIC in ns."""
        cells, pool = self._segment.cells, self._pool
        # In the order of the block's fields: a test holds both together.
        values = [
            time.time_ns(),
            now,
            _STATES.index(self.state),
            self.outcome,
            self.ended_wall,
            self.last_success_wall,
            self.workers_configured,
            self.max_tasks_per_child,
            len(self._functions),
            self.jobs_in_progress,
            *self.jobs_submitted,
            *self.jobs_completed,
            *self.tasks_submitted,
            *self.tasks_completed,
            self.items_submitted,
            *self.items_completed,
            self.tasks_queued,
            self.tasks_outstanding,
            self.tasks_result,
            self.queue_oldest,
            *self.worker_exits,
            self.tasks_stolen,
            self.items_retried,
            self.callback_errors,
            self.telemetry_errors,
            *self.idle,
            *self.task_bytes,
            self.dump,
            self.load,
            self.scheduler_busy,
            self.memory_growth,
            *self.task_items,
        ]
        cells[pool : pool + len(values)] = array("Q", values)
        for kind in self._changed_durations:
            at = pool + POOL["job_duration"] + kind * HISTOGRAM_WORDS
            cells[at : at + HISTOGRAM_WORDS] = array("Q", self._job_duration[kind])
        self._changed_durations.clear()
        for job in self._rows:
            if job is not None:
                self._store_progress(job)

    def end(self, outcome: PoolOutcome) -> None:
        """Store the last counts, and how the pool ended."""
        self.state = PoolState.ENDED
        self.outcome = 1 + _POOL_OUTCOMES.index(outcome)
        self.ended_wall = time.time_ns()
        self.flush(time.monotonic_ns())

    def count_callback_error(self) -> None:
        """Count one, for a thread of its own, also after the end."""
        self.callback_errors += 1
        self._segment.cells[self._pool + POOL["callback_errors"]] = self.callback_errors

    def observe(self, histogram: str, duration: int, count: int = 1) -> None:
        """Add observations of a duration in ns to a histogram of the pool block."""
        observe(self._segment.cells, self._pool + POOL[histogram], max(0, duration), count)

    def observe_all(self, histogram: str, durations: list[int]) -> None:
        """Add observations of these durations in ns to a histogram of the pool block."""
        observe_all(self._segment.cells, self._pool + POOL[histogram], durations)

    def count_tasks(self, tasks: int, items: int) -> None:
        """Count tasks of so many items each, as they were asked for."""
        self.task_items[bisect_left(COUNT_BOUNDS, items)] += tasks
        self.task_items[-1] += tasks * items

    def store_load(self, total: int) -> None:
        """Store the time that unpickling took, for callers' threads, after the end."""
        self._segment.cells[self._pool + POOL["load"]] = total

    # -- events

    def event(
        self, kind: EventKind, text: str, worker: WorkerId | None = None, pid: int = 0
    ) -> None:
        """Append an event to the ring; its text is cut at 200 bytes."""
        cells, layout = self._segment.cells, self._segment.layout
        base = layout.events + (self._events % EVENTS) * EVENT.words
        self._events += 1
        cells[base + EVENT["number"]] = 0
        cells[base + EVENT["wall"]] = time.time_ns()
        cells[base + EVENT["kind"]] = _EVENT_KINDS.index(kind)
        cells[base + EVENT["slot"]] = worker.slot + 1 if worker else 0
        cells[base + EVENT["pid"]] = pid
        cells[base + EVENT["generation"]] = worker.generation if worker else 0
        self._text(base + EVENT["text"], TEXT_WORDS, text)
        cells[base + EVENT["number"]] = self._events
        cells[self._pool + POOL["events"]] = self._events

    def _text(self, base: int, words: int, text: str) -> None:
        self._segment.cells[base : base + words] = text_words(text, words)

    # -- workers

    def worker(self, worker: WorkerId, **values: int) -> None:
        """Store parent's fields of a bank, by name."""
        cells = self._segment.cells
        base = self._segment.layout.parent_block(*worker)
        for name, value in values.items():
            cells[base + PARENT[name]] = value

    def worker_starting(self, worker: WorkerId) -> None:
        """Take a bank for a new generation."""
        self.worker(
            worker,
            generation=worker.generation,
            pid=0,
            lifecycle=_WORKER_STATES.index(WorkerState.STARTING),
            started_wall=time.time_ns(),
            queue_tasks=0,
            resident_bytes=0,
            ready_resident_bytes=0,
            cpu_sample=0,
            sampled=0,
            exit_reason=0,
        )

    def worker_state(self, worker: WorkerId, state: WorkerState) -> None:
        """Store where in its life a worker is: idle means ready."""
        self.worker(worker, lifecycle=_WORKER_STATES.index(state))

    def worker_exited(self, worker: WorkerId, reason: ExitReason) -> None:
        """Count a worker's end."""
        self.worker_exits[REASONS.index(reason)] += 1
        self.memory_growth += self._growth(worker)
        self.worker(worker, exit_reason=REASONS.index(reason) + 1, queue_tasks=0)
        self.worker_state(worker, WorkerState.GONE)

    def lived(self, tasks: int) -> None:
        """Count how many tasks a worker had that is gone, and was ready once."""
        cells, base = self._segment.cells, self._pool + POOL["lifetime_tasks"]
        cells[base + bisect_left(COUNT_BOUNDS, tasks)] += 1
        cells[base + COUNT_WORDS - 1] += tasks

    def _growth(self, worker: WorkerId) -> int:
        """Return by how much a worker's memory grew: by its own word, else as last sampled."""
        cells, layout = self._segment.cells, self._segment.layout
        told, own = layout.parent_block(*worker), layout.worker_block(*worker)
        first = cells[own + WORKER["first_resident"]]
        last = cells[own + WORKER["last_resident"]] or cells[told + PARENT["resident_bytes"]]
        first = first or cells[told + PARENT["ready_resident_bytes"]]
        return int(max(0, last - first)) if first and last else 0

    def last_seen(self, worker: WorkerId, begun: int) -> LastSeen:
        """Return a worker's memory as last sampled (bytes, 0 before), and how its item is named.

        `begun`: the number below which items have begun.
        """
        cells, layout = self._segment.cells, self._segment.layout
        memory = cells[layout.parent_block(*worker) + PARENT["resident_bytes"]]
        base = layout.worker_block(*worker)
        if cells[base + WORKER["described"]] != begun:  # it died before its item was described
            return LastSeen(int(memory), "")
        at = base + WORKER["description"]
        return LastSeen(int(memory), text_of(cells[at : at + DESCRIPTION_WORDS]))

    # -- functions and jobs

    def label(self, name: str) -> int:
        """Return the number of a function's histogram; FUNCTIONS is the one for all others."""
        try:
            return self._functions.index(name)
        except ValueError:
            pass
        if len(self._functions) == FUNCTIONS:
            return FUNCTIONS
        number = len(self._functions)
        base = self._segment.layout.functions + number * FUNCTION.words
        self._text(base + FUNCTION["name"], FUNCTION_NAME_WORDS, name)
        self._functions.append(name)
        self._segment.cells[self._pool + POOL["functions"]] = len(self._functions)
        return number

    def job_submitted(self, job: Job) -> None:
        """Count a job, and give it a row if it may have progress to show."""
        kind = KINDS.index(job.kind)
        self.jobs_submitted[kind] += 1
        self.jobs_in_progress += 1
        if job.kind is JobKind.APPLY:
            return
        row = self._free_row()
        if row is None:
            return
        job.row = row
        self._rows[row] = job
        cells, base = self._segment.cells, self._row_base(row)
        cells[base : base + JOB.words] = memoryview(bytes(JOB.words * WORD)).cast("Q")
        cells[base + JOB["kind"]] = kind
        cells[base + JOB["submitted_wall"]] = time.time_ns()
        self._text(base + JOB["function"], FUNCTION_NAME_WORDS, job.function.name)
        cells[base + JOB["id"]] = job.id

    def job_completed(self, job: Job, outcome: Outcome) -> None:
        """Count a job's end."""
        self.jobs_in_progress -= 1
        self.jobs_completed[OUTCOMES.index(outcome)] += 1
        kind = KINDS.index(job.kind)
        observe(self._job_duration[kind], 0, time.monotonic_ns() - job.submitted)
        self._changed_durations.add(kind)
        if outcome is Outcome.OK:
            self.last_success_wall = time.time_ns()
        if job.row < 0:
            return
        self._store_progress(job)
        base = self._row_base(job.row)
        self._segment.cells[base + JOB["outcome"]] = OUTCOMES.index(outcome) + 1
        self._segment.cells[base + JOB["ended_wall"]] = time.time_ns()
        self._rows[job.row] = None

    def calls_submitted(self, number: int) -> None:
        """Count jobs of one item each, which have no rows."""
        self.jobs_submitted[APPLY] += number
        self.jobs_in_progress += number

    def calls_completed(self, outcome: int, durations: list[int]) -> None:
        """Count the end of such jobs, which took these times in ns."""
        number = len(durations)
        self.jobs_in_progress -= number
        self.jobs_completed[outcome] += number
        if outcome == OK:
            self.last_success_wall = time.time_ns()
        observe_all(self._job_duration[APPLY], 0, durations)
        self._changed_durations.add(APPLY)

    def _store_progress(self, job: Job) -> None:
        cells, base = self._segment.cells, self._row_base(job.row)
        total = job.items_total()
        if total is not None:
            cells[base + JOB["items_total"]] = total + 1
        cells[base + JOB["items_ok"]] = job.items_ok
        cells[base + JOB["items_error"]] = job.errors
        cells[base + JOB["items_skipped"]] = job.items_skipped

    def _row_base(self, row: int) -> int:
        return self._segment.layout.jobs + row * JOB.words

    def _free_row(self) -> int | None:
        """Return the row that was free for longest."""
        for step in range(JOBS):
            row = (self._next_row + step) % JOBS
            if self._rows[row] is None:
                self._next_row = row + 1
                return row
        return None
