"""One record's fields out of a segment's words: numbers, counts, texts, histograms, members."""

from __future__ import annotations

import sys
from struct import Struct
from typing import TYPE_CHECKING, TypeVar

from obspool.errors import SegmentError
from obspool.telemetry.layout import WORD, text_of
from obspool.telemetry.snapshot import Histogram

if TYPE_CHECKING:
    from collections.abc import Iterator
    from enum import StrEnum

    from obspool.telemetry.header import Table

W = TypeVar("W", bound="StrEnum")

NANO = 1_000_000_000
_MAX_TEXT_WORDS = 64


class Picker:
    """Takes the same numbers out of all records of a table, which is much faster than by name.

    They are read by columns, as a record may have hundreds of words between those that are wanted,
    and come in the order they were asked for, missing ones as 0.
    """

    def __init__(self, table: Table, *fields: str | tuple[str, int]) -> None:
        """Ask for fields of one word by name, for the first words of arrays by name and number."""
        words: list[int | None] = []
        for field in fields:
            name, wanted = (field, 1) if isinstance(field, str) else field
            offset, size = table.fields.get(name, (0, 0))
            words += [offset + i if i < size else None for i in range(wanted)]
        self._words = words
        self._table = table

    def __call__(self, cells: memoryview, parity: int = 0) -> Iterator[tuple[int, ...]]:
        """Yield the numbers of each record; where slots have two banks, of those of one parity."""
        return zip(*self.columns(cells, parity), strict=True)

    def columns(self, cells: memoryview, parity: int = 0) -> list[list[int]]:
        """Return the same by number: a list for each, in which every record has its own."""
        table = self._table
        if not table.count:
            return [[] for _ in self._words]
        first = table.at + parity * table.bank
        end = first + (table.count - 1) * table.stride + 1
        missing = [0] * table.count
        return [
            missing if word is None else cells[first + word : end + word : table.stride].tolist()
            for word in self._words
        ]


class Text:
    """Takes the same field of bytes out of many records, as text up to its first NUL."""

    def __init__(self, table: Table, name: str) -> None:
        self._offset, size = table.fields.get(name, (0, 0))
        self._words = min(size, _MAX_TEXT_WORDS)

    def __call__(self, cells: memoryview, at: int) -> str:
        """Return the text of the record that starts at word `at`."""
        start = at + self._offset
        return text_of(cells[start : start + self._words])


class Row:
    """One record: its fields by name, missing ones as 0."""

    def __init__(self, cells: memoryview, table: Table, at: int) -> None:
        self._cells = cells
        self._fields = table.fields
        self._at = at

    def __getitem__(self, name: str) -> int:
        place = self._fields.get(name)
        return 0 if place is None else int(self._cells[self._at + place[0]])

    def counts(self, name: str, keys: tuple[W, ...]) -> dict[W, int]:
        """Return a field of one word for each member; members that the writer didn't know are 0."""
        offset, size = self._fields.get(name, (0, 0))
        at = self._at + offset
        counts = dict.fromkeys(keys, 0)
        counts.update(zip(keys, self._cells[at : at + size].tolist(), strict=False))
        return counts


class Histograms:
    """Histograms of the same bounds as integers, which add all buckets at once.

    The bytes of a histogram read as one large number are a sum of 64-bit lanes; adding two such
    numbers adds all lanes, as long as none overflows, which no count of a real pool does.
    """

    def __init__(self, bounds: tuple[float, ...], unit: int = NANO) -> None:
        """Take the buckets' upper bounds, and what the stored sum is to be divided by."""
        self.bounds = bounds
        self._unit = unit
        self.words = len(bounds) + 2
        self._bytes = self.words * WORD
        self._mask = (1 << 8 * self._bytes) - 1
        self._words = Struct(f"={self.words}Q")

    def check(self, table: Table, *names: str) -> None:
        """Make sure that fields are as long as one histogram each.

        Raises:
            SegmentError: they aren't.
        """
        for name in names:
            if table.fields.get(name, (0, self.words))[1] != self.words:
                raise SegmentError(f"damaged, {name} doesn't have {self.words} words")

    def places(self, table: Table, name: str) -> list[int]:
        """Return where in its record each histogram of a field of several begins.

        Raises:
            SegmentError: the field isn't made of histograms.
        """
        offset, size = table.fields.get(name, (0, 0))
        if size % self.words:
            raise SegmentError(f"damaged, {name} isn't made of {self.words} words")
        return list(range(offset, offset + size, self.words))

    def lanes(self, raw: bytearray, word: int) -> int:
        """Return the histogram that starts at this word."""
        at = word * WORD
        return int.from_bytes(raw[at : at + self._bytes], sys.byteorder)

    def column(self, raw: bytearray, records: list[int], place: int) -> list[int]:
        """Return the histograms at a place in records that start at these words; -1: all are 0."""
        if place < 0:
            return [0] * len(records)
        size, order, made = self._bytes, sys.byteorder, int.from_bytes
        starts = [(record + place) * WORD for record in records]
        return [made(raw[start : start + size], order) for start in starts]

    def field(self, raw: bytearray, table: Table, name: str, at: int) -> int:
        """Return a field that is one histogram, of the record that starts at word `at`."""
        place = table.fields.get(name)
        return 0 if place is None else self.lanes(raw, at + place[0])

    def made(self, lanes: int) -> Histogram:
        """Return the sum of lanes as a Histogram."""
        raw = (lanes & self._mask).to_bytes(self._bytes, sys.byteorder)
        words = self._words.unpack(raw)
        return Histogram(self.bounds, words[:-1], words[-1] / self._unit)


def word(words: tuple[W, ...], index: int, default: W) -> W:
    """Return the member with this index; a newer version may have more of them."""
    return words[index] if index < len(words) else default


def optional(words: tuple[W, ...], index: int) -> W | None:
    """Return the member with this index less 1; 0 means none."""
    return words[index - 1] if 0 < index <= len(words) else None


def wall(nanoseconds: int) -> float | None:
    """Return a time of the UNIX epoch in seconds; 0 means none."""
    return nanoseconds / NANO if nanoseconds else None
