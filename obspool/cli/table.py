"""Columns that line up, whatever script the words in them are of."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from obspool.units import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_GAP = "  "
_LONGEST = 60  # characters of one cell; names and programs may have hundreds
_ELLIPSIS = "…"


@dataclass(frozen=True, slots=True)
class Column:
    """A column's title, and the side its values stand on."""

    title: str
    right: bool = True


def aligned(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table, titles first; what could steer a terminal is replaced."""
    cells = [[column.title for column in columns]]
    cells += [[_cut(printable(value)) for value in row] for row in rows]
    widths = [max(_width(row[index]) for row in cells) for index in range(len(columns))]
    for row in cells:
        filled = (
            _fill(value, width, right=column.right)
            for value, width, column in zip(row, widths, columns, strict=True)
        )
        yield _GAP.join(filled).rstrip()


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + _ELLIPSIS


def _fill(text: str, width: int, *, right: bool) -> str:
    space = " " * (width - _width(text))
    return space + text if right else text + space


def _width(text: str) -> int:
    """Return how many cells of a terminal the text takes."""
    return len(text) if text.isascii() else sum(_cells(character) for character in text)


def _cells(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1
