"""Where a worker is now: the Python stack of its threads, taken anew on a key."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import Screen

from obspool import units
from obspool_dashboard.lines import Line, Part, Role, gap
from obspool_dashboard.reader import in_background
from obspool_dashboard.screens.help import HelpScreen, active_keys
from obspool_dashboard.widgets.keybar import KeyBar
from obspool_dashboard.widgets.page import Page, paragraph
from obspool_dashboard.widgets.panels import PanelTitle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.app import ComposeResult

    from obspool.telemetry.registry import PoolEntry
    from obspool_dashboard.app import TopApp
    from obspool_dashboard.reader import Reading
    from obspool_dashboard.source import Request

# faulthandler's lines.
_FRAME = re.compile(r'  File "(?P<file>.*)", line (?P<line>\d+) in (?P<function>.*)')


class StackPage(Page):
    """The lines of a stack, or why there is none."""

    stack = ""
    failure = ""

    def content(self, width: int) -> Sequence[Line]:
        """Return the page."""
        if self.failure:
            return paragraph(self.glyphs.printable(self.failure), width, 1, Role.BAD)
        return [self._line(text) for text in self.stack.splitlines()]

    @property
    def text(self) -> str:
        """The stack as it came."""
        return self.stack or self.failure

    def _line(self, text: str) -> Line:
        found = _FRAME.fullmatch(text)
        show = self.glyphs.printable
        if found is None:
            return (gap(1), Part(show(text), Role.HEADING))
        where = f"  {found['file']}:{found['line']}"
        return (gap(3), Part(show(found["function"]), Role.STRONG), Part(show(where), Role.MUTED))


class StackScreen(Screen[None], inherit_bindings=False):
    """Asks for the stack of one slot; another request is sent only when the last was answered."""

    app: TopApp

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s,r,f5", "refresh_stack", "Again", tooltip="Take the stack anew"),
        Binding("escape,q", "dismiss(None)", "Back", key_display="Esc"),
        Binding("y", "copy", "Copy", tooltip="Copy the stack"),
        Binding("question_mark,f1", "help", "Help"),
    ]

    class Answered(Message):
        """The pool has answered, or not."""

        def __init__(self, reading: Reading[str]) -> None:
            super().__init__()
            self.reading = reading

    def __init__(self, entry: PoolEntry, request: Request) -> None:
        super().__init__()
        self.entry = entry
        self.request = request
        self.asking = False

    def compose(self) -> ComposeResult:
        """Make the page."""
        yield PanelTitle("Stack")
        yield StackPage()
        yield KeyBar(id="keys")

    def on_mount(self) -> None:
        """Ask."""
        name, slot = self.entry.facts.name, self.request.arguments["slot"]
        title = self.query_one(PanelTitle)
        title.set_chosen(chosen=True)
        title.show_title(title.glyphs.printable(f"Stack of slot {slot} of {name}"))
        self.query_one(StackPage).focus()
        self.action_refresh_stack()

    def action_refresh_stack(self) -> None:
        """Ask for the stack as it is now; what is there stays until the answer."""
        if self.asking:
            return
        self.asking = True
        self._note("asking the pool")
        source, entry, request = self.app.source, self.entry, self.request
        in_background(
            lambda: source.send(entry, request),
            lambda reading: self.post_message(self.Answered(reading)),
        )

    @on(Answered)
    def show_answer(self, message: Answered) -> None:
        """Show the stack, or why there is none."""
        self.asking = False
        reading, page = message.reading, self.query_one(StackPage)
        page.failure = "" if reading.error is None else str(reading.error)
        page.stack = reading.value or page.stack
        page.redraw()
        self._note(f"at {units.time_of_day(self.app.clock())}, the innermost call first")

    def action_copy(self) -> None:
        """Copy the stack."""
        self.app.copy(self.query_one(StackPage).text)

    def action_help(self) -> None:
        """Show the keys that work now."""
        self.app.push_screen(HelpScreen(active_keys(self.app, self), ()))

    def _note(self, text: str) -> None:
        self.query_one(PanelTitle).show_note((Part(text, Role.MUTED),))
