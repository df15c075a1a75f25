"""One pool: its header, its workers, its jobs and events, and the keys that steer it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Footer

from obspool import units
from obspool.words import PoolState
from obspool_dashboard.frame import Frame, next_frame
from obspool_dashboard.history import History
from obspool_dashboard.lines import Part, Role
from obspool_dashboard.questions import end_text, question_for
from obspool_dashboard.reader import Reader
from obspool_dashboard.screens.confirm import ConfirmScreen
from obspool_dashboard.screens.help import HelpScreen, active_keys
from obspool_dashboard.source import Command
from obspool_dashboard.widgets.columns import NARROW
from obspool_dashboard.widgets.header import PoolHeader
from obspool_dashboard.widgets.heights import share_out
from obspool_dashboard.widgets.panels import Banner, EventsPanel, JobsPanel, PanelTitle
from obspool_dashboard.widgets.table import LiveTable
from obspool_dashboard.widgets.workers import COLUMNS, WorkerTable

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from obspool.telemetry.registry import PoolEntry
    from obspool.telemetry.snapshot import Snapshot
    from obspool_dashboard.app import TopApp

INTERVALS = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0)
HEADER_LINES = 3
FOOTER_LINES = 1
# Without a reading for three intervals, and these seconds, the reader itself is stuck.
LATE_INTERVALS = 3
LATE_SECONDS = 3.0
SORT = Binding.Group("Sort", compact=True)
INTERVAL = Binding.Group("Interval", compact=True)


class PoolScreen(Screen[None], inherit_bindings=False):
    """Looks at one pool until another is picked; also at one that has ended."""

    app: TopApp

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark,f1", "help", "Help"),
        Binding("q", "app.quit", "Quit"),
        Binding("space", "freeze", "Freeze", tooltip="Freeze the values, or let them go on"),
        Binding("c", "command('close')", "Close", tooltip="Close the pool (asks first)"),
        Binding("X", "command('terminate')", "Terminate", tooltip="Terminate it (asks first)"),
        Binding("escape", "pools", "Pools", tooltip="Pick another pool", key_display="Esc"),
        Binding("<", "sort(-1)", "Sort", tooltip="Sort by the column before", group=SORT),
        Binding(">", "sort(1)", "Sort", tooltip="Sort by the next column", group=SORT),
        Binding("I", "invert", "Invert", tooltip="Turn the order round", group=SORT),
        Binding("+", "interval(1)", "Slower", tooltip="Read less often", group=INTERVAL),
        Binding("-", "interval(-1)", "Faster", tooltip="Read more often", group=INTERVAL),
    ]

    class Arrived(Message):
        """The reader has a reading to be taken."""

    def __init__(self, entry: PoolEntry) -> None:
        super().__init__()
        self.entry = entry
        self.latest: Frame | None = None
        self.shown: Frame | None = None
        self.frozen_at: float | None = None
        self.failure: Exception | None = None
        self.readings = 0
        self._arrived_at = 0.0
        self._history = History()
        self.reader: Reader[Snapshot]

    def compose(self) -> ComposeResult:
        """Make the panels; their heights are shared out by the number of lines there are."""
        yield PoolHeader(id="pool")
        yield Banner(id="banner")
        yield PanelTitle("Workers", id="workers-title")
        yield WorkerTable(id="workers")
        yield PanelTitle("Jobs", id="jobs-title")
        yield JobsPanel(id="jobs")
        yield PanelTitle("Events", id="events-title")
        yield EventsPanel(id="events")
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        """Begin to read."""
        # Textual's own breakpoints come with a resize, and a screen that is pushed has none.
        self.set_class(self.app.size.width >= NARROW, "-wide")
        source, entry = self.app.source, self.entry
        self._arrived_at = self.app.clock()
        self.query_one(Banner).display = False
        self.query_one(PoolHeader).read_only = self.app.read_only
        self.reader = Reader(
            lambda: source.read(entry),
            lambda: self.post_message(self.Arrived()),
            self.app.interval,
        )
        self.reader.start()
        self.set_interval(1.0, self.show_banner)

    def on_unmount(self) -> None:
        """Let the reader end; one that is stuck can't hold the screen."""
        self.reader.stop()

    def on_resize(self) -> None:
        """Share out the lines anew."""
        self.set_class(self.size.width >= NARROW, "-wide")
        self._lay_out()

    @on(Arrived)
    def take_reading(self) -> None:
        """Take what the reader has; frozen values stay, and everything else knows the newest."""
        reading = self.reader.take()
        if reading is None:
            return
        self.readings += 1
        before = self._control_state, self._over
        self._arrived_at = self.app.clock()
        self.failure = reading.error
        if reading.value is not None:
            self.latest = next_frame(self._history, reading.value)
            if self.latest.ended:
                self.reader.stop()
            if self.frozen_at is None:
                self.shown = self.latest
        self._show()
        if before != (self._control_state, self._over):
            self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keep back the keys that could do nothing now: they aren't shown either."""
        if action == "command":
            return Command(str(parameters[0])) in self._control_state
        if action == "interval":
            return not self._over
        if action == "freeze":
            return not self._over or self.frozen_at is not None
        return True

    @property
    def _over(self) -> bool:
        """Whether the pool has ended: there will be no other values."""
        return self.latest is not None and self.latest.ended

    @property
    def _control_state(self) -> frozenset[Command]:
        """The commands that make sense now."""
        frame = self.latest
        if self.app.read_only or frame is None or frame.ended or self.failure is not None:
            return frozenset()
        if frame.snapshot.facts.control is None:
            return frozenset()
        if frame.snapshot.state is PoolState.CLOSING:
            return frozenset({Command.TERMINATE})
        return frozenset(Command)

    def action_freeze(self) -> None:
        """Hold the values, or show the newest again."""
        if self.frozen_at is None:
            self.frozen_at = self.app.clock()
        else:
            self.frozen_at = None
            self.shown = self.latest
        self.refresh_bindings()
        self._show()

    def action_sort(self, step: int) -> None:
        """Sort by a neighbouring column."""
        self.query_one(WorkerTable).shift_sort(step)

    def action_invert(self) -> None:
        """Turn the order round."""
        table = self.query_one(WorkerTable)
        table.sort_by(table.sort, descending=not table.descending)

    def action_interval(self, step: int) -> None:
        """Read more or less often."""
        if step > 0:
            longer = [choice for choice in INTERVALS if choice > self.app.interval]
            interval = longer[0] if longer else self.app.interval
        else:
            shorter = [choice for choice in INTERVALS if choice < self.app.interval]
            interval = shorter[-1] if shorter else self.app.interval
        self.app.interval = self.reader.interval = interval
        self.reader.now()
        self._show()

    def action_command(self, verb: str) -> None:
        """Ask, and then tell the pool that is on the screen now, whatever is there later."""
        command, frame, entry, app = Command(verb), self.latest, self.entry, self.app
        if frame is None:
            return

        def answered(yes: bool | None) -> None:
            if yes:
                app.tell(entry, command)

        app.push_screen(ConfirmScreen(question_for(command, frame)), answered)

    def action_pools(self) -> None:
        """Go to the list of pools."""
        self.app.show_pools()

    def action_help(self) -> None:
        """Show the keys that work now."""
        self.app.push_screen(HelpScreen(active_keys(self.app, self), COLUMNS))

    @on(LiveTable.Sorted)
    def show_note(self) -> None:
        """Say in the table's title how it is sorted and which rows are in view."""
        table = self.query_one(WorkerTable)
        arrow = table.glyphs.down if table.descending else table.glyphs.up
        first, end = table.in_view
        note = [Part(f"sort: {table.sort.title.lower()} {arrow}", Role.MUTED)]
        if end - first < len(table.rows):
            rows = f"{first + 1}-{end} of {len(table.rows)}   "
            note.insert(0, Part(rows, Role.MUTED))
        self.query_one("#workers-title", PanelTitle).show_note(tuple(note))

    def show_banner(self) -> None:
        """Say what is out of the ordinary, and how old the values are."""
        if not self.is_mounted:
            return
        now = self.app.clock()
        text, role = self._condition(now)
        if self.frozen_at is not None and self.shown is not None:
            at = units.time_of_day(self.shown.values_time)
            frozen = (
                f"FROZEN for {units.span(now - self.frozen_at)}, values of {at}. Space goes on."
            )
            text = f"{frozen}  {text}" if text else frozen
        banner = self.query_one(Banner)
        if banner.display != bool(text):
            banner.show_text(text, role)
            self._lay_out()
        else:
            banner.show_text(text, role)

    def _condition(self, now: float) -> tuple[str, Role]:
        frame = self.latest
        if frame is not None and self._over:
            return end_text(frame, now)
        if self.failure is not None:
            old = "" if frame is None else f" Values {units.span(now - frame.values_time)} old."
            return f"CAN'T BE READ: {self.failure}.{old}", Role.ALARM
        late = now - self._arrived_at
        if late > max(LATE_SECONDS, LATE_INTERVALS * self.app.interval):
            return f"NO READING for {units.span(late)}: its segment doesn't answer.", Role.ALARM
        if frame is not None and frame.silent_for is not None:
            silent = units.span(frame.silent_for)
            return f"SILENT for {silent}: the pool's process is stopped or stuck.", Role.ALARM
        return "", Role.NOTICE

    def _show(self) -> None:
        """Bring the frame and all that is said about it to the screen."""
        faded = self.failure is not None or self._over
        header, table = self.query_one(PoolHeader), self.query_one(WorkerTable)
        jobs, events = self.query_one(JobsPanel), self.query_one(EventsPanel)
        header.interval = self.app.interval
        for widget in (header, table, jobs, events):
            widget.faded = faded
        if self.shown is not None:
            self._lay_out()
            for widget in (header, table, jobs, events):
                widget.show_frame(self.shown)
        self.show_note()
        self.show_banner()

    def _lay_out(self) -> None:
        frame = self.shown
        banner = self.query_one(Banner)
        lines = self.size.height - HEADER_LINES - FOOTER_LINES - banner.display
        heights = share_out(
            max(0, lines),
            workers=len(frame.workers) if frame else 0,
            jobs=len(frame.jobs) if frame else 0,
            events=len(frame.snapshot.events) if frame else 0,
        )
        for name, height, titled in (
            ("workers", heights.table, heights.titled),
            ("jobs", heights.jobs, heights.jobs > 0),
            ("events", heights.events, heights.events > 0),
        ):
            panel, title = self.query_one(f"#{name}"), self.query_one(f"#{name}-title")
            if (panel.display, title.display) != (height > 0, titled):
                panel.display, title.display = height > 0, titled
            if panel.styles.height is None or panel.styles.height.value != height:
                panel.styles.height = height
