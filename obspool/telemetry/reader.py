"""Reading a segment: `read` gives the whole Snapshot, `read_head` what a list of pools shows.

Nothing here ever waits for the pool, nor does the pool notice. A bank's sequence word is read
before its fields and after them: if it is odd or differs, the worker stored meanwhile, and the bank
is read again, a bounded number of times.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from obspool.errors import SegmentError
from obspool.telemetry import decode, facts, header, rows
from obspool.telemetry.layout import HEADER_BYTES, POOL, WORD
from obspool.telemetry.slots import Reading
from obspool.telemetry.source import opened
from obspool.words import PoolOutcome, PoolState

if TYPE_CHECKING:
    from obspool.telemetry.header import Header, Table
    from obspool.telemetry.snapshot import PoolFacts, Snapshot
    from obspool.telemetry.source import Source, Target

# A writer is between the two stores for some microseconds, or for ever when it was killed or
# stopped there. More attempts than this only delay the reading of the latter.
ATTEMPTS = 5
_LOW_BYTE = 0 if sys.byteorder == "little" else -1
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


class _Sequence(NamedTuple):
    """A bank's sequence word as it was before the bank was read; places in bytes."""

    slot: int
    parity: int
    at: int
    place: int
    value: bytes


def read(target: Target) -> Snapshot:
    """Read a segment by its path, by a descriptor, or as this process's own object.

    The counts of a process that runs are each true, and those of one worker's row belong together
    unless it is marked torn; counts of different rows may be some microseconds apart.

    Raises:
        SegmentError: it isn't a segment that this version can read, or not ours to read.
        OSError: it can't be opened.
    """
    with opened(target) as source:
        # Asked first: a pool that ends between the two has then said so in its state.
        held = source.held()
        head = _header(source)
        before = _sequences(source, head.table("worker"))
        raw = bytearray(source.read(0, head.words * WORD))
        if len(raw) < head.words * WORD:
            raise SegmentError(
                f"{source.where}: cut short, {len(raw)} bytes of {head.words * WORD}"
            )
        torn = _settle(source, head.table("worker"), raw, before)
        now = time.time_ns()
        same_boot = bool(head.facts.boot_id) and head.facts.boot_id == facts.boot_id()
        boot = now - time.monotonic_ns() if same_boot else None
        try:
            return decode.snapshot(Reading(head, raw, torn, held, now, boot))
        except SegmentError as error:
            raise SegmentError(f"{source.where}: {error}") from None


def read_head(target: Target) -> Head:
    """Read what a pool is and whether it lives.

    Raises:
        SegmentError: it isn't a segment that this version can read, or not ours to read.
        OSError: it can't be opened.
    """
    with opened(target) as source:
        held = source.held()
        described = _header(source)
        table = described.table("pool")
        raw = source.read(table.at * WORD, table.extent * WORD)
        if len(raw) < table.extent * WORD:
            raise SegmentError(f"{source.where}: cut short in its pool block")
        pool = rows.Row(memoryview(raw).cast("Q"), table, 0)
        state = rows.word(tuple(PoolState), pool["state"], PoolState.RUNNING)
        alive = decode.is_alive(held, state)
        outcome, ended = decode.end(pool, state, described.facts.start_time, alive=alive)
        return Head(
            facts=described.facts,
            alive=alive,
            state=state if alive else PoolState.ENDED,
            outcome=outcome,
            ended_time=ended,
            heartbeat_time=pool["heartbeat_wall"] / rows.NANO,
        )


def _header(source: Source) -> Header:
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


def _sequences(source: Source, table: Table) -> list[_Sequence]:
    """Read the sequence word of each bank; none when the writer has no such word."""
    if "sequence" not in table.fields:
        return []
    offset, _ = table.fields["sequence"]
    parities = (0, 1) if table.bank else (0,)
    found = []
    for slot in range(table.count):
        for parity in parities:
            at = (table.at + slot * table.stride + parity * table.bank) * WORD
            place = at + offset * WORD
            found.append(_Sequence(slot, parity, at, place, source.read(place, WORD)))
    return found


def _settle(
    source: Source, table: Table, raw: bytearray, before: list[_Sequence]
) -> set[tuple[int, int]]:
    """Read banks again that were written meanwhile; return those that never held still."""
    torn: set[tuple[int, int]] = set()
    for slot, parity, at, place, first in before:
        sequence = first
        for _ in range(ATTEMPTS):
            after = source.read(place, WORD)
            if after == sequence and not _is_odd(after):
                break
            sequence = after
            fresh = source.read(at, table.extent * WORD)
            raw[at : at + len(fresh)] = fresh
        else:
            torn.add((slot, parity))
    return torn


def _is_odd(sequence: bytes) -> bool:
    return bool(sequence and sequence[_LOW_BYTE] & 1)
