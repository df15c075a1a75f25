"""One pool: its header, and its panels: workers, jobs, events, tuning, and one worker's page."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.message import Message
from textual.widgets import Input

from obspool_dashboard.condition import Look, condition, frozen
from obspool_dashboard.frame import Frame, next_frame
from obspool_dashboard.history import History
from obspool_dashboard.lines import Part, Role
from obspool_dashboard.reader import Reader
from obspool_dashboard.screens import keys
from obspool_dashboard.screens.help import HelpScreen, active_keys
from obspool_dashboard.screens.steered import SteeredScreen
from obspool_dashboard.source import Command
from obspool_dashboard.trail import NO_TRAIL, Trail, Trails
from obspool_dashboard.widgets.details import WorkerPage
from obspool_dashboard.widgets.events import EventTable
from obspool_dashboard.widgets.header import PoolHeader
from obspool_dashboard.widgets.heights import TITLE, share_out
from obspool_dashboard.widgets.jobs import JobTable
from obspool_dashboard.widgets.keybar import KeyBar
from obspool_dashboard.widgets.page import Page
from obspool_dashboard.widgets.panels import Banner, PanelTitle
from obspool_dashboard.widgets.table import LiveTable
from obspool_dashboard.widgets.tuning import TuningPage
from obspool_dashboard.widgets.workers import WorkerTable

if TYPE_CHECKING:
    from typing import Any

    from textual.app import ComposeResult
    from textual.binding import BindingType

    from obspool.telemetry.registry import PoolEntry
    from obspool.telemetry.snapshot import JobSnapshot, Snapshot

INTERVALS = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0)
HEADER_LINES = 3
FOOTER_LINES = 1
# With fewer lines a panel that is alone has no title either.
TITLED_LEAST = 8


class Panel(StrEnum):
    """The panels; each is the id of its widget."""

    WORKERS = "workers"
    JOBS = "jobs"
    EVENTS = "events"
    TUNING = "tuning"
    WORKER = "worker"


TABLES = (Panel.WORKERS, Panel.JOBS, Panel.EVENTS)
PAGES = (Panel.TUNING, Panel.WORKER)


class PoolScreen(SteeredScreen, inherit_bindings=True):
    """Looks at one pool until another is picked; also at one that has ended."""

    BINDINGS: ClassVar[list[BindingType]] = [*keys.LOOK, *keys.CONTROL, *keys.VIEW]

    class Arrived(Message):
        """The reader has a reading to be taken."""

    def __init__(self, entry: PoolEntry) -> None:
        super().__init__(entry)
        self.shown: Frame | None = None
        self.frozen_at: float | None = None
        self.readings = 0
        self.panel = Panel.WORKERS
        self.maximised = False
        self.slot: int | None = None
        self._arrived_at = 0.0
        # What the keys that are offered depend on, but for the panel.
        self._offered: tuple[object, ...] = ()
        self._history = History()
        self._trails = Trails()
        self._frozen_trails: dict[int, Trail] = {}
        self.reader: Reader[Snapshot]

    def compose(self) -> ComposeResult:
        """Make the panels; their heights are shared out by the number of lines there are."""
        yield PoolHeader(id="pool")
        yield Banner(id="banner")
        yield PanelTitle("Workers", id="workers-title")
        yield WorkerTable(id="workers")
        yield PanelTitle("Jobs", id="jobs-title")
        yield JobTable(id="jobs")
        yield PanelTitle("Events", id="events-title")
        yield EventTable(id="events")
        yield PanelTitle("Tuning", id="tuning-title")
        yield TuningPage(id="tuning")
        yield PanelTitle("Worker", id="worker-title")
        yield WorkerPage(id="worker")
        yield Input(id="filter", compact=True, placeholder="only rows with this text")
        yield KeyBar(id="keys")

    def on_mount(self) -> None:
        """Begin to read."""
        source, entry = self.app.source, self.entry
        self._arrived_at = self.app.clock()
        self.query_one(Banner).display = False
        field = self.query_one(Input)
        field.display = field.cursor_blink = False
        self.query_one(PoolHeader).read_only = self.app.read_only
        self._begin_as_asked()
        self.choose(Panel.WORKERS)
        self.reader = Reader(
            lambda: source.read(entry),
            lambda: self.post_message(self.Arrived()),
            self.app.interval,
        )
        self.reader.start()
        self.set_interval(1.0, self.show_banner)

    def _begin_as_asked(self) -> None:
        table = self.query_one(WorkerTable)
        for column in table.columns:
            if self.app.sort in {column.key, column.title.lower()}:
                table.sort, table.descending = column, column.descending
        table.pattern = self.app.pattern

    def on_unmount(self) -> None:
        """Let the reader end; one that is stuck can't hold the screen."""
        self.reader.stop()

    def on_resize(self) -> None:
        """Share out the lines anew."""
        self._lay_out()

    @on(Arrived)
    def take_reading(self) -> None:
        """Take what the reader has; frozen values stay, and everything else knows the newest."""
        reading = self.reader.take()
        if reading is None:
            return
        self.readings += 1
        self._arrived_at = self.app.clock()
        self.failure = reading.error
        if reading.value is not None:
            self.latest = next_frame(self._history, reading.value)
            if self.latest.ended:
                self.reader.stop()
            else:
                self._trails.add(reading.value, self.latest.rates)
            if self.frozen_at is None:
                self.shown = self.latest
        self._show()
        self.offer_keys()

    @on(LiveTable.Moved)
    def offer_keys(self) -> None:
        """Change the keys that are offered, if those that make sense are others now."""
        offered = self.control_state, self._over, self.may_end
        if offered != self._offered:
            self._offered = offered
            self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keep back the keys that could do nothing now: they aren't shown either."""
        match action:
            case "command":
                return Command(str(parameters[0])) in self.control_state
            case "end":
                return self.may_end
            case "interval":
                return not self._over
            case "freeze":
                return not self._over or self.frozen_at is not None
            case "filter" | "maximise":
                return self.panel in TABLES
            case "sort" | "invert":
                return self.panel in {Panel.WORKERS, Panel.JOBS}
            case "details":
                return self.panel is Panel.WORKERS
        return True

    @property
    def _over(self) -> bool:
        """Whether the pool has ended: there will be no other values."""
        return self.latest is not None and self.latest.ended

    def target_slot(self) -> int | None:
        """Return the slot under the cursor, or on the page."""
        if self.panel is Panel.WORKER:
            return self.slot
        cursor = self.query_one(WorkerTable).cursor
        return cursor.worker.slot if self.panel is Panel.WORKERS and cursor else None

    def target_job(self) -> JobSnapshot | None:
        """Return the job under the cursor, when it is in progress."""
        cursor = self.query_one(JobTable).cursor
        if self.panel is not Panel.JOBS or cursor is None or not cursor.running:
            return None
        return cursor.job

    def choose(self, panel: Panel) -> None:
        """Let the keys go to a panel."""
        if panel is Panel.WORKER:
            cursor = self.query_one(WorkerTable).cursor
            if self.panel is not Panel.WORKER and cursor is not None:
                self.slot = cursor.worker.slot
        self.panel = panel
        for each in Panel:
            self.query_one(f"#{each}-title", PanelTitle).set_chosen(chosen=each is panel)
            if each in TABLES:
                table: LiveTable[Any] = self.query_one(f"#{each}", LiveTable)
                table.set_active(active=each is panel)
        self._lay_out()
        self.query_one(f"#{panel}").focus()
        self._show()
        self.refresh_bindings()

    @property
    def _table(self) -> LiveTable[Any]:
        """The table that keys go to; that of the workers where a page is shown."""
        name = self.panel if self.panel in TABLES else Panel.WORKERS
        return self.query_one(f"#{name}", LiveTable)

    def action_panel(self, name: str) -> None:
        """Go to a panel."""
        self.choose(Panel(name))

    def action_details(self) -> None:
        """Go to the page of the worker under the cursor."""
        if self.query_one(WorkerTable).cursor is not None:
            self.choose(Panel.WORKER)

    def action_maximise(self) -> None:
        """Show this panel alone, or all of them again."""
        self.maximised = not self.maximised
        self._show()

    def action_back(self) -> None:
        """Leave, one after the other: the filter's line, a page, a panel alone, this pool."""
        if self.query_one(Input).display:
            self._close_filter()
        elif self.panel in PAGES:
            self.choose(Panel.WORKERS)
        elif self._table.pattern:
            self.filter_rows("")
        elif self.maximised:
            self.action_maximise()
        else:
            self.app.show_pools()

    def action_filter(self) -> None:
        """Open the line in which the filter is typed."""
        field = self.query_one(Input)
        field.value, field.display = self._table.pattern, True
        self._lay_out()
        field.focus()

    @on(Input.Changed)
    def filter_rows(self, event: Input.Changed | str) -> None:
        """Filter while it is typed."""
        pattern = event if isinstance(event, str) else event.value
        if isinstance(event, str) or self.query_one(Input).display:
            self._table.filter_by(pattern)
            self._show()

    @on(Input.Submitted)
    def _close_filter(self) -> None:
        """Close the line; what was typed in it goes on to filter."""
        self.query_one(Input).display = False
        self.query_one(f"#{self.panel}").focus()
        self._lay_out()

    @on(LiveTable.Clicked)
    def choose_clicked(self, message: LiveTable.Clicked) -> None:
        """Go to the panel that was clicked; twice on a worker: to its page."""
        name = message.control.id
        if name in set(TABLES) and self.panel != name:
            self.choose(Panel(name))
        if message.twice and self.panel is Panel.WORKERS:
            self.action_details()
        self.refresh_bindings()

    def action_freeze(self) -> None:
        """Hold the values, or show the newest again."""
        if self.frozen_at is None:
            self.frozen_at = self.app.clock()
            slots = self.shown.snapshot.present_workers if self.shown else ()
            self._frozen_trails = {each.slot: self._trails.of(each.slot) for each in slots}
        else:
            self.frozen_at = None
            self.shown = self.latest
        self.refresh_bindings()
        self._show()

    def action_sort(self, step: int) -> None:
        """Sort by a neighbouring column."""
        self._table.shift_sort(step)

    def action_invert(self) -> None:
        """Turn the order round."""
        self._table.sort_by(self._table.sort, descending=not self._table.descending)

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

    def action_copy(self) -> None:
        """Copy the line under the cursor, or the page."""
        widget = self.query_one(f"#{self.panel}")
        if isinstance(widget, Page):
            self.app.copy(widget.text)
        elif self._table.cursor is not None:
            self.app.copy(self._table.text_of(self._table.cursor))

    def action_help(self) -> None:
        """Show the keys that work now."""
        columns = self._table.columns if self.panel in TABLES else ()
        self.app.push_screen(HelpScreen(active_keys(self.app, self), columns))

    @on(LiveTable.Sorted)
    def show_notes(self) -> None:
        """Say in the titles how a table is sorted and filtered, and which rows are in view."""
        for name in TABLES:
            table: LiveTable[Any] = self.query_one(f"#{name}", LiveTable)
            title = self.query_one(f"#{name}-title", PanelTitle)
            title.show_note((Part(table.note, Role.MUTED),) if table.note else ())

    def show_banner(self) -> None:
        """Say what is out of the ordinary, and how old the values are."""
        if not self.is_mounted:
            return
        now = self.app.clock()
        age = now - self._arrived_at
        look = Look(self.latest, self.failure, age, self.app.interval, self.may_end)
        text, role = condition(look, now)
        if self.frozen_at is not None and self.shown is not None:
            text = f"{frozen(now - self.frozen_at, self.shown)}  {text}".rstrip()
        banner = self.query_one(Banner)
        if banner.display != bool(text):
            banner.show_text(text, role)
            self._lay_out()
        else:
            banner.show_text(text, role)

    def _show(self) -> None:
        """Bring the frame and all that is said about it to the screen."""
        faded = self.failure is not None or self._over
        header, page = self.query_one(PoolHeader), self.query_one(WorkerPage)
        widgets = (
            header,
            self.query_one(WorkerTable),
            self.query_one(JobTable),
            self.query_one(EventTable),
            self.query_one(TuningPage),
        )
        header.interval = self.app.interval
        for widget in (*widgets, page):
            widget.faded = faded
        if self.shown is not None:
            self._lay_out()
            for widget in widgets:
                if widget.display:
                    widget.show_frame(self.shown)
            if page.display:
                page.show_worker(self.shown, self.slot, self._trail())
                self.query_one("#worker-title", PanelTitle).show_title(f"Worker, slot {self.slot}")
        self.show_notes()
        self.show_banner()

    def _trail(self) -> Trail:
        if self.slot is None:
            return NO_TRAIL
        if self.frozen_at is None:
            return self._trails.of(self.slot)
        return self._frozen_trails.get(self.slot, NO_TRAIL)

    def _lay_out(self) -> None:
        banner, field = self.query_one(Banner), self.query_one(Input)
        around = HEADER_LINES + FOOTER_LINES + banner.display + field.display
        heights, titled = self._heights(max(0, self.size.height - around))
        for each in Panel:
            height = heights.get(each, 0)
            panel, title = self.query_one(f"#{each}"), self.query_one(f"#{each}-title")
            has_title = height > 0 and titled
            if (panel.display, title.display) != (height > 0, has_title):
                panel.display, title.display = height > 0, has_title
            if panel.styles.height is None or panel.styles.height.value != height:
                panel.styles.height = height

    def _heights(self, lines: int) -> tuple[dict[Panel, int], bool]:
        """Return the lines of the panels that are shown, and whether they have titles."""
        frame = self.shown
        if self.panel not in PAGES and not self.maximised:
            shared = share_out(
                lines,
                workers=len(frame.workers) if frame else 0,
                jobs=len(frame.jobs) if frame else 0,
                events=len(frame.snapshot.events) if frame else 0,
            )
            heights = dict(zip(TABLES, (shared.table, shared.jobs, shared.events), strict=True))
            if heights[self.panel] or frame is None:
                return heights, shared.titled
        titled = lines >= TITLED_LEAST
        return {self.panel: lines - TITLE * titled}, titled
