"""The table of pools: those that run, and those that have ended and are still there to be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message

from obspool import units
from obspool.words import PoolOutcome
from obspool_dashboard.lines import Part, Role
from obspool_dashboard.widgets.columns import Column
from obspool_dashboard.widgets.header import OUTCOME_ROLES, STATE_ROLES
from obspool_dashboard.widgets.table import LiveTable

if TYPE_CHECKING:
    from collections.abc import Hashable

    from textual import events

    from obspool.telemetry.registry import PoolEntry
    from obspool_dashboard.glyphs import Glyphs


@dataclass(frozen=True)
class PoolRow:
    """A pool at one moment."""

    entry: PoolEntry
    now: float

    @property
    def outcome(self) -> PoolOutcome | None:
        """How it ended; None while it runs."""
        return None if self.entry.alive else self.entry.outcome or PoolOutcome.DIED

    @property
    def age(self) -> float:
        """Seconds since it started, or from its start to its end."""
        return (self.entry.ended_time or self.now) - self.entry.facts.start_time

    @property
    def ended_ago(self) -> float | None:
        """Seconds since its end; None while it runs, and when nobody wrote the time down."""
        return None if self.entry.ended_time is None else self.now - self.entry.ended_time


def _state(row: PoolRow, _: Glyphs) -> Part:
    if row.outcome is not None:
        return Part(str(row.outcome), OUTCOME_ROLES[row.outcome])
    return Part(str(row.entry.state), STATE_ROLES.get(row.entry.state, Role.TEXT))


def _name(row: PoolRow, glyphs: Glyphs) -> Part:
    role = Role.STRONG if row.entry.alive else Role.MUTED
    return Part(glyphs.printable(row.entry.facts.name), role)


def _ended(row: PoolRow, _: Glyphs) -> Part:
    if row.ended_ago is None:
        return Part(units.NOTHING, Role.FAINT)
    return Part(f"{units.span(row.ended_ago)} ago", Role.MUTED)


COLUMNS: tuple[Column[PoolRow], ...] = (
    Column(
        "name", "NAME", 14, _name,
        # Those that run come first, whatever they are called.
        lambda row: (not row.entry.alive, row.entry.facts.name, row.entry.facts.start_time),
        "the pool's name",
        stretch=20, left=True,
    ),
    Column(
        "pid", "PID", 7,
        lambda row, _: Part(str(row.entry.facts.pid)),
        lambda row: row.entry.facts.pid,
        "of the process that owns it",
        rank=1,
    ),
    Column(
        "state", "STATE", 10, _state,
        lambda row: (not row.entry.alive, str(row.outcome or row.entry.state)),
        "what it does, or how it ended",
        left=True,
    ),
    Column(
        "age", "RAN FOR", 11,
        lambda row, _: Part(units.uptime(row.age)),
        lambda row: row.age,
        "since its start, or from its start to its end",
        rank=2, descending=True,
    ),
    Column(
        "ended", "ENDED", 11, _ended,
        lambda row: row.ended_ago,
        "how long ago it ended",
        rank=3,
    ),
    Column(
        "method", "START", 10,
        lambda row, _: Part(row.entry.facts.start_method or row.entry.facts.engine, Role.MUTED),
        lambda row: row.entry.facts.start_method,
        "how its workers are started",
        rank=5, left=True,
    ),
    Column(
        "program", "PROGRAM", 16,
        lambda row, glyphs: Part(glyphs.printable(row.entry.facts.program), Role.MUTED),
        lambda row: row.entry.facts.program,
        "the command that runs it",
        rank=4, stretch=40, left=True,
    ),
)  # fmt: skip


class PoolTable(LiveTable[PoolRow]):
    """A row for each pool; the cursor follows its pool."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "pick", "Attach", key_display="Enter"),
        *LiveTable.BINDINGS,
    ]

    class Picked(Message):
        """A pool was picked."""

        def __init__(self, entry: PoolEntry) -> None:
            super().__init__()
            self.entry = entry

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(COLUMNS, id=id)

    def key_of(self, row: PoolRow) -> Hashable:
        """A pool is its segment: names and pids are used again."""
        return row.entry.path

    def action_pick(self) -> None:
        """Pick the pool under the cursor."""
        if self.cursor is not None:
            self.post_message(self.Picked(self.cursor.entry))

    def on_click(self, event: events.Click) -> None:
        """Pick by a double click; Textual has moved the cursor by the first one."""
        if event.chain == 2 and event.y > 0:  # noqa: PLR2004 - a double click
            self.action_pick()
