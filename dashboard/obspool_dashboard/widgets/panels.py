"""The rules between panels, and the line for what must not be missed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from obspool_dashboard.lines import EMPTY, Line, LineWidget, Part, Role, gap, width_of

if TYPE_CHECKING:
    from collections.abc import Sequence


class PanelTitle(LineWidget):
    """A rule with the panel's name in it, and a note at its right end."""

    def __init__(self, title: str, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self._title = title
        self._note: Line = EMPTY
        self._chosen = False

    def set_chosen(self, *, chosen: bool) -> None:
        """Say whether keys go to the panel below."""
        if chosen != self._chosen:
            self._chosen = chosen
            self.redraw()

    def show_title(self, title: str) -> None:
        """Change the name."""
        if title != self._title:
            self._title = title
            self.redraw()

    def show_note(self, note: Line) -> None:
        """Change the note."""
        if note != self._note:
            self._note = note
            self.redraw()

    def lines(self, width: int, height: int) -> Sequence[Line]:
        """Say what stands in the rule."""
        del height
        rule = self.glyphs.rule
        role = Role.NAME if self._chosen else Role.HEADING
        title = (Part(f"{rule} ", Role.FAINT), Part(self._title, role), gap(1))
        note = (gap(1), *self._note, Part(f" {rule}", Role.FAINT)) if self._note else EMPTY
        room = width - width_of(title) - width_of(note)
        if room < 0:
            note, room = EMPTY, width - width_of(title)
        return [(*title, Part(rule * room, Role.FAINT), *note)]


class Banner(LineWidget):
    """One line across the screen for what must not be missed; away when there is nothing."""

    text = ""
    role = Role.NOTICE

    def show_text(self, text: str, role: Role = Role.NOTICE) -> None:
        """Show a text, or go away when it is empty."""
        self.display = bool(text)
        if (text, role) != (self.text, self.role):
            self.text, self.role = text, role
            self.redraw()

    def lines(self, width: int, height: int) -> Sequence[Line]:
        """Say it."""
        del height
        return [(Part(self.glyphs.fit(f" {self.glyphs.printable(self.text)}", width), self.role),)]
