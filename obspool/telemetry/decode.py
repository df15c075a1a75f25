"""A segment's bytes made into a Snapshot, by the layout that its own header describes.

Whatever the bytes are, a Snapshot comes out: a state that this version doesn't know counts as the
usual one, text that isn't UTF-8 is replaced. Only a layout that contradicts itself is an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from obspool.telemetry.head import end, is_alive
from obspool.telemetry.histograms import Histograms
from obspool.telemetry.layout import counter_key
from obspool.telemetry.rows import (
    NANO,
    Picker,
    Row,
    Text,
    optional,
    wall,
    word,
)
from obspool.telemetry.slots import Slots
from obspool.telemetry.snapshot import (
    Event,
    JobSnapshot,
    Serializing,
    Snapshot,
    Tasks,
)
from obspool.words import (
    Direction,
    EventKind,
    ExitReason,
    IdleReason,
    JobKind,
    Outcome,
    PoolState,
)

if TYPE_CHECKING:
    from obspool.telemetry.slots import Reading
    from obspool.telemetry.snapshot import Histogram

_JOB_KINDS = tuple(JobKind)
_OUTCOMES = tuple(Outcome)
_EXIT_REASONS = tuple(ExitReason)
_IDLE_REASONS = tuple(IdleReason)
_DIRECTIONS = tuple(Direction)
_EVENT_KINDS = tuple(EventKind)
_POOL_STATES = tuple(PoolState)
_JOB_FIELDS = (
    "id",
    "kind",
    "submitted_wall",
    "ended_wall",
    "outcome",
    "items_total",
    "items_ok",
    "items_error",
    "items_skipped",
)
_EVENT_FIELDS = ("number", "wall", "kind", "slot", "pid", "generation")


def snapshot(reading: Reading) -> Snapshot:
    """Return the reading as a Snapshot.

    Raises:
        SegmentError: the header's layout contradicts itself.
    """
    return _Decoding(reading).snapshot()


class _Decoding:
    """One reading on its way into a Snapshot."""

    def __init__(self, reading: Reading) -> None:
        self.header = reading.header
        self.reading = reading
        self.cells = memoryview(reading.raw).cast("Q")
        self.table = self.header.table("pool")
        self.pool = Row(self.cells, self.table, self.table.at)
        self.times = Histograms(self.header.latency_bounds)
        self.times.check(self.table, "task_result_wait", "worker_startup")
        self.numbers = Histograms(self.header.count_bounds, 1)
        self.numbers.check(self.table, "task_items", "lifetime_tasks")
        self.state = word(_POOL_STATES, self.pool["state"], PoolState.RUNNING)
        self.alive = is_alive(reading.held, self.state)
        heartbeats = self.pool["heartbeat_wall"] - self.pool["heartbeat"]
        self.boot = heartbeats if reading.boot is None else reading.boot

    def snapshot(self) -> Snapshot:
        pool = self.pool
        slots = Slots(self.reading, pool, self.boot, alive=self.alive)
        workers = slots.workers()
        outcome, ended = end(pool, self.state, self.header.facts.start_time, alive=self.alive)
        return Snapshot(
            facts=self.header.facts,
            time=self.reading.now / NANO,
            alive=self.alive,
            heartbeat_time=pool["heartbeat_wall"] / NANO,
            state=self.state if self.alive else PoolState.ENDED,
            outcome=outcome,
            ended_time=ended,
            last_success_time=wall(pool["last_success_wall"]),
            workers_configured=pool["workers_configured"],
            max_tasks_per_child=pool["max_tasks_per_child"] or None,
            workers=workers,
            tasks=Tasks(
                queued=pool["tasks_queued"],
                # It may be older than the rows, but it is what the law is over.
                dispatched=max(0, pool["tasks_outstanding"] - slots.running),
                running=min(slots.running, pool["tasks_outstanding"]),
                result=pool["tasks_result"],
            ),
            queue_oldest_time=self._monotonic(pool["queue_oldest"]),
            jobs_in_progress=pool["jobs_in_progress"],
            jobs_submitted=pool.counts("jobs_submitted", _JOB_KINDS),
            jobs_completed=pool.counts("jobs_completed", _OUTCOMES),
            tasks_submitted=pool.counts("tasks_submitted", _JOB_KINDS),
            tasks_completed=pool.counts("tasks_completed", _OUTCOMES),
            items_submitted=pool["items_submitted"],
            items_completed=pool.counts("items_completed", _OUTCOMES),
            worker_exits=pool.counts("worker_exits", _EXIT_REASONS),
            tasks_stolen=pool["tasks_stolen"],
            items_retried=pool["items_retried"],
            callback_errors=pool["callback_errors"],
            telemetry_errors=pool["telemetry_errors"],
            task_wait=slots.task_wait(),
            task_run=slots.task_run(),
            task_result_wait=self._histogram(self.times, "task_result_wait"),
            item_run=slots.item_run(),
            worker_startup=self._histogram(self.times, "worker_startup"),
            task_items=self._histogram(self.numbers, "task_items"),
            task_bytes=pool.counts("task_bytes", _DIRECTIONS),
            serialize_seconds=Serializing(
                parent_dump=pool["dump"] / NANO,
                parent_load=pool["load"] / NANO,
                worker_dump=slots.dump / NANO,
                worker_load=slots.load / NANO,
            ),
            idle_seconds={
                reason: time / NANO for reason, time in pool.counts("idle", _IDLE_REASONS).items()
            },
            scheduler_busy_seconds=pool["scheduler_busy"] / NANO,
            job_duration=self._job_duration(),
            worker_lifetime_tasks=self._histogram(self.numbers, "lifetime_tasks"),
            worker_memory_growth=pool["memory_growth"],
            user_counters=self._user_counters(slots),
            jobs=self._jobs(),
            events=self._events(),
        )

    def _histogram(self, histograms: Histograms, name: str) -> Histogram:
        lanes = histograms.field(self.reading.raw, self.table, name, self.table.at)
        return histograms.made(lanes)

    def _job_duration(self) -> dict[JobKind, Histogram]:
        found = dict.fromkeys(_JOB_KINDS, self.times.made(0))
        places = self.times.places(self.table, "job_duration")
        for kind, place in zip(_JOB_KINDS, places, strict=False):
            lanes = self.times.lanes(self.reading.raw, self.table.at + place)
            found[kind] = self.times.made(lanes)
        return found

    def _user_counters(self, slots: Slots) -> dict[str, int]:
        """Return the program's counters: the parent's part is by place, the workers' by key."""
        table = self.header.table("counters")
        text = Text(table, "name")
        offset, size = self.table.fields.get("counter_values", (0, 0))
        found = {}
        for index in range(min(self.pool["counters"], table.count, size)):
            name = text(self.cells, table.at + index * table.stride)
            own = int(self.cells[self.table.at + offset + index])
            found[name] = own + slots.counted.get(counter_key(name), 0)
        return found

    def _monotonic(self, nanoseconds: int) -> float | None:
        return (nanoseconds + self.boot) / NANO if nanoseconds else None

    def _jobs(self) -> tuple[JobSnapshot, ...]:
        table = self.header.table("jobs")
        pick, function = Picker(table, *_JOB_FIELDS), Text(table, "function")
        jobs = []
        for index, numbers in enumerate(pick(self.cells)):
            number, kind, submitted, ended, outcome, total, ok, error, skipped = numbers
            if number:
                job = JobSnapshot(
                    id=number,
                    kind=word(_JOB_KINDS, kind, JobKind.MAP),
                    function=function(self.cells, table.at + index * table.stride),
                    submitted_time=submitted / NANO,
                    ended_time=wall(ended),
                    outcome=optional(_OUTCOMES, outcome),
                    items_total=total - 1 if total else None,
                    items_ok=ok,
                    items_error=error,
                    items_skipped=skipped,
                )
                jobs.append(job)
        return tuple(sorted(jobs, key=lambda job: -job.id))

    def _events(self) -> tuple[Event, ...]:
        """Return the ring's records in order, without those that are being overwritten."""
        table = self.header.table("events")
        pick, text = Picker(table, *_EVENT_FIELDS), Text(table, "text")
        events = []
        for index, numbers in enumerate(pick(self.cells)):
            number, when, kind, slot, pid, generation = numbers
            if number and (number - 1) % table.count == index:
                event = Event(
                    number=number,
                    time=when / NANO,
                    kind=word(_EVENT_KINDS, kind, EventKind.TROUBLE),
                    slot=slot - 1 if slot else None,
                    pid=pid,
                    generation=generation,
                    text=text(self.cells, table.at + index * table.stride),
                )
                events.append(event)
        return tuple(sorted(events, key=lambda event: event.number))
