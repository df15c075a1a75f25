"""A made-up pool that moves: snapshots as functions of the time, the same in every run."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from obspool.words import Outcome, WorkerState
from tests.synthetic import FACTS, NOW, make_snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping

    from obspool.telemetry.snapshot import Snapshot, WorkerSnapshot

# Anything but None: a pool that can be told something.
CONTROLLED = dataclasses.replace(FACTS, control="control.sock")
SPEED = 720.0  # items a second of a busy worker
BUSY_SHARE = {WorkerState.BUSY: 0.97, WorkerState.DRAINING: 0.93, WorkerState.IDLE: 0.88}
PENDING = 1_112_000


def snapshot_at(
    seconds: float, *, workers: int = 8, name: str = "nightly", seed: int = 0
) -> Snapshot:
    """Return the pool's snapshot so many seconds after (or before) NOW."""
    now = NOW + seconds
    still = make_snapshot(workers, name=name, now=now, seed=seed, facts=CONTROLLED)
    moved = tuple(_moved(worker, seconds) for worker in still.workers)
    done = {word: sum(worker.items[word] for worker in moved) for word in Outcome}
    gained = done[Outcome.OK] - still.items_completed[Outcome.OK]
    running = still.jobs[0]
    job = dataclasses.replace(
        running,
        submitted_time=NOW - 2507.0,
        items_ok=max(0, running.items_ok + gained),
        items_total=max(0, running.items_done) + PENDING,
    )
    events = tuple(dataclasses.replace(event, time=event.time - seconds) for event in still.events)
    return dataclasses.replace(
        still,
        facts=dataclasses.replace(still.facts, start_time=NOW - 2537.0),
        workers=moved,
        items_completed=done,
        items_submitted=sum(still.items_completed.values()) + PENDING,
        jobs=(job, *still.jobs[1:]),
        events=events,
    )


def _moved(worker: WorkerSnapshot, seconds: float) -> WorkerSnapshot:
    if worker.slot % 8 == 1:
        # One item since long before: nothing is added to what the slot has done.
        began = NOW + min(-41.25, seconds - 1.0)
        return dataclasses.replace(worker, item_start_time=began, task_start_time=began - 1.0)
    share = BUSY_SHARE.get(worker.state, 0.0)
    pace = 1.0 + (worker.slot * 37 % 11 - 5) / 60
    items = round(SPEED * pace * _way(seconds) * (share > 0))
    return dataclasses.replace(
        worker,
        items=_added(worker.items, items),
        item_start_time=worker.item_start_time and NOW + seconds - 0.0017,
        busy_seconds=worker.busy_seconds + share * seconds * (1 + pace) / 2.02,
        cpu_seconds=worker.cpu_seconds + share * 0.99 * seconds,
    )


def _added(items: Mapping[Outcome, int], more: int) -> dict[Outcome, int]:
    return {**items, Outcome.OK: items[Outcome.OK] + more}


def _way(seconds: float) -> float:
    """Return how far the work has come: the integral of a pace that swings around 0.75."""
    slow, quick = 1 - math.cos(seconds / 6), 1 - math.cos(seconds / 1.9)
    return 0.75 * seconds + 1.3 * slow + 0.23 * quick
