"""Histograms out of a segment's words."""

from __future__ import annotations

import sys
from struct import Struct
from typing import TYPE_CHECKING

from obspool.errors import SegmentError
from obspool.telemetry.layout import WORD
from obspool.telemetry.rows import NANO
from obspool.telemetry.snapshot import Histogram

if TYPE_CHECKING:
    from obspool.telemetry.header import Table


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
