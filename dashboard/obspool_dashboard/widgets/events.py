"""What happened in a pool, the newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from obspool import units
from obspool.telemetry.snapshot import Event
from obspool.words import EventKind, ExitReason
from obspool_dashboard.lines import Part, Role
from obspool_dashboard.widgets.columns import Column
from obspool_dashboard.widgets.table import LiveTable

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from obspool_dashboard.frame import Frame
    from obspool_dashboard.glyphs import Glyphs

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


def event_text(event: Event) -> tuple[str, Role]:
    """Say what happened: the ring has a word where a person reads a sentence."""
    text, role = event.text, EVENT_ROLES.get(event.kind, Role.TEXT)
    if event.kind is EventKind.WORKER_EXITED:
        text = EXITS.get(text, text)
        role = Role.BAD if text.startswith((ExitReason.LOST, ExitReason.TIMEOUT)) else role
    elif event.kind in VERBS:
        text = f"{VERBS[event.kind]}: {text}"
    return text, role


def who(event: Event) -> str:
    """Say whom an event is about."""
    return "pool" if event.slot is None else f"slot {event.slot}"


def _text(event: Event, glyphs: Glyphs) -> Part:
    text, role = event_text(event)
    return Part(glyphs.printable(text), role)


COLUMNS: tuple[Column[Event], ...] = (
    Column(
        "time", "TIME", 8,
        lambda event, _: Part(units.time_of_day(event.time), Role.MUTED),
        lambda event: event.number,
        "when it happened",
        left=True, descending=True,
    ),
    Column(
        "who", "WHO", 9,
        lambda event, _: Part(who(event), Role.MUTED),
        who,
        "the pool, or the slot of a worker",
        left=True,
    ),
    Column(
        "text", "WHAT", 12, _text,
        lambda event: event.text,
        "what happened, and for commands who gave them",
        stretch=1000, left=True,
    ),
)  # fmt: skip


class EventTable(LiveTable[Event]):
    """A row for each event; the view stays at the newest while the cursor is on it."""

    columns = COLUMNS
    headed = False
    nothing = "nothing has happened yet"

    def key_of(self, row: Event) -> Hashable:
        """An event is its number."""
        return row.number

    def show_frame(self, frame: Frame) -> None:
        """Show the events of a frame."""
        if self._cursor_index() == 0:
            self.cursor_key = None
        self.show_rows(frame.snapshot.events)
