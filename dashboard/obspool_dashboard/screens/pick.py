"""The pools of this host: a live list to pick from, and the place to wait for one to appear."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import Screen

from obspool import units
from obspool_dashboard.lines import EMPTY, Line, LineWidget, Part, Role, gap
from obspool_dashboard.overview import Overview, Watch
from obspool_dashboard.reader import Reader
from obspool_dashboard.screens.help import HelpScreen, active_keys
from obspool_dashboard.screens.keys import SORT
from obspool_dashboard.widgets.keybar import KeyBar
from obspool_dashboard.widgets.panels import Banner, PanelTitle
from obspool_dashboard.widgets.pools import COLUMNS, PoolRow, PoolTable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.app import ComposeResult

    from obspool.telemetry.registry import Skipped
    from obspool_dashboard.app import TopApp


# To list pools is to look through /proc: dearer than to read one, and nobody needs it so often.
LEAST_INTERVAL = 1.0


class Waiting(LineWidget):
    """What to do when no pool runs."""

    def lines(self, width: int, height: int) -> Sequence[Line]:
        """Say that none runs, and how to get one."""
        del width, height
        return [
            EMPTY,
            (gap(2), Part("No pool runs on this host that you may see.", Role.STRONG)),
            EMPTY,
            (gap(2), Part("In your program   "), Part("from obspool import Pool", Role.NAME)),
            (gap(2), Part("To have a look    "), Part("obspool demo", Role.NAME)),
            EMPTY,
            (gap(2), Part("This attaches as soon as one appears.", Role.MUTED)),
        ]


class PickScreen(Screen[None], inherit_bindings=False):
    """Lists pools; attaches by itself when it found none and then one appears."""

    app: TopApp

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark,f1", "help", "Help"),
        Binding("q", "app.quit", "Quit"),
        Binding("<", "sort(-1)", "Sort", tooltip="Sort by the column before", group=SORT),
        Binding(">", "sort(1)", "Sort", tooltip="Sort by the next column", group=SORT),
        Binding("I", "invert", "Invert", tooltip="Turn the order round", group=SORT),
    ]

    class Arrived(Message):
        """The reader has a listing to be taken."""

    def __init__(self, target: str | None = None) -> None:
        """Prepare a list of all pools, or of those that `target` names."""
        super().__init__()
        self.target = target
        self.reader: Reader[Overview]
        self._waits = False
        self._several = False

    def compose(self) -> ComposeResult:
        """Make the list."""
        yield PanelTitle("Pools", id="pools-title")
        yield Waiting(id="waiting")
        yield Banner(id="banner")
        yield PoolTable(id="pools")
        yield KeyBar(id="keys")

    def on_mount(self) -> None:
        """Begin to list."""
        self.query_one(Banner).display = False
        self.query_one(Waiting).display = False
        interval = max(LEAST_INTERVAL, self.app.interval)
        watch = Watch(self.app.source, self.target)
        self.reader = Reader(watch.look, lambda: self.post_message(self.Arrived()), interval)
        self.reader.start()

    def on_unmount(self) -> None:
        """Let the reader end."""
        self.reader.stop()

    @on(Arrived)
    def take_listing(self) -> None:
        """Show the pools there are; attach when one is there that was waited for."""
        reading = self.reader.take()
        if reading is None or self.app.screen is not self:
            return
        banner = self.query_one(Banner)
        if reading.value is None:
            banner.show_text(f"CAN'T LIST POOLS: {reading.error}", Role.ALARM)
            return
        entries, frames = reading.value.entries, reading.value.frames
        banner.show_text(_skipped_text(reading.value.listing.skipped))
        live = [entry for entry in entries if entry.alive]
        if self._waits and len(live) == 1:
            self.app.attach(live[0])
            return
        self._waits = not live
        now = self.app.clock()
        self.query_one(Waiting).display = not live
        table = self.query_one(PoolTable)
        table.display = bool(entries)
        if self._several != (len(entries) > 1):
            self._several = len(entries) > 1
            self.refresh_bindings()
        named = sorted(entries, key=lambda entry: entry.facts.name)
        table.show_rows([PoolRow(entry, now, frames.get(entry.path)) for entry in named])
        ended = len(entries) - len(live)
        note = f"{len(live)} running, {ended} ended"
        if frames:
            workers = sum(frame.live_workers for frame in frames.values())
            items = sum(frame.rates.items or 0.0 for frame in frames.values())
            note = f"{workers:,} workers   {units.rate(items)} items/s   {note}"
        self.query_one(PanelTitle).show_note((Part(note, Role.MUTED),))

    @on(PoolTable.Picked)
    def attach(self, message: PoolTable.Picked) -> None:
        """Look at the pool that was picked."""
        self.app.attach(message.entry)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keep back the keys that could do nothing now."""
        del parameters
        return action not in {"sort", "invert"} or self._several

    def action_sort(self, step: int) -> None:
        """Sort by a neighbouring column."""
        self.query_one(PoolTable).shift_sort(step)

    def action_invert(self) -> None:
        """Turn the order round."""
        table = self.query_one(PoolTable)
        table.sort_by(table.sort, descending=not table.descending)

    def action_help(self) -> None:
        """Show the keys that work now."""
        self.app.push_screen(HelpScreen(active_keys(self.app, self), COLUMNS))


def _skipped_text(skipped: Sequence[Skipped]) -> str:
    """Tell of files that are no pools, or of another version: the first, and how many more."""
    if not skipped:
        return ""
    more = f" (and {len(skipped) - 1} more)" if len(skipped) > 1 else ""
    return f"SKIPPED {skipped[0].path}: {skipped[0].reason}{more}"
