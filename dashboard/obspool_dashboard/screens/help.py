"""The help: the keys that work now, taken from the bindings, and what the columns mean."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from textual.app import App, ComposeResult
    from textual.screen import Screen

    from obspool_dashboard.widgets.columns import Column


# As in the style sheet: the box, and what its border, padding, indent and scrollbar take of it.
WIDTH = 84
MARGINS = 9
LEAST_TEXT = 16


class HelpScreen(ModalScreen[None], inherit_bindings=False):
    """A page to read and leave."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,f1,q", "dismiss(None)", "Back"),
        Binding("j,down", "scroll(1)", "Down", show=False),
        Binding("k,up", "scroll(-1)", "Up", show=False),
        Binding("pagedown", "scroll(10)", "Page down", show=False),
        Binding("pageup", "scroll(-10)", "Page up", show=False),
    ]

    def __init__(self, keys: Sequence[tuple[str, str]], columns: Sequence[Column[Any]]) -> None:
        super().__init__()
        self._keys = keys
        self._columns = columns

    def compose(self) -> ComposeResult:
        """Make the page."""
        width = min(WIDTH, self.app.size.width) - MARGINS
        with VerticalScroll(id="help", can_focus=False):
            yield Static("Keys", classes="help-title", markup=False)
            yield Static(_table(self._keys, width), classes="help-rows", markup=False)
            if self._columns:
                yield Static("Columns", classes="help-title", markup=False)
                rows = [(column.title, column.about) for column in self._columns]
                yield Static(_table(rows, width), classes="help-rows", markup=False)
            yield Static("Esc: back", classes="help-end", markup=False)

    def action_scroll(self, lines: int) -> None:
        """Scroll by lines."""
        self.query_one("#help").scroll_relative(y=lines, animate=False)


def active_keys(app: App[Any], screen: Screen[Any]) -> list[tuple[str, str]]:
    """Return the keys that do something now, those of one action together, and what they do."""
    keys: dict[str, list[str]] = {}
    texts: dict[str, str] = {}
    for active in screen.active_bindings.values():
        binding = active.binding
        if not active.enabled or not binding.description:
            continue
        keys.setdefault(binding.action, []).append(app.get_key_display(binding))
        texts.setdefault(binding.action, binding.tooltip or binding.description)
    return [(" ".join(dict.fromkeys(names)), texts[action]) for action, names in keys.items()]


def _table(rows: Sequence[tuple[str, str]], width: int) -> Content:
    """Write names and texts in two columns, the texts wrapped within theirs."""
    names = max(len(name) for name, _ in rows)
    lines = []
    for name, text in rows:
        first, *more = textwrap.wrap(text, max(LEAST_TEXT, width - names - 2))
        lines.append(Content.assemble((name.ljust(names), "$primary"), "  ", first))
        lines += [Content(" " * (names + 2) + line) for line in more]
    return Content("\n").join(lines)
