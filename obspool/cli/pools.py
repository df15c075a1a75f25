"""Which pool is meant, and what is told of files that are none."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from obspool.cli import Failure
from obspool.errors import PoolNotFoundError, SegmentError
from obspool.telemetry import registry
from obspool.units import printable

if TYPE_CHECKING:
    from obspool.telemetry.registry import Listing, PoolEntry
    from obspool.telemetry.snapshot import Snapshot

UNREADABLE = (Failure, SegmentError)  # what `read` raises
NONE_RUNS = "no pool is running; `obspool demo` starts one to look at"


def listing() -> Listing:
    """Return the pools of this host; files that can't be read are told on stderr."""
    found = registry.list_pools()
    _tell_skipped(found)
    return found


def the_pool(text: str, *, running: bool) -> PoolEntry:
    """Return the pool of that name, or the only one of the process with that pid.

    Args:
        text: a name or a pid.
        running: whether it must run; otherwise one that has ended is taken when none runs.

    Raises:
        PoolNotFoundError: there is none, or more than one; the message lists what there is.
        Failure: it has ended, and should run.
    """
    try:
        entry = registry.find(text)
    except PoolNotFoundError:
        _tell_skipped(registry.list_pools())  # it may be among them
        raise
    if running and not entry.alive:
        raise Failure(f"{entry.facts.name} (pid {entry.facts.pid}) has ended already")
    return entry


def read(entry: PoolEntry) -> Snapshot:
    """Read a pool.

    Raises:
        Failure: it is gone.
        SegmentError: what is there can't be read.
    """
    try:
        return registry.read(entry)
    except OSError as error:
        raise Failure(
            f"{entry.facts.name} (pid {entry.facts.pid}) can't be read any more: {error}"
        ) from error


def _tell_skipped(found: Listing) -> None:
    for skipped in found.skipped:
        text = printable(f"skipped {skipped.path}: {skipped.reason}")
        print(f"obspool: {text}", file=sys.stderr)
