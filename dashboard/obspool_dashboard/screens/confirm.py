"""A question before something is lost; Cancel has the focus."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from obspool_dashboard.glyphs import ASCII, UNICODE

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from obspool_dashboard.questions import Question


# With fewer lines the box is drawn without the space within.
SHORT = 16
# Lines around the text, as in the style sheet: border, padding, buttons.
AROUND_SHORT = 3
AROUND = 6


class ConfirmScreen(ModalScreen[bool], inherit_bindings=False):
    """Asks one question; True only when the button that does it was pressed."""

    AUTO_FOCUS = "#cancel"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "answer(False)", "Cancel"),
        Binding("left,right,tab,shift+tab", "app.focus_next", "Other button", show=False),
    ]

    def __init__(self, question: Question) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        """Make the dialog; none of its texts is markup."""
        glyphs = ASCII if self.app.has_class("-ascii") else UNICODE
        question = self._question
        with Vertical(id="dialog", classes="-loses" if question.loses else ""):
            with VerticalScroll(id="body", can_focus=False):
                yield Static(glyphs.printable(question.title), id="question", markup=False)
                for paragraph in question.body:
                    yield Static(glyphs.printable(paragraph), classes="paragraph", markup=False)
            with Horizontal(id="buttons"):
                yield Button("Cancel", id="cancel", compact=True)
                yield Button(question.verb, id="confirm", compact=True)

    def on_mount(self) -> None:
        """Fit the terminal."""
        self._fit(self.app.size.height)

    def on_resize(self) -> None:
        """Fit the terminal's new size."""
        self._fit(self.size.height)

    def _fit(self, lines: int) -> None:
        """Leave room for the buttons, whatever the number of lines: the text scrolls."""
        short = lines < SHORT
        self.set_class(short, "-short")
        around = AROUND_SHORT if short else AROUND
        self.query_one("#body").styles.max_height = max(1, lines - around)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Answer."""
        event.stop()
        self.dismiss(event.button.id == "confirm")

    def action_answer(self, answer: bool) -> None:
        """Answer by key."""
        self.dismiss(answer)
