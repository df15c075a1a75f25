"""The application behind `obspool top`: it holds what all screens share, and ends in good order."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING, ClassVar

from textual.app import App
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.theme import Theme

from obspool_dashboard.reader import in_background
from obspool_dashboard.screens.pick import PickScreen
from obspool_dashboard.screens.pool import PoolScreen

if TYPE_CHECKING:
    from collections.abc import Callable

    from obspool.telemetry.registry import PoolEntry
    from obspool_dashboard.source import Command, Source

END_SIGNALS = (signal.SIGTERM, signal.SIGHUP)

# Calm: one green for work, amber and red only for what wants a person.
THEME = Theme(
    name="obspool",
    primary="#7aa2c8",
    secondary="#5f87a8",
    accent="#7aa2c8",
    foreground="#c3cad3",
    background="#10151b",
    surface="#161d25",
    panel="#1d2630",
    success="#7fb685",
    warning="#d9a95b",
    error="#e06c75",
    dark=True,
    variables={
        "footer-background": "#161d25",
        "footer-key-foreground": "#7aa2c8",
        "footer-description-foreground": "#8b97a5",
        "scrollbar": "#2b3743",
        "scrollbar-hover": "#3a4856",
        "scrollbar-active": "#4a5a6a",
        "scrollbar-background": "#10151b",
        "scrollbar-background-hover": "#10151b",
        "scrollbar-background-active": "#10151b",
    },
)


class TopApp(App[int]):
    """Shows one pool, or the list of pools; everything it knows comes from its source."""

    CSS_PATH = "top.tcss"
    TITLE = "obspool top"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        # In a dialog too: the way out of everything.
        Binding("ctrl+c,ctrl+q", "quit", "Quit", show=False, priority=True),
    ]

    class Told(Message):
        """A pool was told something, and has accepted it or not."""

        def __init__(self, entry: PoolEntry, command: Command, error: Exception | None) -> None:
            super().__init__()
            self.entry = entry
            self.command = command
            self.error = error

    def __init__(
        self,
        source: Source,
        *,
        entry: PoolEntry | None = None,
        target: str | None = None,
        interval: float = 1.0,
        read_only: bool = False,
        no_color: bool = False,
        ascii_only: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare.

        Args:
            source: of all pools and snapshots.
            entry: the pool to begin with; None for the list.
            target: which pools the list shows, by name or pid; None for all.
            interval: seconds from one reading to the next.
            read_only: leave out all that changes a pool.
            no_color: say it without colours; NO_COLOR in the environment makes Textual drop them.
            ascii_only: draw with ASCII characters only.
            clock: gives the time in seconds of the UNIX epoch.
        """
        # Without it Textual turns colours into greys under NO_COLOR, which it still sends.
        super().__init__(ansi_color=True if no_color else None)
        self.source = source
        self.interval = interval
        self.read_only = read_only
        self.clock = clock
        self.end_signal: signal.Signals | None = None
        self._entry = entry
        self._target = target
        self.set_class(ascii_only, "-ascii")
        self.set_class(no_color, "-no-color")
        self.register_theme(THEME)
        self.theme = THEME.name

    def on_mount(self) -> None:
        """Begin with the pool that was asked for, or the list."""
        # By way of the event loop: a signal that ends Textual leaves the terminal as it is.
        loop = asyncio.get_running_loop()
        for number in END_SIGNALS:
            loop.add_signal_handler(number, self._end_by, number)
        # Pushed, as Textual can't switch from its default screen to another.
        self.push_screen(
            PickScreen(self._target) if self._entry is None else PoolScreen(self._entry)
        )

    def _end_by(self, number: signal.Signals) -> None:
        self.end_signal = number
        self.exit()

    def attach(self, entry: PoolEntry) -> None:
        """Look at a pool."""
        self.switch_screen(PoolScreen(entry))

    def show_pools(self) -> None:
        """Show all pools of the host."""
        self.switch_screen(PickScreen())

    def tell(self, entry: PoolEntry, command: Command) -> None:
        """Send a command in a thread of its own: a stopped pool answers late or never."""
        in_background(
            lambda: self.source.send(entry, command),
            lambda error: self.post_message(self.Told(entry, command, error)),
        )

    def on_top_app_told(self, message: Told) -> None:
        """Say what became of a command."""
        name = message.entry.facts.name
        if message.error is not None:
            # The message of a ControlError says to whom, why, and what to do.
            self.notify(str(message.error), severity="error", timeout=10, markup=False)
            return
        self.notify(f"{name} was told to {message.command}", markup=False)
        if isinstance(self.screen, PoolScreen):
            self.screen.reader.now()

    def get_key_display(self, binding: Binding) -> str:
        """Name a key in ASCII where the terminal shows nothing else."""
        shown = super().get_key_display(binding)
        return shown if shown.isascii() or not self.has_class("-ascii") else binding.key
