"""Columns of a live table: what they show, how they sort, and which of them fit a width."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from obspool_dashboard.glyphs import Glyphs
    from obspool_dashboard.lines import Line, Part

R = TypeVar("R")

# Between two columns; narrow terminals get along with one.
WIDE_GAP = 2
NARROW_GAP = 1
NARROW = 100
# The narrowest: here a column takes what it can do with.
TIGHT = 60
LEAST_TEXT = 16


@dataclass(frozen=True)
class Column(Generic[R]):
    """One column of rows of type R.

    Attributes:
        key: its name in code.
        width: cells of its content, the title included.
        cell: what it shows of a row.
        value: what it sorts by; None sorts last in both directions.
        about: one line for the help screen.
        rank: columns of the highest rank go first when the terminal is narrow.
        stretch: further cells that it takes when there is room.
        left: aligned at the left, as texts are; numbers stand at the right.
        descending: its first order, for numbers of which the largest matter.
        drawn: draws it in so many cells, where a text alone won't do; `cell` is what is copied.
        tight: its width in the narrowest terminals; 0: the same.
    """

    key: str
    title: str
    width: int
    cell: Callable[[R, Glyphs], Part]
    value: Callable[[R], Any]
    about: str
    rank: int = 0
    stretch: int = 0
    left: bool = False
    descending: bool = False
    drawn: Callable[[R, Glyphs, int], Line] | None = None
    tight: int = 0


@dataclass(frozen=True)
class Placed(Generic[R]):
    """A column at its place: from cell `start` on, `width` cells wide."""

    column: Column[R]
    start: int
    width: int


def place(columns: Sequence[Column[R]], width: int, margin: int = 1) -> list[Placed[R]]:
    """Choose the columns that fit `width` cells, and say where they stand.

    Those of the lowest rank come first; the order stays as given. What is left over goes to the
    columns that stretch.
    """
    gap = NARROW_GAP if width < NARROW else WIDE_GAP
    chosen: list[Column[R]] = []
    left = width - 2 * margin
    widths = {
        column.key: column.tight if column.tight and width < TIGHT else column.width
        for column in columns
    }
    for column in sorted(columns, key=lambda column: column.rank):
        cost = widths[column.key] + (gap if chosen else 0)
        if cost <= left:
            chosen.append(column)
            left -= cost
    placed = []
    start = margin
    for column in columns:
        if column not in chosen:
            continue
        more = min(left, column.stretch)
        left -= more
        placed.append(Placed(column, start, widths[column.key] + more))
        start += widths[column.key] + more + gap
    return placed


def ordered(rows: Sequence[R], column: Column[R], *, descending: bool) -> list[R]:
    """Sort rows by a column; those without a value come last, equal ones keep their order."""
    valued = [(column.value(row), row) for row in rows]
    known = sorted(
        (pair for pair in valued if pair[0] is not None), key=itemgetter(0), reverse=descending
    )
    return [row for _, row in known] + [row for value, row in valued if value is None]


def wrapped(text: str, width: int) -> list[str]:
    """Break a text into lines of at most `width` cells, at spaces where there are any."""
    return textwrap.wrap(text, max(LEAST_TEXT, width)) or [""]
