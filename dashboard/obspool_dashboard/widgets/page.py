"""Pages: lines that are read, not chosen from, and that scroll when they are too many."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType

from obspool_dashboard.lines import EMPTY, Line, LineWidget, Part, Role, gap
from obspool_dashboard.widgets.columns import wrapped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual import events

# Lines that one turn of the wheel moves.
WHEEL = 3


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


def heading(title: str, note: str = "") -> Line:
    """Return the title of a section."""
    return (gap(1), Part(title, Role.HEADING), gap(2), Part(note, Role.FAINT))


def fact(name: str, names: int, value: Line, more: Line = EMPTY) -> Line:
    """Return a line with a name, a value, and what there is to say of it."""
    return (gap(3), Part(name.ljust(names), Role.MUTED), gap(2), *value, *more)


def paragraph(text: str, width: int, indent: int, role: Role = Role.MUTED) -> list[Line]:
    """Return a text in lines that fit."""
    return [(gap(indent), Part(line, role)) for line in wrapped(text, width - indent - 1)]
