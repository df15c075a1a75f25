"""One record's fields out of a segment's words: numbers, counts, texts, members."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from obspool.telemetry.layout import text_of

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


def word(words: tuple[W, ...], index: int, default: W) -> W:
    """Return the member with this index; a newer version may have more of them."""
    return words[index] if index < len(words) else default


def optional(words: tuple[W, ...], index: int) -> W | None:
    """Return the member with this index less 1; 0 means none."""
    return words[index - 1] if 0 < index <= len(words) else None


def wall(nanoseconds: int) -> float | None:
    """Return a time of the UNIX epoch in seconds; 0 means none."""
    return nanoseconds / NANO if nanoseconds else None
