"""Which columns fit, and how rows are ordered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from rich.cells import cell_len

from obspool_dashboard.frame import next_frame
from obspool_dashboard.glyphs import ASCII, UNICODE, Glyphs
from obspool_dashboard.history import History
from obspool_dashboard.widgets import events, jobs, pools, workers
from obspool_dashboard.widgets.columns import Column, ordered, place
from obspool_dashboard.widgets.heights import share_out
from tests.dashboard.film import snapshot_at

if TYPE_CHECKING:
    from collections.abc import Sequence


TABLES: tuple[Sequence[Column[Any]], ...] = (
    workers.COLUMNS,
    jobs.COLUMNS,
    events.COLUMNS,
    pools.COLUMNS,
)


def _keys(width: int) -> list[str]:
    return [placed.column.key for placed in place(workers.COLUMNS, width)]


@pytest.mark.parametrize("columns", TABLES, ids=["workers", "jobs", "events", "pools"])
def test_columns_never_overflow(columns: Sequence[Column[Any]]) -> None:
    """What is placed ends within the width, in order, without overlap."""
    for width in range(10, 240, 7):
        end = 0
        for placed in place(columns, width):
            assert placed.start >= end
            end = placed.start + placed.width
        assert end <= width


def test_narrow_terminals_keep_what_matters() -> None:
    """40 columns show who does what, and how fast; 160 show all."""
    assert _keys(40) == ["slot", "state", "function", "rate", "busy"]
    assert {"pid", "for", "items", "rss"} <= set(_keys(80))
    assert _keys(160) == [column.key for column in workers.COLUMNS]


def test_titles_leave_room_for_the_arrow() -> None:
    """The mark of the order stands beside the title within the column."""
    for columns in (workers.COLUMNS, jobs.COLUMNS, pools.COLUMNS):
        for column in columns:
            assert len(column.title) < column.width, column.title


@pytest.mark.parametrize("glyphs", [UNICODE, ASCII], ids=["unicode", "ascii"])
def test_values_fit_their_columns(glyphs: Glyphs) -> None:
    """No number is cut: what doesn't stretch is wide enough for all that it says."""
    history = History()
    history.add(snapshot_at(0, workers=128))
    frame = next_frame(history, snapshot_at(1, workers=128))
    for column in workers.COLUMNS:
        if column.stretch:
            continue
        for row in frame.workers:
            text = column.cell(row, glyphs).text
            assert cell_len(text) <= column.width, (column.key, text)
            assert text.isascii() or glyphs is UNICODE
    for key, part in workers.totals_of(frame, glyphs).items():
        (column,) = [column for column in workers.COLUMNS if column.key == key]
        assert cell_len(part.text) <= column.width, (key, part.text)


def test_unknown_values_come_last_in_both_directions() -> None:
    """A worker without an item isn't the fastest."""
    frame = next_frame(History(), snapshot_at(0))
    (column,) = [column for column in workers.COLUMNS if column.key == "for"]
    for descending in (True, False):
        rows = ordered(frame.workers, column, descending=descending)
        assert [row.running is None for row in rows] == [False] * 6 + [True] * 2


@pytest.mark.parametrize("count", [0, 2, 8, 128])
def test_all_lines_are_shared_out_and_none_twice(count: int) -> None:
    """Panels and titles fill the screen, or leave lines that nobody needs."""
    for lines in range(1, 60):
        heights = share_out(lines, workers=count, jobs=2, events=4)
        used = heights.table + heights.jobs + heights.events
        used += heights.titled + (heights.jobs > 0) + (heights.events > 0)
        assert used <= lines
        assert heights.table >= min(lines - heights.titled, count + 2, 8)
        if count == 128:
            assert used == lines
