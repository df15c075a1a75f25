"""The last errors of a worker's items, as the worker itself writes them down.

Imported at a worker's first error: who has none pays nothing. Generations of one parity share a
ring, in which each goes on where the one before has stopped.
"""

from __future__ import annotations

import os
from time import time_ns

from obspool.telemetry.layout import (
    ERROR_ITEM_WORDS,
    ERRORS,
    ITEM_ERRORS,
    TEXT_WORDS,
    WORD,
    text_words,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from obspool.telemetry.layout import Layout

VARIABLE = "OBSPOOL_ERRORS"
ONLY_TYPE = "type"


class ErrorRing:
    """The newest errors of the generations that share a bank."""

    def __init__(self, cells: Any, layout: Layout, slot: int, generation: int) -> None:
        base = layout.errors_block(slot, generation)
        self._cells = cells
        self._base = base
        self._generation = generation
        self._number = max(cells[base : base + ERRORS])
        self._only_type = os.environ.get(VARIABLE) == ONLY_TYPE

    def add(self, error: BaseException, function: int, item: str) -> None:
        """Write an error down, in place of the oldest.

        Args:
            error: what the item raised.
            function: 1 + the number of its function.
            item: what it was, by `describe=`; empty where nobody says.
        """
        text = type(error).__qualname__ if self._only_type else _told(error)
        cells, base = self._cells, self._base
        place = self._number % ERRORS
        self._number += 1
        # A reader takes only what has the same number before and behind it.
        cells[base + ITEM_ERRORS["number"] + place] = 0
        cells[base + ITEM_ERRORS["wall"] + place] = time_ns()
        cells[base + ITEM_ERRORS["generation"] + place] = self._generation
        cells[base + ITEM_ERRORS["function"] + place] = function
        at = base + ITEM_ERRORS["item"] + place * ERROR_ITEM_WORDS
        cells[at : at + ERROR_ITEM_WORDS] = text_words(item, ERROR_ITEM_WORDS)
        at = base + ITEM_ERRORS["text"] + place * TEXT_WORDS
        cells[at : at + TEXT_WORDS] = text_words(text, TEXT_WORDS)
        cells[base + ITEM_ERRORS["again"] + place] = self._number
        cells[base + ITEM_ERRORS["number"] + place] = self._number


def _told(error: BaseException) -> str:
    """Return the error's type and text, in one line, as a traceback ends."""
    name = type(error).__qualname__
    try:
        text = str(error)[: TEXT_WORDS * WORD]
    except Exception:  # noqa: BLE001 - a user's own code; its type says enough
        return f"{name}: (its text could not be had)"
    return f"{name}: {' '.join(text.split())}" if text else name
