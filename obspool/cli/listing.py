"""`obspool ls`: the pools of this host, a line each."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from typing import TYPE_CHECKING, Any

from obspool import units
from obspool.cli import pools
from obspool.cli.table import Column, aligned
from obspool.words import Outcome, PoolOutcome, WorkerState

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from obspool.telemetry.registry import PoolEntry
    from obspool.telemetry.snapshot import Snapshot

_COLUMNS = (
    Column("NAME", right=False),
    Column("PID"),
    Column("STATE", right=False),
    Column("WORKERS"),
    Column("BUSY"),
    Column("QUEUED"),
    Column("RUNNING"),
    Column("DONE"),
    Column("ERRORS"),
    Column("AGE"),
    Column("PROGRAM", right=False),
)


def run(arguments: Namespace) -> int:
    """Print the table, or JSON."""
    return show(all_pools=arguments.all, as_json=arguments.json)


def show(*, all_pools: bool, as_json: bool) -> int:
    """Print the running pools, with `all_pools` the ended ones after them."""
    found = pools.listing()
    chosen = [entry for entry in found.entries if entry.alive or all_pools]
    readings = [(entry, _reading(entry)) for entry in chosen]
    if as_json:
        skipped = [dataclasses.asdict(each) for each in found.skipped]
        listed = [_described(entry, snapshot) for entry, snapshot in readings]
        print(json.dumps({"pools": listed, "skipped": skipped}, indent=2))
        return 0
    if not chosen:
        ended = len(found.entries)
        print(pools.NONE_RUNS + (f" ({ended} ended: --all)" if ended else ""))
        return 0
    now = time.time()
    for line in aligned(_COLUMNS, [_row(entry, snapshot, now) for entry, snapshot in readings]):
        print(line)
    return 0


def _reading(entry: PoolEntry) -> Snapshot | None:
    """Read a pool; None when that fails, as it may have gone since it was listed."""
    try:
        return pools.read(entry)
    except pools.UNREADABLE as error:
        print(f"obspool: {units.printable(str(error))}", file=sys.stderr)
        return None


def _row(entry: PoolEntry, snapshot: Snapshot | None, now: float) -> Sequence[str]:
    facts = entry.facts
    ended = None if entry.alive else entry.ended_time or facts.start_time
    state = str(entry.state) if entry.alive else str(entry.outcome or PoolOutcome.DIED)
    return (
        facts.name,
        str(facts.pid),
        state,
        *_numbers(entry, snapshot),
        units.span((ended or now) - facts.start_time) if entry.alive or entry.ended_time else "-",
        facts.program,
    )


def _numbers(entry: PoolEntry, snapshot: Snapshot | None) -> Sequence[str]:
    if snapshot is None:
        return (units.NOTHING,) * 6
    done = sum(snapshot.items_completed.values())
    errors = done - snapshot.items_completed.get(Outcome.OK, 0)
    now = (
        str(snapshot.workers_configured),
        str(_busy(snapshot)),
        units.count(snapshot.tasks.queued + snapshot.tasks.dispatched),
        units.count(snapshot.tasks.running),
    )
    return (
        *(now if entry.alive else (units.NOTHING,) * len(now)),
        units.count(done),
        units.count(errors),
    )


def _busy(snapshot: Snapshot) -> int:
    return sum(worker.state is WorkerState.BUSY for worker in snapshot.workers)


def _described(entry: PoolEntry, snapshot: Snapshot | None) -> dict[str, Any]:
    facts = dataclasses.asdict(entry.facts) | {"labels": dict(entry.facts.labels)}
    outcome = None if entry.alive else str(entry.outcome or PoolOutcome.DIED)
    described: dict[str, Any] = facts | {
        "path": entry.path,
        "alive": entry.alive,
        "state": str(entry.state),
        "outcome": outcome,
        "ended_time": entry.ended_time,
    }
    if snapshot is not None:
        items = {str(word): number for word, number in snapshot.items_completed.items()}
        described |= {
            "workers": snapshot.workers_configured,
            "workers_busy": _busy(snapshot),
            "tasks": dataclasses.asdict(snapshot.tasks),
            "items_submitted": snapshot.items_submitted,
            "items_completed": items,
        }
    return described
