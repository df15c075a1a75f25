"""The table of pools: those that run, and those that have ended and are still there to be read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message

from obspool import units
from obspool.words import PoolOutcome
from obspool_dashboard.lines import Part, Role
from obspool_dashboard.trouble import Severity, Trouble, troubles
from obspool_dashboard.widgets.columns import Column
from obspool_dashboard.widgets.header import OUTCOME_ROLES, STATE_ROLES
from obspool_dashboard.widgets.table import DOUBLE, LiveTable

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from textual import events

    from obspool.telemetry.registry import PoolEntry
    from obspool_dashboard.frame import Frame
    from obspool_dashboard.glyphs import Glyphs


# From harmless to bad.
_BAD_ENDS = (
    PoolOutcome.FINISHED,
    PoolOutcome.ABANDONED,
    PoolOutcome.BROKEN,
    PoolOutcome.DIED,
)


@dataclass(frozen=True)
class PoolRow:
    """A pool at one moment."""

    entry: PoolEntry
    now: float
    frame: Frame | None = None

    @cached_property
    def trouble(self) -> Trouble | None:
        """The worst that is wrong with it now; None when it is well, or over."""
        found = troubles(self.frame) if self.frame is not None else []
        return found[0] if found else None

    @property
    def severity(self) -> tuple[bool, int]:
        """What the table is sorted by at first: those that run, and the worst among them."""
        if self.outcome is not None:
            return False, _BAD_ENDS.index(self.outcome)
        return True, self.trouble.severity if self.trouble else Severity.NONE

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
    if row.trouble is not None and row.trouble.is_alarm:
        role = Role.BAD
    return Part(glyphs.printable(row.entry.facts.name), role)


def _trouble(row: PoolRow, glyphs: Glyphs) -> Part:
    if row.trouble is None:
        return Part(units.NOTHING, Role.FAINT)
    role = Role.ALARM if row.trouble.is_alarm else Role.WARN
    return Part(f"{glyphs.alert}{row.trouble.word}", role)


def _number(
    value: Callable[[Frame], float | None],
    text: Callable[[float | None], str],
    role: Role = Role.TEXT,
) -> Callable[[PoolRow, Glyphs], Part]:
    def cell(row: PoolRow, _: Glyphs) -> Part:
        shown = text(value(row.frame)) if row.frame is not None else units.NOTHING
        return Part(shown, Role.FAINT if shown in {units.NOTHING, "0", "0 %"} else role)

    return cell


def _of_frame(value: Callable[[Frame], float | None]) -> Callable[[PoolRow], float | None]:
    return lambda row: None if row.frame is None else value(row.frame)


def _workers(row: PoolRow, _: Glyphs) -> Part:
    if row.frame is None:
        return Part(units.NOTHING, Role.FAINT)
    live, wanted = row.frame.live_workers, row.frame.snapshot.workers_configured
    return Part(str(wanted) if live == wanted else f"{live}/{wanted}")


def _waiting(frame: Frame) -> int:
    return frame.snapshot.tasks.queued + frame.snapshot.tasks.dispatched


def _ended(row: PoolRow, _: Glyphs) -> Part:
    if row.ended_ago is None:
        return Part(units.NOTHING, Role.FAINT)
    return Part(units.span(row.ended_ago), Role.MUTED)


COLUMNS: tuple[Column[PoolRow], ...] = (
    Column(
        "name", "NAME", 12, _name,
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
        "trouble", "TROUBLE", 15, _trouble,
        lambda row: row.severity,
        "what is wrong: silent (stopped or stuck), crashing, stalled, stuck items, many errors",
        rank=1, left=True, descending=True,
    ),
    Column(
        "workers", "WORKERS", 8, _workers,
        _of_frame(lambda frame: frame.live_workers),
        "its processes; 7/8: so many of those it wants",
        rank=5, descending=True,
    ),
    Column(
        "busy", "BUSY", 5,
        _number(lambda frame: frame.rates.busy, units.percent),
        _of_frame(lambda frame: frame.rates.busy),
        "share of its workers' time spent in items",
        rank=3, descending=True,
    ),
    Column(
        "rate", "/S", 5,
        _number(lambda frame: frame.rates.items, units.rate),
        _of_frame(lambda frame: frame.rates.items),
        "items a second, over the last five seconds",
        rank=2, descending=True,
    ),
    Column(
        "queued", "QUEUED", 7,
        _number(_waiting, units.count),
        _of_frame(_waiting),
        "tasks not begun",
        rank=4, descending=True,
    ),
    Column(
        "errors", "ERR", 5,
        _number(lambda frame: frame.errors, units.count, Role.BAD),
        _of_frame(lambda frame: frame.errors),
        "items that raised, timed out or were lost",
        rank=8, descending=True,
    ),
    Column(
        "eta", "ETA", 7,
        _number(lambda frame: frame.rates.eta, units.span),
        _of_frame(lambda frame: frame.rates.eta),
        "until all that was submitted is done, at this rate",
        rank=10,
    ),
    Column(
        "age", "RAN FOR", 8,
        lambda row, _: Part(units.span(row.age), Role.MUTED),
        lambda row: row.age,
        "since its start, or from its start to its end",
        rank=9, descending=True,
    ),
    Column(
        "ended", "ENDED", 7, _ended,
        lambda row: row.ended_ago,
        "how long ago it ended",
        rank=7,
    ),
    Column(
        "method", "START", 10,
        lambda row, _: Part(row.entry.facts.start_method or row.entry.facts.engine, Role.MUTED),
        lambda row: row.entry.facts.start_method,
        "how its workers are started",
        rank=12, left=True,
    ),
    Column(
        "program", "PROGRAM", 16,
        lambda row, glyphs: Part(glyphs.printable(row.entry.facts.program), Role.MUTED),
        lambda row: row.entry.facts.program,
        "the command that runs it",
        rank=6, stretch=40, left=True,
    ),
)  # fmt: skip


class PoolTable(LiveTable[PoolRow]):
    """A row for each pool; the cursor follows its pool."""

    columns = COLUMNS
    first_sort = "trouble"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "pick", "Attach", key_display="Enter"),
        *LiveTable.BINDINGS,
    ]

    class Picked(Message):
        """A pool was picked."""

        def __init__(self, entry: PoolEntry) -> None:
            super().__init__()
            self.entry = entry

    def key_of(self, row: PoolRow) -> Hashable:
        """A pool is its segment: names and pids are used again."""
        return row.entry.path

    def searched(self, row: PoolRow) -> str:
        """Look into what tells pools apart."""
        facts = row.entry.facts
        return f"{facts.name} {facts.pid} {facts.program} {row.outcome or row.entry.state}"

    def action_pick(self) -> None:
        """Pick the pool under the cursor."""
        if self.cursor is not None:
            self.post_message(self.Picked(self.cursor.entry))

    def on_click(self, event: events.Click) -> None:
        """Pick by a double click; Textual has moved the cursor by the first one."""
        if event.chain == DOUBLE and event.y > 0:
            self.action_pick()
