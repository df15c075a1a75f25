"""The dialogs: a question before something is done, and one for a number."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static

from obspool_dashboard.glyphs import ASCII, UNICODE, Glyphs
from obspool_dashboard.questions import Deed, NumberQuestion, Question

if TYPE_CHECKING:
    from collections.abc import Iterable

    from textual.app import ComposeResult


# With fewer lines the box is drawn without the space within.
SHORT = 16
# Lines around the text, as in the style sheet: border, padding, buttons.
AROUND_SHORT = 3
AROUND = 6
# The field for a number, with the line for what is wrong with it.
FIELD = 2


class Dialog(ModalScreen[Deed], inherit_bindings=False):
    """A box with a title, paragraphs that scroll, and buttons that always show."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Cancel"),
        Binding("tab", "app.focus_next", "Next button", show=False),
        Binding("shift+tab", "app.focus_previous", "Button before", show=False),
    ]

    fields = 0
    """Lines between the text and the buttons."""

    @property
    def glyphs(self) -> Glyphs:
        """The signs to draw with."""
        return ASCII if self.app.has_class("-ascii") else UNICODE

    def texts(self, title: str, body: Iterable[str]) -> ComposeResult:
        """Make the text; none of it is markup."""
        with VerticalScroll(id="body", can_focus=False):
            yield Static(self.glyphs.printable(title), id="question", markup=False)
            for paragraph in body:
                yield Static(self.glyphs.printable(paragraph), classes="paragraph", markup=False)

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
        around = (AROUND_SHORT if short else AROUND) + self.fields
        self.query_one("#body").styles.max_height = max(1, lines - around)


class ConfirmScreen(Dialog, inherit_bindings=True):
    """Asks one question; gives the deed of the answer whose button was pressed, else None."""

    AUTO_FOCUS = "#cancel"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right", "app.focus_next", "Next button", show=False),
        Binding("left", "app.focus_previous", "Button before", show=False),
    ]

    def __init__(self, question: Question) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        """Make the dialog."""
        question = self._question
        with Vertical(id="dialog", classes="-loses" if question.loses else ""):
            yield from self.texts(question.title, question.body)
            with Horizontal(id="buttons"):
                yield Button(question.keep, id="cancel", compact=True)
                for number, answer in enumerate(question.answers):
                    yield Button(answer.verb, id=f"answer-{number}", compact=True)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Answer."""
        event.stop()
        answers = {f"answer-{n}": a.deed for n, a in enumerate(self._question.answers)}
        self.dismiss(answers.get(event.button.id or ""))


class NumberScreen(Dialog, inherit_bindings=True):
    """Asks for a number; gives the deed it makes, or None."""

    AUTO_FOCUS = "#number"
    fields = FIELD

    def __init__(self, question: NumberQuestion) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        """Make the dialog."""
        question = self._question
        with Vertical(id="dialog"):
            yield from self.texts(question.title, question.body)
            yield Input(question.value, id="number", compact=True, select_on_focus=True)
            yield Static("", id="wrong", markup=False)
            with Horizontal(id="buttons"):
                yield Button("Cancel", id="cancel", compact=True)
                yield Button(question.verb, id="answer", compact=True)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take the number."""
        event.stop()
        self._take()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Answer."""
        event.stop()
        if event.button.id == "answer":
            self._take()
        else:
            self.dismiss(None)

    def _take(self) -> None:
        try:
            deed = self._question.make(self.query_one("#number", Input).value)
        except ValueError as error:
            self.query_one("#wrong", Static).update(f"Needed: {error}")
            return
        self.dismiss(deed)
