"""A worker's page: what it is in, what it did since the dashboard looks, and its generations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from obspool import units
from obspool.words import EventKind
from obspool_dashboard.lines import EMPTY, Line, Part, Role, gap
from obspool_dashboard.trail import NO_TRAIL, Trail, fitted
from obspool_dashboard.widgets.events import event_text
from obspool_dashboard.widgets.page import INDENT, Page, fact, flowed, heading, paragraph
from obspool_dashboard.widgets.workers import STATE_ROLES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from obspool.telemetry.snapshot import Event, ItemError
    from obspool_dashboard.frame import Frame, WorkerRow

NAMES = 9
# Cells of a number beside its curve, and of the widest curve.
VALUES = 9
CURVE_MOST = 80
# From this width on what happened stands in the line of its time.
ROOMY = 64
_LIVES = (EventKind.WORKER_STARTED, EventKind.WORKER_EXITED)


class WorkerPage(Page):
    """All that is known of one slot."""

    row: WorkerRow | None = None
    frame: Frame | None = None
    slot: int | None = None
    trail: Trail = NO_TRAIL

    def show_worker(self, frame: Frame, slot: int | None, trail: Trail) -> None:
        """Show a slot of a frame; its row stays as it was when the slot is gone."""
        if slot != self.slot:
            self.slot, self.top, self.row = slot, 0, None
        self.frame, self.trail = frame, trail
        found = (row for row in frame.workers if row.worker.slot == slot)
        self.row = next(found, self.row)
        self.redraw()

    def content(self, width: int) -> Sequence[Line]:
        """Return the page."""
        if self.row is None or self.frame is None:
            return [(gap(1), Part("no such worker", Role.MUTED))]
        lines = self._now(self.frame, self.row, width)
        lines += [EMPTY, *self._load(self.frame, self.row, width)]
        if self.row.worker.errors:
            lines += [EMPTY, *self._errors(self.row.worker.errors, width)]
        return [*lines, EMPTY, *self._past(self.frame, self.row.worker.slot, width)]

    def _now(self, frame: Frame, row: WorkerRow, width: int) -> list[Line]:
        worker, glyphs = row.worker, self.glyphs
        state = f"{glyphs.states[worker.state]} {worker.state}{'?' if worker.torn else ''}"
        process = f"pid {worker.pid}, generation {worker.generation}"
        if worker.start_time is not None:
            process += f", for {units.span(frame.values_time - worker.start_time)}"
        limit = frame.snapshot.max_tasks_per_child
        of = f" of {limit:,}" if limit else ""
        tasks = f"{worker.process_tasks:,}{of} in this process, {worker.queue_tasks} sent to it"
        lines = heading("Now", "", width)
        lines += self._fact("state", (Part(state, STATE_ROLES[worker.state]),), width)
        lines += self._fact("process", (Part(process),), width)
        lines += self._fact("tasks", (Part(tasks),), width)
        if worker.exit_reason is not None:
            lines += self._fact("ended", (Part(str(worker.exit_reason), Role.BAD),), width)
        name = glyphs.printable(worker.function or units.NOTHING)
        lines += self._fact("function", (Part(name, Role.STRONG),), width)
        if worker.description:
            lines += self._fact("item", (Part(glyphs.printable(worker.description)),), width)
        if row.running is not None:
            lines += self._fact("for", self._against_usual(row), width)
        return lines

    def _against_usual(self, row: WorkerRow) -> Line:
        """Say how long the item has run, and how that compares with its function's p95."""
        took = units.duration(row.running, self.glyphs.micro)
        role = Role.WARN if row.stuck else Role.STRONG
        if not row.usual or row.running is None:
            return (Part(took, role),)
        times = row.running / row.usual
        much = f"{units.count(times)} times" if times >= 1 else "below"
        usual = f"{much} the p95 of its function, {units.duration(row.usual, self.glyphs.micro)}"
        mark = f"{self.glyphs.alert} " if row.stuck else ""
        return (Part(f"{mark}{took}", role), Part(f"   {usual}", role if row.stuck else Role.MUTED))

    def _load(self, frame: Frame, row: WorkerRow, width: int) -> list[Line]:
        worker, trail, rates = row.worker, self.trail, row.rates
        looked = units.span(frame.values_time - trail.since) if trail.since else "0 s"
        bad = f", {row.errors:,} failed" if row.errors else ""
        micro = self.glyphs.micro
        times = f"p50 {units.duration(row.p50, micro)}, p95 {units.duration(row.p95, micro)}"
        lowest = min(trail.memory, default=0.0)
        most = max(trail.memory, default=0.0)
        span = f"{units.size(lowest)} to {units.size(most)}" if most > lowest else ""
        growth = f"{units.size(worker.memory_growth)} since it was ready"
        curves = (
            ("busy", units.percent(rates.busy), trail.busy, (0.0, 1.0), ""),
            ("cpu", units.percent(rates.cpu), trail.cpu, (0.0, 1.0), ""),
            ("items/s", units.rate(rates.items), trail.items, (0.0, 0.0), ""),
            # A flat line of memory isn't drawn as nothing.
            (
                "rss", units.size(worker.resident_memory or None), trail.memory,
                (lowest if most > lowest else 0.0, 0.0), span,
            ),
        )  # fmt: skip
        lines = heading("Load", f"curves of the last {looked}, all generations", width)
        room = width - INDENT - NAMES - VALUES - 6
        for name, value, points, (low, high), note in curves:
            cells = min(CURVE_MOST, room - (len(note) + 2 if note else 0))
            curve = self.glyphs.sparkline(fitted(points, cells), low, high)
            start = (gap(INDENT), Part(name.ljust(NAMES), Role.MUTED), gap(2))
            drawn = (Part(f"{value:>{VALUES}}", Role.STRONG), gap(2), Part(curve, Role.INFO))
            lines.append((*start, *drawn, gap(2), Part(note, Role.FAINT)))
        lines += self._fact("growth", (Part(growth),), width)
        done = Part(f"{units.count(row.items)} ended")
        lines += self._fact("items", (done, Part(bad, Role.BAD)), width)
        lines += self._fact("run time", (Part(times),), width)
        return lines

    def _errors(self, errors: Sequence[ItemError], width: int) -> list[Line]:
        """Tell what its items raised, the newest first."""
        lines = heading("Last errors", "of its items, all generations; the newest first", width)
        for error in reversed(errors):
            text = Part(self.glyphs.printable(error.text), Role.BAD)
            where = " ".join(filter(None, (error.function or "", error.item)))
            lines += self._told(
                error.time,
                f"gen {error.generation}",
                (text, Part(f"  {self.glyphs.printable(where)}", Role.MUTED)),
                width,
            )
        return lines

    def _past(self, frame: Frame, slot: int, width: int) -> list[Line]:
        """Tell of the slot's generations and troubles, the newest first."""
        events = [event for event in frame.snapshot.events if event.slot == slot]
        restarts = self.row.worker.restarts if self.row else 0
        lines = heading("Past", f"{restarts:,} restarts; the newest first", width)
        if not events:
            text = "Nothing of this slot is among the pool's last 256 events."
            return [*lines, *paragraph(text, width, INDENT)]
        began = {e.generation: e.time for e in events if e.kind is EventKind.WORKER_STARTED}
        for event in reversed(events):
            lines += self._event(event, began, width)
        return lines

    def _event(self, event: Event, began: dict[int, float], width: int) -> list[Line]:
        text, role = event_text(event)
        if event.kind is EventKind.WORKER_EXITED and event.generation in began:
            text += f", after {units.span(event.time - began[event.generation])}"
        which = f"gen {event.generation}" if event.kind in _LIVES else ""
        return self._told(event.time, which, (Part(self.glyphs.printable(text), role),), width)

    @staticmethod
    def _told(when: float, which: str, what: Line, width: int) -> list[Line]:
        """Return a line that begins with a time; what doesn't fit goes on below."""
        start = f"{units.time_of_day(when)}  {which:<8}"
        if width < ROOMY:
            indent = 2 * INDENT
            first: Line = (gap(INDENT), Part(start.rstrip(), Role.MUTED))
            rest = flowed(what, width - indent - 1)
            return [first, *((gap(indent), *line) for line in rest)]
        indent = INDENT + len(start) + 2
        lines = flowed(what, width - indent - 1)
        first = (gap(INDENT), Part(start, Role.MUTED), gap(2), *lines[0])
        return [first, *((gap(indent), *line) for line in lines[1:])]

    @staticmethod
    def _fact(name: str, value: Line, width: int) -> list[Line]:
        return fact(name, NAMES, value, width)
