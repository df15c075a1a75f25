"""`obspool stats`: all that a pool tells, once, for people or as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from obspool import units
from obspool.cli import pools
from obspool.cli.table import Column, aligned
from obspool.words import PoolOutcome, WorkerState

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable, Iterator, Sequence

    from obspool.telemetry.snapshot import Histogram, JobSnapshot, Snapshot, WorkerSnapshot

_EVENTS = 10  # the newest; all of them are in the JSON
_JOBS = 8
_ERRORS = 5  # of items: the newest
_DOING = 40  # characters of the function and the item that runs
_SHOWN = 0.001  # seconds of idle time that are worth a word
_SILENT = 5.0  # seconds without a sign of the pool's own thread that are worth a word

_WORKER_COLUMNS = (
    Column("SLOT"),
    Column("PID"),
    Column("GEN"),
    Column("STATE", right=False),
    Column("FUNCTION", right=False),
    Column("FOR"),
    Column("TASKS"),
    Column("ITEMS"),
    Column("P50"),
    Column("P95"),
    Column("RSS"),
    Column("QUEUE"),
)
_JOB_COLUMNS = (
    Column("JOB"),
    Column("KIND", right=False),
    Column("FUNCTION", right=False),
    Column("DONE"),
    Column("OF"),
    Column("ERRORS"),
    Column("STATE", right=False),
    Column("TOOK"),
)
_TIME_COLUMNS = (
    Column("TIME", right=False),
    Column("P50"),
    Column("P95"),
    Column("MEAN"),
    Column("COUNT"),
)


def run(arguments: Namespace) -> int:
    """Print the pool's snapshot."""
    return show(arguments.pool, as_json=arguments.json)


def show(pool: str, *, as_json: bool) -> int:
    """Print a snapshot of the pool with that name or pid."""
    snapshot = pools.read(pools.the_pool(pool, running=False))
    if as_json:
        print(json.dumps(snapshot.as_dict(), indent=2))
    else:
        for line in described(snapshot):
            print(line)
    return 0


def described(snapshot: Snapshot) -> Iterator[str]:
    """Yield the snapshot's lines, for people."""
    yield from _head(snapshot)
    yield ""
    yield from aligned(_TIME_COLUMNS, _times(snapshot))
    if snapshot.workers:
        yield ""
        now = snapshot.time if snapshot.alive else snapshot.ended_time or snapshot.heartbeat_time
        rows = [_worker(each, now) for each in snapshot.present_workers]
        yield from aligned(_WORKER_COLUMNS, rows)
    if snapshot.jobs:
        yield ""
        jobs = snapshot.jobs[:_JOBS]
        yield from aligned(_JOB_COLUMNS, [_job(each, snapshot.time) for each in jobs])
    errors = [(error, worker.slot) for worker in snapshot.workers for error in worker.errors]
    if errors:
        yield ""
        for error, number in sorted(errors, key=lambda each: each[0].time)[-_ERRORS:]:
            where = " ".join(filter(None, (error.function, error.item)))
            text = units.printable(f"{error.text}  {where}".rstrip())
            yield f"{units.time_of_day(error.time)}  slot {number:<3} {text}"
    if snapshot.events:
        yield ""
        for event in snapshot.events[-_EVENTS:]:
            slot = "pool" if event.slot is None else f"slot {event.slot}"
            text = units.printable(event.text or event.kind.replace("_", " "))
            yield f"{units.time_of_day(event.time)}  {slot:8} {text}"


