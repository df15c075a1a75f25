"""Snapshots made up for tests: deterministic, and as a real batch job's in its 43rd minute.

A test that wants something special changes them with `dataclasses.replace`. The module
`tests.synthetic_segment` writes them into segments.
"""

from __future__ import annotations

import dataclasses
import os
import random
from functools import lru_cache
from typing import TYPE_CHECKING

from obspool.telemetry.facts import PoolFacts
from obspool.telemetry.layout import COUNT_BOUNDS
from obspool.telemetry.layout import LATENCY_BOUNDS as BOUNDS
from obspool.telemetry.snapshot import (
    Event,
    Histogram,
    ItemError,
    JobSnapshot,
    Serializing,
    Snapshot,
    Tasks,
    WorkerSnapshot,
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
    from collections.abc import Iterable, Mapping, Sequence

NOW = 1_750_000_000.0  # a Sunday in June 2025
AGE = 2537.0
FACTS = PoolFacts(
    name="nightly",
    pid=41822,
    uid=os.getuid(),
    start_time=NOW - AGE,
    engine="processes",
    start_method="fork",
    version="0.1.0",
    python="3.11.7",
    program="nightly.py",
    boot_id="",
    pid_namespace=4026531836,
    process_start_ticks=123456,
    control=None,
    labels=(("dag", "thumbnails"), ("slurm_job", "4711")),
)


def histogram(count: int, typical: float, dice: random.Random) -> Histogram:
    """Return `count` observations spread around `typical` seconds as durations are: lognormally."""
    observed = [typical * dice.lognormvariate(0, 0.8) for _ in range(min(count, 400))]
    share = count // len(observed) if observed else 0
    counts = [0] * (len(BOUNDS) + 1)
    for value in observed:
        counts[sum(value > bound for bound in BOUNDS)] += share
    if observed:
        counts[sum(typical > bound for bound in BOUNDS)] += count - share * len(observed)
    return Histogram(BOUNDS, tuple(counts), round(count * typical * 1.37, 6))


@lru_cache(maxsize=4096)
def _drawn(count: int, typical: float, seed: int) -> Histogram:
    """Return such a histogram, the same for the same seed: a film asks for it again and again."""
    return histogram(count, typical, random.Random(seed))  # noqa: S311 - no secrets


def numbers(observed: Mapping[int, int]) -> Histogram:
    """Return a histogram of how many, each so often."""
    counts = [0] * (len(COUNT_BOUNDS) + 1)
    for number, times in observed.items():
        counts[sum(number > bound for bound in COUNT_BOUNDS)] += times
    total = sum(number * times for number, times in observed.items())
    return Histogram(COUNT_BOUNDS, tuple(counts), float(total))


def _outcomes(**values: int) -> dict[Outcome, int]:
    return {word: values.get(word.value, 0) for word in Outcome}


def make_worker(
    slot: int, *, now: float = NOW, seed: int = 0, alive: bool = True
) -> WorkerSnapshot:
    """Return a slot of the made-up pool: 1 stuck, 2 idle, 3 starting, each eighth draining."""
    dice = random.Random((seed << 16) + slot)  # noqa: S311 - made-up numbers, no secrets
    state = {1: WorkerState.BUSY, 2: WorkerState.IDLE, 3: WorkerState.STARTING}.get(
        slot % 8, WorkerState.DRAINING if slot and slot % 8 == 0 else WorkerState.BUSY
    )
    if not alive:
        state = WorkerState.GONE
    busy = state in {WorkerState.BUSY, WorkerState.DRAINING}
    starting = state is WorkerState.STARTING
    tasks = 1400 + dice.randrange(200)
    errors = dice.randrange(3)
    generation = 1 + dice.randrange(5)
    running_for = 41.25 if slot % 8 == 1 else 0.125 * (1 + dice.randrange(4))
    ready = 180 << 20
    growth = dice.randrange(24) << 20
    return WorkerSnapshot(
        slot=slot,
        generation=generation,
        pid=41_900 + slot + generation * 64,
        state=state,
        torn=False,
        start_time=now - 60.0 - dice.randrange(400),
        function="resize_image" if busy else None,
        task_start_time=now - running_for if busy else None,
        item_start_time=now - running_for / 2 if busy else None,
        process_tasks=0 if starting else dice.randrange(700),
        queue_tasks=2 if busy else 0,
        resident_memory=31 << 20 if starting else ready + growth,
        memory_growth=0 if starting else growth,
        cpu_seconds=2214.5 + dice.randrange(60),
        busy_seconds=2290.25 + dice.randrange(60),
        restarts=generation - 1,
        tasks=_outcomes(ok=tasks - errors, error=errors),
        items=_outcomes(ok=100 * tasks - errors, error=errors),
        item_run=_drawn(100 * tasks, 0.0017, (seed << 16) + slot),
        exit_reason=None if alive else ExitReason.SHUTDOWN,
        errors=_errors(slot, min(errors, generation), generation, now),
    )


def _errors(slot: int, number: int, generation: int, now: float) -> tuple[ItemError, ...]:
    """Return the last errors of a slot, one of each of its last generations."""
    return tuple(
        ItemError(
            time=now - 300.0 * (number - index) - slot,
            generation=generation - number + 1 + index,
            function="resize_image",
            item=f"img_{4711 + 60 * slot + index}.png",
            text="ValueError: not an image: its header is cut short after 12 bytes",
        )
        for index in range(number)
    )


def _sum(counts: Iterable[Mapping[Outcome, int]]) -> dict[Outcome, int]:
    rows = list(counts)
    return {word: sum(row[word] for row in rows) for word in Outcome}


def make_jobs(done: Mapping[Outcome, int], *, now: float = NOW) -> tuple[JobSnapshot, ...]:
    """Return a running `imap_unordered` of nearly all the items, and a `map` that ended before."""
    errors = done[Outcome.ERROR]
    earlier = 5_000 if done[Outcome.OK] else 0
    return (
        JobSnapshot(
            id=2,
            kind=JobKind.IMAP_UNORDERED,
            function="resize_image",
            submitted_time=now - AGE + 30.0,
            ended_time=None,
            outcome=None,
            items_total=sum(done.values()) + 70_000 - earlier,
            items_ok=done[Outcome.OK] - earlier,
            items_error=errors,
            items_skipped=0,
        ),
        JobSnapshot(
            id=1,
            kind=JobKind.MAP,
            function="list_images",
            submitted_time=now - AGE + 1.0,
            ended_time=now - AGE + 29.5,
            outcome=Outcome.OK,
            items_total=earlier,
            items_ok=earlier,
            items_error=0,
            items_skipped=0,
        ),
    )


def make_events(*, now: float = NOW) -> tuple[Event, ...]:
    """Return a start, a planned recycle and a lost worker."""
    return (
        Event(1, now - AGE, EventKind.POOL_STARTED, None, 41822, 0, "8 workers by fork"),
        Event(2, now - 600.0, EventKind.WORKER_EXITED, 3, 42036, 4, "recycled after 700 tasks"),
        Event(3, now - 599.75, EventKind.WORKER_STARTED, 3, 42102, 5, "ready in 0.21 s"),
        Event(
            number=4,
            time=now - 391.0,
            kind=EventKind.WORKER_EXITED,
            slot=1,
            pid=41877,
            generation=1,
            text="lost: killed by SIGKILL",
        ),
    )


def make_snapshot(
    workers: int = 8,
    *,
    name: str = "nightly",
    now: float = NOW,
    seed: int = 0,
    outcome: PoolOutcome | None = None,
    facts: PoolFacts = FACTS,
) -> Snapshot:
    """Return the snapshot of a made-up pool; the counts obey the law of the ledger.

    Args:
        workers: slots, of which 3 idles or starts in each eight.
        name: the pool's.
        now: when it was read, in seconds of the UNIX epoch; the pool is 2,537 s old then.
        seed: another one, other numbers.
        outcome: None for a pool that runs; else it ended 20 s before `now`.
        facts: its name is replaced by `name`, its start time by one that suits `now`.
    """
    alive = outcome is None
    pending = not alive and outcome is not PoolOutcome.FINISHED
    slots = tuple(make_worker(slot, now=now, seed=seed, alive=alive) for slot in range(workers))
    done_tasks = _sum(worker.tasks for worker in slots)
    done_items = _sum(worker.items for worker in slots)
    running = sum(worker.task_start_time is not None for worker in slots)
    dispatched = sum(worker.queue_tasks for worker in slots)
    queued = 182 if alive or pending else 0
    waiting = running + dispatched + queued
    tasks, items = sum(done_tasks.values()), sum(done_items.values())
    items_pending = 100 * waiting
    jobs = make_jobs(done_items, now=now)
    if not alive:
        ended = Outcome.CANCELLED if pending else Outcome.OK
        jobs = (dataclasses.replace(jobs[0], ended_time=now - 20.0, outcome=ended), *jobs[1:])
    return Snapshot(
        facts=dataclasses.replace(facts, name=name, start_time=now - AGE),
        time=now,
        alive=alive,
        heartbeat_time=now - (0.25 if alive else 20.0),
        state=PoolState.RUNNING if alive else PoolState.ENDED,
        outcome=outcome,
        ended_time=None if alive else now - 20.0,
        last_success_time=now - AGE + 29.5,
        workers_configured=workers,
        max_tasks_per_child=700,
        workers=slots,
        tasks=Tasks(queued=queued, dispatched=dispatched, running=running, result=3),
        queue_oldest_time=now - 12.5 if queued else None,
        jobs_in_progress=1 if alive else 0,
        jobs_submitted={**_kinds(), JobKind.MAP: 1, JobKind.IMAP_UNORDERED: 1},
        jobs_completed=_outcomes(ok=1 if alive or pending else 2, cancelled=1 if pending else 0),
        tasks_submitted={**_kinds(), JobKind.MAP: 50, JobKind.IMAP_UNORDERED: tasks + waiting - 50},
        tasks_completed=done_tasks,
        items_submitted=items + items_pending,
        items_completed=done_items,
        worker_exits={**dict.fromkeys(ExitReason, 0), ExitReason.TASKS: 14, ExitReason.LOST: 1},
        tasks_stolen=41,
        items_retried=3,
        callback_errors=1,
        telemetry_errors=0,
        task_wait=_drawn(tasks + running, 0.09, seed),
        task_run=_drawn(tasks, 0.17, seed + 1),
        task_result_wait=_drawn(tasks, 0.0006, seed + 2),
        item_run=_functions(slots),
        worker_startup=_drawn(workers + 15, 0.21, seed + 3),
        task_items=numbers({100: tasks + waiting, 1: 3}),
        task_bytes={Direction.IN: 9_400 * (tasks + waiting), Direction.OUT: 480 * tasks},
        serialize_seconds=Serializing(
            parent_dump=4.25, parent_load=1.5, worker_dump=2.75, worker_load=9.125
        ),
        idle_seconds={
            IdleReason.NO_WORK: 61.5,
            IdleReason.STARVED: 8.25,
            IdleReason.TAIL: 41.0,
            IdleReason.PAUSED: 2.0,
            IdleReason.RECYCLING: 3.125,
        },
        scheduler_busy_seconds=37.5,
        job_duration={
            **dict.fromkeys(JobKind, _drawn(0, 1.0, seed)),
            JobKind.MAP: _drawn(1, 28.5, seed),
        },
        worker_lifetime_tasks=numbers({700: 14, 312: 1}),
        worker_memory_growth=311 << 20,
        user_counters={"rows_read": 7 * items, "images_skipped": 12},
        jobs=jobs,
        events=make_events(now=now),
    )


def _kinds() -> dict[JobKind, int]:
    return dict.fromkeys(JobKind, 0)


def _functions(slots: Sequence[WorkerSnapshot]) -> dict[str, Histogram]:
    empty = Histogram(BOUNDS, (0,) * (len(BOUNDS) + 1), 0.0)
    return {
        "list_images": empty,
        "resize_image": sum((worker.item_run for worker in slots), start=empty),
    }
