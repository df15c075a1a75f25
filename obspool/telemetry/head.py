"""What a pool is and whether it lives, out of the first lines of its segment.

The pool's own process reads those of others: nothing here needs a Snapshot, slow to import.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from obspool.errors import SegmentError
from obspool.telemetry import header, rows
from obspool.telemetry.layout import HEADER_BYTES, POOL, WORD
from obspool.telemetry.source import opened
from obspool.words import PoolOutcome, PoolState

if TYPE_CHECKING:
    from obspool.telemetry.facts import PoolFacts
    from obspool.telemetry.header import Header
    from obspool.telemetry.source import Source, Target

_HEAD_BYTES = HEADER_BYTES + POOL.words * WORD


@dataclass(frozen=True)
class Head:
    """The first lines of a segment.

    Attributes:
        heartbeat_time: when the pool's own thread last went round.
    """

    facts: PoolFacts
    alive: bool
    state: PoolState
    outcome: PoolOutcome | None
    ended_time: float | None
    heartbeat_time: float


def read_head(target: Target) -> Head:
    """Read what a pool is and whether it lives.

    Raises:
        SegmentError: it isn't a segment that this version can read, or not ours to read.
        OSError: it can't be opened.
    """
    with opened(target) as source:
        held = source.held()
        described = header_of(source)
        table = described.table("pool")
        raw = source.read(table.at * WORD, table.extent * WORD)
        if len(raw) < table.extent * WORD:
            raise SegmentError(f"{source.where}: cut short in its pool block")
        pool = rows.Row(memoryview(raw).cast("Q"), table, 0)
        state = rows.word(tuple(PoolState), pool["state"], PoolState.RUNNING)
        alive = is_alive(held, state)
        outcome, ended = end(pool, state, described.facts.start_time, alive=alive)
        return Head(
            facts=described.facts,
            alive=alive,
            state=state if alive else PoolState.ENDED,
            outcome=outcome,
            ended_time=ended,
            heartbeat_time=pool["heartbeat_wall"] / rows.NANO,
        )


def is_alive(held: bool | None, state: PoolState) -> bool:
    """Tell whether a pool lives: its lock is held, or that isn't known, and it hasn't ended."""
    return held is not False and state is not PoolState.ENDED


def end(
    pool: rows.Row, state: PoolState, start_time: float, *, alive: bool
) -> tuple[PoolOutcome | None, float | None]:
    """Return how and when a pool ended; one that died, when it was last heard of."""
    if alive:
        return None, None
    if state is PoolState.ENDED:
        outcome = rows.optional(tuple(PoolOutcome), pool["outcome"]) or PoolOutcome.BROKEN
        return outcome, rows.wall(pool["ended_wall"])
    return PoolOutcome.DIED, rows.wall(pool["heartbeat_wall"]) or start_time


def header_of(source: Source) -> Header:
    """Read the header.

    Raises:
        SegmentError: it isn't a segment that this version can read.
    """
    raw = source.read(0, _HEAD_BYTES)
    size, _ = header.lengths(raw, source.where)
    if size > len(raw):
        raw = source.read(0, size)
    found = _grown(header.decode(raw, source.where), source)
    if source.size < found.words * WORD:
        raise SegmentError(
            f"{source.where}: cut short, {source.size} bytes of {found.words * WORD}"
        )
    return found


def _grown(described: Header, source: Source) -> Header:
    """Return the header with as many slots as there are now: a pool may have been resized."""
    pool, slots = described.table("pool"), described.table("worker")
    offset, _ = pool.fields.get("slots", (-1, 0))
    if offset < 0:
        return described
    raw = source.read((pool.at + offset) * WORD, WORD)
    wanted = int.from_bytes(raw, sys.byteorder)
    there = slots.count + max(0, source.size // WORD - described.words) // max(1, slots.stride)
    return described.with_slots(min(wanted, there)) if wanted > slots.count else described
