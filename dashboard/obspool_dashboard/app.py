"""The application behind `obspool top`: it holds what all screens share, and ends in good order."""

from __future__ import annotations

import asyncio
import signal
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import SystemCommand
from textual.binding import Binding, BindingType
from textual.message import Message

from obspool_dashboard.lines import Palette
from obspool_dashboard.picture import self_contained
from obspool_dashboard.questions import BySignals, told
from obspool_dashboard.reader import in_background
from obspool_dashboard.screens.keys import is_movement
from obspool_dashboard.screens.pool import PoolScreen
from obspool_dashboard.themes import THEMES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from textual.screen import Screen

    from obspool.telemetry.registry import PoolEntry
    from obspool_dashboard.questions import Deed
    from obspool_dashboard.source import Source

END_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class TopApp(Palette):
    """Shows one pool, or the list of pools; everything it knows comes from its source."""

    CSS_PATH = "top.tcss"
    TITLE = "obspool top"
    BINDINGS: ClassVar[list[BindingType]] = [
        # In a dialog too: the way out of everything.
        Binding("ctrl+c,ctrl+q", "quit", "Quit", show=False, priority=True),
        Binding("f12", "picture", "Picture", show=False, tooltip="Write the screen to an SVG file"),
    ]

    class Told(Message):
        """A pool was told something, and has accepted it or not."""

        def __init__(self, text: str, error: Exception | None) -> None:
            super().__init__()
            self.text = text
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
        sort: str = "",
        pattern: str = "",
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
            sort: the column of workers to sort by; empty for the slot.
            pattern: show only workers in which this text is found.
            clock: gives the time in seconds of the UNIX epoch.
        """
        # Without it Textual turns colours into greys under NO_COLOR, which it still sends.
        super().__init__(ansi_color=True if no_color else None)
        self.source = source
        self.interval = interval
        self.read_only = read_only
        self.clock = clock
        self.sort = sort
        self.pattern = pattern
        self.end_signal: signal.Signals | None = None
        self._entry = entry
        self._target = target
        self.set_class(ascii_only, "-ascii")
        self.set_class(no_color, "-no-color")
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = THEMES[0].name

    def on_mount(self) -> None:
        """Begin with the pool that was asked for, or the list."""
        # By way of the event loop: a signal that ends Textual leaves the terminal as it is.
        loop = asyncio.get_running_loop()
        for number in END_SIGNALS:
            loop.add_signal_handler(number, self._end_by, number)
        # Pushed, as Textual can't switch from its default screen to another.
        self.push_screen(
            _list_of_pools(self._target) if self._entry is None else PoolScreen(self._entry)
        )

    def _end_by(self, number: signal.Signals) -> None:
        self.end_signal = number
        self.exit()

    def attach(self, entry: PoolEntry) -> None:
        """Look at a pool."""
        self.switch_screen(PoolScreen(entry))

    def show_pools(self) -> None:
        """Show all pools of the host."""
        self.switch_screen(_list_of_pools())

    def do(self, entry: PoolEntry, deed: Deed) -> None:
        """Do what a question was answered with, in a thread: a stopped pool answers late or never.

        What became of it is shown when it is known.
        """
        name = entry.facts.name
        if isinstance(deed, BySignals):
            self.notify(f"ending the process of {name}", markup=False)
            in_background(
                lambda: self.source.end(entry, deed.workers),
                lambda how: self.post_message(self.Told(f"{name}: {how.value}", how.error)),
            )
            return
        in_background(
            lambda: self.source.send(entry, deed),
            lambda reply: self.post_message(
                self.Told(f"{name} was told to {told(deed)}", reply.error)
            ),
        )

    def on_top_app_told(self, message: Told) -> None:
        """Say what became of a command."""
        if message.error is not None:
            # The message of a ControlError says to whom, why, and what to do.
            self.notify(str(message.error), severity="error", timeout=10, markup=False)
            return
        self.notify(message.text, markup=False)
        for screen in self.screen_stack:
            if isinstance(screen, PoolScreen):
                screen.reader.now()

    def action_picture(self) -> None:
        """Write the screen to a file, in the directory that the command was given in."""
        at = time.strftime("%Y%m%d-%H%M%S", time.localtime(self.clock()))
        path = Path(f"obspool-top-{at}.svg").absolute()
        try:
            path.write_text(self_contained(self.export_screenshot(title="obspool top")), "utf-8")
        except OSError as error:
            self.notify(f"can't write {path}: {error.strerror}", severity="error", markup=False)
            return
        self.notify(f"wrote {path}", markup=False)

    def copy(self, text: str) -> None:
        """Put a text into the terminal's clipboard (OSC 52; not every terminal takes it)."""
        self.copy_to_clipboard(text)
        lines = len(text.splitlines())
        self.notify(text if lines == 1 else f"{lines} lines are in the clipboard", markup=False)

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """Fill the palette with the keys that work now, as the help does, and the themes."""
        for active in screen.active_bindings.values():
            binding = active.binding
            if active.enabled and binding.description and not is_movement(binding):
                yield SystemCommand(
                    binding.tooltip or binding.description,
                    f"key {self.get_key_display(binding)}",
                    partial(self.run_action, binding.action, active.node),
                )
        for theme in THEMES:
            yield SystemCommand(
                f"Theme {theme.name.removeprefix('obspool-')}",
                "colours, until this ends",
                partial(setattr, self, "theme", theme.name),
            )

    def get_key_display(self, binding: Binding) -> str:
        """Name a key in ASCII where the terminal shows nothing else."""
        shown = super().get_key_display(binding)
        return shown if shown.isascii() or not self.has_class("-ascii") else binding.key


def _list_of_pools(target: str | None = None) -> Screen[None]:
    # Imported when it is wanted: the first frame of a pool doesn't wait for it.
    from obspool_dashboard.screens.pick import PickScreen  # noqa: PLC0415

    return PickScreen(target)
