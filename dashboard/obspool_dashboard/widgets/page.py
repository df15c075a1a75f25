"""Pages: lines that are read, not chosen from, and that scroll when they are too many."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len, chop_cells
from textual.binding import Binding, BindingType

from obspool_dashboard.lines import Line, LineWidget, Part, Role, gap, width_of
from obspool_dashboard.widgets.columns import LEAST_TEXT, wrapped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual import events

# Lines that one turn of the wheel moves.
WHEEL = 3
# What stands below a title begins here.
INDENT = 3


class Page(LineWidget, can_focus=True, inherit_bindings=False):
    """A page; what stands on it is up to the width, never to the height."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "scroll(1)", "Down", show=False),
        Binding("k,up", "scroll(-1)", "Up", show=False),
        Binding("g,home", "edge(0)", "Top", show=False),
        Binding("G,end", "edge(1)", "Bottom", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
    ]

    top = 0
    """The first line in view."""

    def content(self, width: int) -> Sequence[Line]:
        """Return all lines of the page."""
        raise NotImplementedError

    def lines(self, width: int, height: int) -> Sequence[Line]:
        """Return the lines in view; the last one says when there are more."""
        content = self.content(width)
        self.top = max(0, min(self.top, len(content) - height))
        shown = list(content[self.top : self.top + height])
        below = len(content) - self.top - height
        if below > 0 and shown:
            shown[-1] = (gap(1), Part(f"{self.glyphs.down} {below + 1} more lines", Role.MUTED))
        return shown

    @property
    def text(self) -> str:
        """The whole page as plain text."""
        lines = self.content(self.size.width)
        return "\n".join("".join(part.text for part in line).rstrip() for line in lines)

    def action_scroll(self, lines: int) -> None:
        """Scroll by lines."""
        self.top = max(0, self.top + lines)
        self.redraw()

    def action_page(self, direction: int) -> None:
        """Scroll by as many lines as are in view."""
        self.action_scroll(direction * max(1, self.size.height - 1))

    def action_edge(self, edge: int) -> None:
        """Scroll to the top (0) or the bottom (1)."""
        self.top = edge * len(self.content(self.size.width))
        self.redraw()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Scroll down."""
        event.stop()
        self.action_scroll(WHEEL)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Scroll up."""
        event.stop()
        self.action_scroll(-WHEEL)


def heading(title: str, note: str, width: int) -> list[Line]:
    """Return the title of a section; its note stands below where it doesn't fit beside it."""
    line: Line = (gap(1), Part(title, Role.HEADING), gap(2))
    if width_of(line) + len(note) < width:
        return [(*line, Part(note, Role.MUTED))]
    return [line, *paragraph(note, width, INDENT)]


def fact(name: str, names: int, value: Line, width: int) -> list[Line]:
    """Return a name and its value, in as many lines as the value needs."""
    indent = INDENT + names + 2
    first, *more = flowed(value, width - indent - 1)
    start: Line = (gap(INDENT), Part(name.ljust(names), Role.MUTED), gap(2))
    return [(*start, *first), *((gap(indent), *line) for line in more)]


def flowed(line: Line, room: int) -> list[Line]:
    """Break a line into several that fit `room` cells, at spaces where there are any."""
    if width_of(line) <= room:
        return [line]
    lines: list[Line] = []
    now: list[Part] = []
    for text, role in line:
        for word in text.split():
            for piece in chop_cells(word, max(LEAST_TEXT, room)):
                if now and width_of(now) + 1 + cell_len(piece) > room:
                    lines.append(tuple(now))
                    now = []
                now += [gap(1), Part(piece, role)] if now else [Part(piece, role)]
    return [*lines, tuple(now)]


def paragraph(text: str, width: int, indent: int, role: Role = Role.MUTED) -> list[Line]:
    """Return a text in lines that fit."""
    return [(gap(indent), Part(line, role)) for line in wrapped(text, width - indent - 1)]
