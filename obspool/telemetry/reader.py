"""Reading a whole segment: `read` gives the Snapshot.

Nothing here ever waits for the pool, nor does the pool notice. A bank's sequence word is read
before its fields and after them: if it is odd or differs, the worker stored meanwhile, and the bank
is read again, a bounded number of times. That is done for some slots at a time: one call of the
system reads many of these words, and few workers store something while so little is read.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from obspool.errors import SegmentError
from obspool.telemetry import decode, facts
from obspool.telemetry.head import header_of
from obspool.telemetry.layout import WORD
from obspool.telemetry.slots import Reading
from obspool.telemetry.source import opened

if TYPE_CHECKING:
    from obspool.telemetry.header import Header, Table
    from obspool.telemetry.snapshot import Snapshot
    from obspool.telemetry.source import Source, Target

# A writer is between the two stores for some microseconds, or for ever when it was killed or
# stopped there. More attempts than this only delay the reading of the latter.
ATTEMPTS = 5
# Fewer cost calls of the system, more are overtaken by their workers: 256 KiB are read in 0.05 ms.
SLOTS_AT_ONCE = 32


def read(target: Target, *, errors: bool = True) -> Snapshot:
    """Read a segment by its path, by a descriptor, or as this process's own object.

    The counts of a process that runs are each true, and those of one worker's row belong together
    unless it is marked torn; counts of different rows may be some microseconds apart.

    Args:
        target: which one.
        errors: whether workers' last errors are wanted: thousands of texts, in a large pool.

    Raises:
        SegmentError: it isn't a segment that this version can read, or not ours to read.
        OSError: it can't be opened.
    """
    with opened(target) as source:
        # Asked first: a pool that ends between the two has then said so in its state.
        held = source.held()
        head = header_of(source)
        raw, torn = _values(source, head)
        now = time.time_ns()
        same_boot = bool(head.facts.boot_id) and head.facts.boot_id == facts.boot_id()
        boot = now - time.monotonic_ns() if same_boot else None
        try:
            return decode.snapshot(Reading(head, raw, torn, held, now, boot, errors))
        except SegmentError as error:
            raise SegmentError(f"{source.where}: {error}") from None


def _values(source: Source, head: Header) -> tuple[bytearray, set[tuple[int, int]]]:
    """Read the whole segment; return it, and the banks that never held still."""
    table = head.table("worker")
    firsts = range(0, table.count, SLOTS_AT_ONCE)
    edges = [*(table.at + first * table.stride for first in firsts), head.words]
    raw = bytearray(_exactly(source, 0, edges[0]))
    torn: set[tuple[int, int]] = set()
    for first, start, end in zip(firsts, edges, edges[1:], strict=False):
        banks = _Banks(source, table, first, min(first + SLOTS_AT_ONCE, table.count))
        before = banks.sequences()
        raw += _exactly(source, start, end - start)
        torn |= banks.settle(raw, before)
    return raw, torn


class _Banks:
    """The banks of consecutive slots, in the order: all of the first parity, then the others."""

    def __init__(self, source: Source, table: Table, first: int, until: int) -> None:
        self._source = source
        self._table = table
        self._slots = range(first, until)
        self._sequence, _ = table.fields.get("sequence", (-1, 0))

    def sequences(self) -> list[int]:
        """Read the sequence word of each bank; none when the writer has no such word."""
        if self._sequence < 0:
            return []
        table, start = self._table, self._at(0) + self._sequence
        words = (len(self._slots) - 1) * table.stride + table.bank + 1
        cells = memoryview(_exactly(self._source, start, words)).cast("Q")
        found: list[int] = cells[:: table.stride].tolist()
        if table.bank:
            found += cells[table.bank :: table.stride].tolist()
        return found

    def settle(self, raw: bytearray, before: list[int]) -> set[tuple[int, int]]:
        """Read banks again that were written meanwhile; return those that never held still."""
        after = self.sequences()
        moved = [i for i, both in enumerate(zip(before, after, strict=True)) if not _still(*both)]
        torn: set[tuple[int, int]] = set()
        for index in moved:
            parity, place = divmod(index, len(self._slots))
            at, sequence = self._at(index), after[index]
            for _ in range(ATTEMPTS - 1):
                fresh = _exactly(self._source, at, self._table.extent)
                raw[at * WORD : at * WORD + len(fresh)] = fresh
                word = _exactly(self._source, at + self._sequence, 1)
                last, sequence = sequence, int.from_bytes(word, sys.byteorder)
                if _still(last, sequence):
                    break
            else:
                torn.add((self._slots[place], parity))
        return torn

    def _at(self, index: int) -> int:
        """Return the first word of a bank."""
        parity, place = divmod(index, len(self._slots))
        table = self._table
        return table.at + self._slots[place] * table.stride + parity * table.bank


def _still(before: int, after: int) -> bool:
    """Tell whether nothing was stored between two looks at a sequence word, nor is being stored."""
    return before == after and not after & 1


def _exactly(source: Source, at: int, words: int) -> bytes:
    """Read so many words.

    Raises:
        SegmentError: there are fewer.
    """
    raw = source.read(at * WORD, words * WORD)
    if len(raw) < words * WORD:
        raise SegmentError(f"{source.where}: cut short, it ends within {(at + words) * WORD} bytes")
    return raw
