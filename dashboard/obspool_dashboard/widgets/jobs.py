"""The table of jobs: how far each is, how fast, and how long it will take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from obspool import units
from obspool.words import Outcome
from obspool_dashboard.frame import JobRow
from obspool_dashboard.lines import Line, Part, Role
from obspool_dashboard.widgets.columns import Column
from obspool_dashboard.widgets.table import LiveTable

if TYPE_CHECKING:
    from collections.abc import Hashable

    from obspool_dashboard.frame import Frame
    from obspool_dashboard.glyphs import Glyphs

OUTCOME_ROLES = {
    Outcome.OK: Role.MUTED,
    Outcome.ERROR: Role.BAD,
    Outcome.TIMEOUT: Role.BAD,
    Outcome.CANCELLED: Role.WARN,
    Outcome.LOST: Role.BAD,
    Outcome.SKIPPED: Role.MUTED,
}


def _faint(text: str, role: Role = Role.TEXT) -> Part:
    return Part(text, Role.FAINT if text in {units.NOTHING, "0"} else role)


def _role(row: JobRow) -> Role:
    return Role.GOOD if row.running else OUTCOME_ROLES[row.job.outcome or Outcome.OK]


def _bar(row: JobRow, glyphs: Glyphs, width: int) -> Line:
    full, empty = glyphs.bar(row.share or 0.0, width)
    return Part(full, _role(row)), Part(empty, Role.FAINT)


def _state(row: JobRow, _: Glyphs) -> Part:
    return Part("running" if row.running else str(row.job.outcome or Outcome.OK), _role(row))


def _took(row: JobRow, glyphs: Glyphs) -> Part:
    text = units.span(row.took) if row.running else units.duration(row.took, glyphs.micro)
    return Part(text, Role.MUTED)


COLUMNS: tuple[Column[JobRow], ...] = (
    Column(
        "job", "JOB", 4,
        lambda row, _: Part(str(row.job.id), Role.MUTED),
        # Those in progress come first, then the newest.
        lambda row: (row.running, row.job.id),
        "its number, by which it is cancelled",
        rank=6, descending=True,
    ),
    Column(
        "kind", "KIND", 14,
        lambda row, _: Part(str(row.job.kind), Role.MUTED),
        lambda row: row.job.kind,
        "the call on the pool",
        rank=7, left=True,
    ),
    Column(
        "function", "FUNCTION", 9,
        lambda row, glyphs: Part(
            glyphs.printable(row.job.function), Role.TEXT if row.running else Role.MUTED
        ),
        lambda row: row.job.function,
        "the function that it calls",
        stretch=18, left=True,
    ),
    Column(
        "progress", "PROGRESS", 10,
        lambda _row, _: Part(""),
        lambda row: row.share,
        "how much of it is done",
        rank=5, stretch=60, left=True, descending=True, drawn=_bar,
    ),
    Column(
        "share", "%", 5,
        lambda row, _: _faint(units.percent(row.share)),
        lambda row: row.share,
        "how much of it is done; -: nobody knows how long it is",
        descending=True,
    ),
    Column(
        "done", "DONE", 5,
        lambda row, _: _faint(units.count(row.job.items_done), Role.STRONG),
        lambda row: row.job.items_done,
        "items with a result, an error, or skipped",
        rank=1, descending=True,
    ),
    Column(
        "total", "OF", 5,
        lambda row, _: _faint(units.count(row.job.items_total), Role.STRONG),
        lambda row: row.job.items_total,
        "items in all",
        rank=2, descending=True,
    ),
    Column(
        "rate", "/S", 5,
        lambda row, _: _faint(units.rate(row.rates.items)),
        lambda row: row.rates.items,
        "items a second, over the last five seconds",
        rank=3, descending=True,
    ),
    Column(
        "eta", "ETA", 7,
        lambda row, _: _faint(units.span(row.rates.eta), Role.STRONG),
        lambda row: row.rates.eta,
        "how long it will take at this rate",
    ),
    Column(
        "errors", "ERR", 5,
        lambda row, _: _faint(units.count(row.job.items_error), Role.BAD),
        lambda row: row.job.items_error,
        "items that ended badly",
        rank=4, descending=True,
    ),
    Column(
        "took", "TOOK", 7, _took,
        lambda row: row.took,
        "since it was submitted, or until it ended",
        rank=8, descending=True,
    ),
    Column(
        "state", "STATE", 9, _state,
        lambda row: (not row.running, str(row.job.outcome)),
        "running, or how it ended",
        rank=9, left=True,
    ),
)  # fmt: skip


class JobTable(LiveTable[JobRow]):
    """A row for each job with items of its own; calls of `apply` have none."""

    columns = COLUMNS
    nothing = "no jobs yet; calls of apply and apply_async are not listed"

    def key_of(self, row: JobRow) -> Hashable:
        """A job is its number."""
        return row.job.id

    def searched(self, row: JobRow) -> str:
        """Look into what tells jobs apart."""
        return f"job {row.job.id} {row.job.kind} {row.job.function} {_state(row, self.glyphs).text}"

    def show_frame(self, frame: Frame) -> None:
        """Show the jobs of a frame; the newest while nobody chooses among them."""
        if not self.active:
            self.cursor_key = None
            self.scroll_to(y=0, animate=False, immediate=True)
        self.show_rows(frame.jobs)
