"""A table of live rows on Textual's line API.

Textual's DataTable drops all its caches when a cell changes, and its cursor is an index: a sort
under it moves the selection to another row. Here rows have keys, the cursor is a key, and a new
reading draws only the lines that look different.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from obspool_dashboard.lines import OWN_GROUND, Line, Painter, Part, Role, gap, width_of
from obspool_dashboard.widgets.columns import Column, Placed, ordered, place

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from textual import events

R = TypeVar("R")

HEADER_LINES = 1
DOUBLE = 2  # clicks


class LiveTable(ScrollView, Painter, Generic[R], can_focus=True, inherit_bindings=False):
    """Rows with a header above and, optionally, totals below, which both stay in view."""

    ALLOW_SELECT = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "move(1)", "Next row", show=False),
        Binding("k,up", "move(-1)", "Row before", show=False),
        Binding("g,home", "edge(0)", "First row", show=False),
        Binding("G,end", "edge(1)", "Last row", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
    ]

    columns: Sequence[Column[R]] = ()
    """All that there are; which of them are shown is up to the width."""

    first_sort = ""
    """The key of the column to sort by at first; empty for the first one."""

    nothing = ""
    """What to say instead of rows when there are none."""

    headed = True
    """Whether the columns have titles, by which they are sorted."""

    active = True
    """Whether keys act on the row under the cursor; else no cursor is drawn."""

    class Clicked(Message):
        """The table was clicked."""

        def __init__(self, table: LiveTable[Any], *, twice: bool) -> None:
            super().__init__()
            self.table = table
            self.twice = twice

        @property
        def control(self) -> LiveTable[Any]:
            """The table, for Textual's selectors."""
            return self.table

    class Moved(Message):
        """The cursor is on another row."""

    class Sorted(Message):
        """The order or the rows in view have changed."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        first = (column for column in self.columns if column.key == self.first_sort)
        self.sort = next(first, self.columns[0])
        self.descending = self.sort.descending
        self.cursor_key: Hashable = None
        self.pattern = ""
        self._all: Sequence[R] = ()
        self._rows: list[R] = []
        self._keys: list[Hashable] = []
        self._totals: Mapping[str, Part] | None = None
        self._drawn: list[Strip] = []
        self._drawn_for: tuple[Size, int] | None = None

    def key_of(self, row: R) -> Hashable:
        """Return what stays the same about a row while its values change."""
        raise NotImplementedError

    def searched(self, row: R) -> str:
        """Return the text of a row in which the filter looks."""
        return self.text_of(row)

    def text_of(self, row: R) -> str:
        """Return what a row shows, as plain text."""
        cells = (column.cell(row, self.glyphs).text for column in self.columns)
        return "  ".join(filter(None, cells))

    @property
    def note(self) -> str:
        """How it is sorted and filtered, and which rows are in view."""
        first, end = self.in_view
        parts = []
        if end - first < len(self._rows):
            parts.append(f"{first + 1}-{end} of {len(self._rows)}")
        if self.pattern:
            shown = self.glyphs.printable(self.pattern)
            parts.append(f"filter: {shown} ({len(self._rows)} of {len(self._all)})")
        if self.headed:
            arrow = self.glyphs.down if self.descending else self.glyphs.up
            parts.append(f"sort: {self.sort.title.lower()} {arrow}")
        return "   ".join(parts)

    @property
    def rows(self) -> Sequence[R]:
        """The rows in the order shown."""
        return self._rows

    @property
    def cursor(self) -> R | None:
        """The row under the cursor."""
        index = self._cursor_index()
        return None if index is None else self._rows[index]

    @property
    def in_view(self) -> tuple[int, int]:
        """The first row in view, counted from 0, and the one after the last."""
        first = min(self.scroll_offset.y, max(0, len(self._rows) - self._room))
        return first, min(len(self._rows), first + self._room)

    def show_rows(self, rows: Sequence[R], totals: Mapping[str, Part] | None = None) -> None:
        """Take new values for the rows, and rows that come and go."""
        index = self._cursor_index()
        followed = self._is_in_view(index)
        self._all = rows
        # The cursor's row stays, though it no longer matches: nothing else slips under the cursor.
        matching = [row for row in rows if self._matches(row) or self._has_cursor(row)]
        self._rows = ordered(matching, self.sort, descending=self.descending)
        self._keys = [self.key_of(row) for row in self._rows]
        self._totals = totals
        if self.cursor_key not in self._keys:
            # Its row is gone: the cursor goes to the one that took its place, or the last.
            last = len(self._keys) - 1
            self.cursor_key = self._keys[min(index or 0, last)] if self._keys else None
        size = Size(self.size.width, len(self._rows) + self._fixed)
        if size != self.virtual_size:
            self.virtual_size = size
        if followed:
            self._reveal()
        self._redraw()

    def sort_by(self, column: Column[R], *, descending: bool) -> None:
        """Sort; the cursor stays on its row."""
        self.sort, self.descending = column, descending
        self._show_again()

    def filter_by(self, pattern: str) -> None:
        """Show only rows in which the text is found, in upper or lower case; empty: all."""
        self.pattern = pattern
        cursor = self.cursor
        if cursor is not None and not self._matches(cursor):
            self.cursor_key = None
        self._show_again()

    def set_active(self, *, active: bool) -> None:
        """Draw the cursor, or don't."""
        if active != self.active:
            self.active = active
            self._redraw()

    def _show_again(self) -> None:
        self.show_rows(self._all, self._totals)
        self._reveal()
        self.post_message(self.Sorted())

    def _matches(self, row: R) -> bool:
        return not self.pattern or self.pattern.casefold() in self.searched(row).casefold()

    def _has_cursor(self, row: R) -> bool:
        return self.cursor_key is not None and self.key_of(row) == self.cursor_key

    def shift_sort(self, step: int) -> None:
        """Sort by the next column in view, or the one before."""
        shown = [placed.column for placed in self._placed()]
        if not shown:
            return
        if self.sort in shown:
            column = shown[(shown.index(self.sort) + step) % len(shown)]
        else:
            column = shown[0 if step > 0 else -1]
        self.sort_by(column, descending=column.descending)

    def action_move(self, step: int) -> None:
        """Move the cursor by rows."""
        index = self._cursor_index()
        if index is not None:
            self._move_to(index + step)

    def action_page(self, direction: int) -> None:
        """Move the cursor by as many rows as are in view."""
        self.action_move(direction * max(1, self._room - 1))

    def action_edge(self, edge: int) -> None:
        """Move the cursor to the first (0) or the last (1) row."""
        self._move_to(edge * (len(self._rows) - 1))

    def on_click(self, event: events.Click) -> None:
        """Sort by the column whose title was clicked, or move the cursor to the row."""
        if event.y < self._above:
            self._header_clicked(event.x)
            self.post_message(self.Clicked(self, twice=False))
            return
        first, end = self.in_view
        index = first + event.y - self._above
        if index < end:
            self._move_to(index)
        self.post_message(self.Clicked(self, twice=index < end and event.chain == DOUBLE))

    def on_resize(self) -> None:
        """Keep the cursor in view."""
        self._reveal()
        self.post_message(self.Sorted())

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Tell that other rows are in view."""
        super().watch_scroll_y(old_value, new_value)
        self.post_message(self.Sorted())

    def notify_style_update(self) -> None:
        """Forget what was drawn: a theme or a class has changed the styles."""
        super().notify_style_update()
        self._drawn_for = None

    def render_line(self, y: int) -> Strip:
        """Return one line as drawn last, or draw all when the size or the scroll has changed."""
        if self._drawn_for != self._view:
            self._drawn, self._drawn_for = self._strips(), self._view
        return self._drawn[y] if y < len(self._drawn) else Strip.blank(self.size.width)

    @property
    def _view(self) -> tuple[Size, int]:
        return self.size, self.scroll_offset.y

    @property
    def _above(self) -> int:
        return HEADER_LINES if self.headed else 0

    @property
    def _fixed(self) -> int:
        return self._above + (self._totals is not None)

    @property
    def _room(self) -> int:
        """How many rows fit."""
        return max(0, self.size.height - self._fixed)

    def _placed(self) -> list[Placed[R]]:
        return place(self.columns, self.size.width)

    def _cursor_index(self) -> int | None:
        return self._keys.index(self.cursor_key) if self.cursor_key in self._keys else None

    def _is_in_view(self, index: int | None) -> bool:
        first, end = self.in_view
        return index is not None and first <= index < end

    def _move_to(self, index: int) -> None:
        if self._keys:
            self.cursor_key = self._keys[min(max(0, index), len(self._keys) - 1)]
            self._reveal()
            self._redraw()
            self.post_message(self.Moved())

    def _reveal(self) -> None:
        """Scroll as little as brings the cursor into view."""
        index = self._cursor_index()
        if index is None or not self._room:
            return
        first, end = self.in_view
        if index < first:
            self._scroll_at_once(index)
        elif index >= end:
            self._scroll_at_once(index - self._room + 1)

    def _scroll_at_once(self, first: int) -> None:
        # Forced: rows may have come of which the scrollbar knows only after the next layout.
        self.scroll_to(y=first, animate=False, immediate=True, force=True)

    def _header_clicked(self, x: int) -> None:
        for placed in self._placed():
            if placed.start <= x < placed.start + placed.width:
                again = placed.column is self.sort
                down = not self.descending if again else placed.column.descending
                self.sort_by(placed.column, descending=down)
                return

    def _redraw(self) -> None:
        """Draw again the lines that differ from what is on the screen."""
        if self._drawn_for != self._view:
            self.refresh()
            return
        new, old = self._strips(), self._drawn
        changed = [y for y, (a, b) in enumerate(zip(new, old, strict=True)) if a != b]
        self._drawn = new
        if changed:
            self.refresh(*(Region(0, y, self.size.width, 1) for y in changed))

    def _strips(self) -> list[Strip]:
        width, height = self.size
        placed = self._placed()
        first, end = self.in_view
        strips = [self.paint(self._header_line(placed), width)] if self.headed else []
        if not self._rows:
            nothing = f"nothing matches {self.pattern!r}" if self._all else self.nothing
            text = self.glyphs.printable(nothing)
            strips.append(self.paint((gap(1), Part(text, Role.MUTED)), width))
        for index in range(first, end):
            chosen = self.active and self._keys[index] == self.cursor_key
            line = self._row_line(placed, self._rows[index])
            strips.append(self.paint(line, width, Role.CURSOR if chosen else None))
        if self._totals is not None:
            strips.append(self.paint(self._totals_line(placed, self._totals), width))
        strips += [self.paint((), width)] * (height - len(strips))
        return strips[:height]

    def _header_line(self, placed: Sequence[Placed[R]]) -> Line:
        cells: list[Line] = []
        for place_ in placed:
            column = place_.column
            if column is self.sort:
                mark = self.glyphs.down if self.descending else self.glyphs.up
                cells.append((Part(column.title + mark, Role.SORTED),))
            else:
                cells.append((Part(column.title, Role.HEADING),))
        return self._aligned(placed, cells)

    def _row_line(self, placed: Sequence[Placed[R]], row: R) -> Line:
        glyphs = self.glyphs
        cells: list[Line] = []
        for place_ in placed:
            column = place_.column
            if column.drawn is not None:
                cells.append(column.drawn(row, glyphs, place_.width))
            else:
                cells.append((column.cell(row, glyphs),))
        return self._aligned(placed, cells)

    def _totals_line(self, placed: Sequence[Placed[R]], totals: Mapping[str, Part]) -> Line:
        cells: list[Line] = []
        for place_ in placed:
            text, role = totals.get(place_.column.key, Part(""))
            # The number alone, where the word behind it doesn't fit.
            cells.append((Part(text if len(text) <= place_.width else text.split()[0], role),))
        return self._aligned(placed, cells)

    def _aligned(self, placed: Sequence[Placed[R]], cells: Sequence[Line]) -> Line:
        line: list[Part] = []
        at = 0
        fit = self.glyphs.fit
        for place_, parts in zip(placed, cells, strict=True):
            if len(parts) > 1:  # drawn to the column's width
                line += [gap(place_.start - at), *parts]
                at = place_.start + width_of(parts)
                continue
            text, role = parts[0]
            fitted = fit(text, place_.width)
            if not place_.column.left:
                content = fitted.rstrip()
                fitted = " " * (len(fitted) - len(content)) + content
            before = " " * (place_.start - at)
            if role in OWN_GROUND:
                line += [Part(before), Part(fitted, role)]
            else:  # half as many parts to draw, and the same to be seen
                line.append(Part(before + fitted, role))
            at = place_.start + place_.width
        return tuple(line)