def _head(snapshot: Snapshot) -> Iterator[str]:
    facts = snapshot.facts
    origin = (facts.program, facts.start_method or facts.engine, f"Python {facts.python}")
    yield units.printable(f"{facts.name}  pid {facts.pid} · {' · '.join(origin)}")
    yield f"state      {_state(snapshot)}"
    silent = snapshot.time - max(facts.start_time, snapshot.heartbeat_time)
    if snapshot.alive and silent > _SILENT:
        yield f"           its own thread gave no sign for {units.span(silent)}: stuck or stopped"
    yield f"workers    {_workers(snapshot)}"
    tasks = snapshot.tasks
    yield (
        f"tasks      {tasks.queued:,} queued, {tasks.dispatched:,} dispatched, "
        f"{tasks.running:,} running, {tasks.result:,} with a result that waits"
    )
    yield f"items      {_items(snapshot)}"
    idle = ((reason, time) for reason, time in snapshot.idle_seconds.items() if time >= _SHOWN)
    told = ", ".join(f"{units.duration(time)} {reason}".replace("_", " ") for reason, time in idle)
    if told:
        yield f"idle       {told} (time of workers)"
    if snapshot.user_counters:
        counts = (f"{name} {count:,}" for name, count in snapshot.user_counters.items())
        yield units.printable(f"counters   {', '.join(counts)}")
    if facts.labels:
        labels = " ".join(f"{name}={value}" for name, value in facts.labels)
        yield units.printable(f"labels     {labels}")


def _state(snapshot: Snapshot) -> str:
    start = snapshot.facts.start_time
    if snapshot.alive:
        return f"{snapshot.state} for {units.uptime(snapshot.time - start)}"
    ended = snapshot.ended_time or snapshot.heartbeat_time
    how = snapshot.outcome or PoolOutcome.DIED
    return (
        f"ended, {how}, after {units.uptime(ended - start)}; "
        f"values are {units.span(snapshot.time - ended)} old"
    )


def _workers(snapshot: Snapshot) -> str:
    busy = sum(worker.state is WorkerState.BUSY for worker in snapshot.workers)
    limit = snapshot.max_tasks_per_child
    replaced = "" if limit is None else f", each replaced after {limit:,} tasks"
    exits = _counted(snapshot.worker_exits.items())
    return f"{snapshot.workers_configured}, {busy} busy{replaced}; exits: {exits or 'none'}"


def _items(snapshot: Snapshot) -> str:
    done = sum(snapshot.items_completed.values())
    until = snapshot.time if snapshot.alive else snapshot.ended_time or snapshot.heartbeat_time
    age = until - snapshot.facts.start_time
    rate = units.rate(done / age if age > 0 else None)
    counts = _counted(snapshot.items_completed.items())
    return f"{snapshot.items_submitted:,} submitted, {done:,} done ({counts or '-'}), {rate}/s"


def _counted(counts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{number:,} {word}" for word, number in counts if number)


def _times(snapshot: Snapshot) -> Iterator[Sequence[str]]:
    yield _time("task wait", snapshot.task_wait)
    yield _time("task run", snapshot.task_run)
    yield _time("task result wait", snapshot.task_result_wait)
    yield _time("worker startup", snapshot.worker_startup)
    for kind, histogram in snapshot.job_duration.items():
        if histogram.count:
            yield _time(f"job of {kind}", histogram)
    for function, histogram in snapshot.item_run.items():
        yield _time(f"item of {function}", histogram)


def _time(name: str, histogram: Histogram) -> Sequence[str]:
    return (
        name,
        units.duration(histogram.quantile(0.5)),
        units.duration(histogram.quantile(0.95)),
        units.duration(histogram.mean),
        units.count(histogram.count),
    )


def _worker(worker: WorkerSnapshot, now: float) -> Sequence[str]:
    started = worker.item_start_time
    state = worker.state if worker.exit_reason is None else f"{worker.state} ({worker.exit_reason})"
    return (
        str(worker.slot),
        str(worker.pid),
        str(worker.generation),
        f"{state} torn" if worker.torn else str(state),
        units.printable(worker.doing or units.NOTHING)[:_DOING],
        units.duration(None if started is None else now - started),
        units.count(sum(worker.tasks.values())),
        units.count(sum(worker.items.values())),
        units.duration(worker.item_run.quantile(0.5)),
        units.duration(worker.item_run.quantile(0.95)),
        units.size(worker.resident_memory),
        str(worker.queue_tasks),
    )


def _job(job: JobSnapshot, now: float) -> Sequence[str]:
    return (
        str(job.id),
        str(job.kind),
        job.function,
        f"{job.items_done:,}",
        units.NOTHING if job.items_total is None else f"{job.items_total:,}",
        f"{job.items_error:,}",
        "in progress" if job.outcome is None else str(job.outcome),
        units.duration((job.ended_time or now) - job.submitted_time),
    )
