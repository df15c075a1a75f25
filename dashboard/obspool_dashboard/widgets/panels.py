"""The small panels below the workers, jobs and events, and the rules between panels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len

from obspool import units
from obspool.words import EventKind, ExitReason, Outcome
from obspool_dashboard.lines import EMPTY, Line, LineWidget, Part, Role, gap, joined, width_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from obspool.telemetry.snapshot import Event, JobSnapshot
    from obspool_dashboard.frame import Frame
    from obspool_dashboard.glyphs import Glyphs
    from obspool_dashboard.history import JobRates

OUTCOME_ROLES = {
    Outcome.OK: Role.MUTED,
    Outcome.ERROR: Role.BAD,
    Outcome.TIMEOUT: Role.BAD,
    Outcome.CANCELLED: Role.WARN,
    Outcome.LOST: Role.BAD,
    Outcome.SKIPPED: Role.MUTED,
}
EVENT_ROLES = {
    EventKind.COMMAND: Role.INFO,
    EventKind.POOL_CLOSING: Role.WARN,
    EventKind.TROUBLE: Role.BAD,
}
VERBS = {
    EventKind.POOL_STARTED: "started",
    EventKind.POOL_CLOSING: "closing",
    EventKind.POOL_ENDED: "ended",
    EventKind.WORKER_STARTED: "started",
    EventKind.COMMAND: "command",
}
EXITS: Mapping[str, str] = {
    ExitReason.TASKS: "recycled after its tasks",
    ExitReason.MEMORY: "recycled for its memory",
    ExitReason.AGE: "recycled for its age",
    ExitReason.RESIZE: "removed by a resize",
    ExitReason.COMMAND: "recycled by a command",
    ExitReason.SHUTDOWN: "ended with the pool",
}
BAR_MIN = 8
BAR_MAX = 40
CALL_MAX = 40
# From this width on the kind of call and the errors have room.
ROOMY = 100
# 1.24M / 1.31M   95 %  4.41k/s  eta 4m 08s, and the space around the bar
NUMBERS = 13 + 2 + 5 + 2 + 7 + 2 + 11 + 3
ERRORS = 2 + 12


class PanelTitle(LineWidget):
    """A rule with the panel's name in it, and a note at its right end."""

    def __init__(self, title: str, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self._title = title
        self._note: Line = EMPTY

    def show_note(self, note: Line) -> None:
        """Change the note."""
        if note != self._note:
            self._note = note
            self.redraw()

    def lines(self, width: int, height: int) -> Sequence[Line]:
        """Say what stands in the rule."""
        del height
        rule = self.glyphs.rule
        title = (Part(f"{rule} ", Role.FAINT), Part(self._title, Role.HEADING), gap(1))
        note = (gap(1), *self._note, Part(f" {rule}", Role.FAINT)) if self._note else EMPTY
        room = width - width_of(title) - width_of(note)
        if room < 0:
            note, room = EMPTY, width - width_of(title)
        return [(*title, Part(rule * room, Role.FAINT), *note)]


class JobsPanel(LineWidget):
    """A line for each job: how far it is, how fast, and how long it will take."""

    frame: Frame | None = None

    def show_frame(self, frame: Frame) -> None:
        """Show the jobs of a frame."""
        self.frame = frame
        self.redraw()

    def lines(self, width: int, height: int) -> Sequence[Line]:
        """Say how far the jobs are."""
        if self.frame is None:
            return ()
        shown = self.frame.jobs[:height]
        kind = width >= ROOMY
        calls = [
            self.glyphs.printable(f"{job.kind} {job.function}" if kind else job.function)
            for job, _ in shown
        ]
        call_width = min(CALL_MAX, width // 3, max(map(cell_len, calls), default=0))
        return [
            job_line(job, rates, self.glyphs.fit(call, call_width), self.glyphs, width)
            for (job, rates), call in zip(shown, calls, strict=True)
        ]


def job_line(job: JobSnapshot, rates: JobRates, call: str, glyphs: Glyphs, width: int) -> Line:
    """Return a job's line; the bar takes the room that the numbers leave, then the numbers go."""
    total = job.items_total
    share = job.items_done / total if total else None
    done = units.count(job.items_done)
    of = "?" if total is None else units.count(total)
    columns: list[Line] = [(Part(f"{done:>5} / {of:<5}", Role.STRONG),)]
    if job.ended_time is None:
        columns += [
            (Part(f"{units.percent(share):>5}"),),
            (Part(f"{units.rate(rates.items) + '/s':>7}"),),
            (Part(f"eta {units.span(rates.eta):<7}", Role.STRONG),),
        ]
        role = Role.GOOD
    else:
        word = str(job.outcome or Outcome.OK)
        took = units.duration(job.ended_time - job.submitted_time, glyphs.micro)
        role = OUTCOME_ROLES[job.outcome or Outcome.OK]
        columns += [(Part(f"{word:>5}", role),), (Part(f"in {took:<7}", Role.MUTED),)]
    failed = job.items_error
    if width >= ROOMY and failed:
        name = "error" if failed == 1 else "errors"
        columns.append((Part(f"{units.count(failed)} {name}", Role.BAD),))
    left = (gap(1), Part(call, Role.TEXT if job.ended_time is None else Role.MUTED), gap(2))
    space = gap(2)
    while len(columns) > 1 and width_of(left) + width_of(joined(columns, space)) + 1 > width:
        columns.pop()
    numbers = joined(columns, space)
    # Each line's bar has one width, whatever numbers stand behind it: the bars are compared.
    room = min(BAR_MAX, width - width_of(left) - NUMBERS - (width >= ROOMY) * ERRORS)
    if room < BAR_MIN:
        return (*left, *numbers)
    full, empty = glyphs.bar(1.0 if job.ended_time and share is None else share or 0.0, room)
    return (*left, Part(full, role), Part(empty, Role.FAINT), gap(2), *numbers)


class EventsPanel(LineWidget):
    """What happened, the newest first."""

    frame: Frame | None = None

    def show_frame(self, frame: Frame) -> None:
        """Show the events of a frame."""
        self.frame = frame
        self.redraw()

    def lines(self, width: int, height: int) -> Sequence[Line]:
        """Say what happened lately."""
        if self.frame is None:
            return ()
        newest = reversed(self.frame.snapshot.events[-height:] if height else ())
        return [event_line(event, self.glyphs, width) for event in newest]


def event_line(event: Event, glyphs: Glyphs, width: int) -> Line:
    """Return an event's line: when, who, what."""
    who = "pool" if event.slot is None else f"slot {event.slot}"
    text, role = event_text(event)
    start = (gap(1), Part(f"{units.time_of_day(event.time)}  {who:<9}", Role.MUTED), gap(1))
    room = max(0, width - width_of(start) - 1)
    return (*start, Part(glyphs.fit(glyphs.printable(text), room), role))


def event_text(event: Event) -> tuple[str, Role]:
    """Say what happened: the ring has a word where a person reads a sentence."""
    text, role = event.text, EVENT_ROLES.get(event.kind, Role.TEXT)
    if event.kind is EventKind.WORKER_EXITED:
        text = EXITS.get(text, text)
        role = Role.BAD if text.startswith((ExitReason.LOST, ExitReason.TIMEOUT)) else role
    elif event.kind in VERBS:
        text = f"{VERBS[event.kind]}: {text}"
    return text, role


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
