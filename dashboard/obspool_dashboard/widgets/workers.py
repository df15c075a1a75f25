"""The table of workers: a row for each slot, and the row of totals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from obspool import units
from obspool.words import WorkerState
from obspool_dashboard.frame import Frame, WorkerRow
from obspool_dashboard.history import items_done, items_failed
from obspool_dashboard.lines import Part, Role
from obspool_dashboard.widgets.columns import Column
from obspool_dashboard.widgets.table import LiveTable

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from obspool_dashboard.glyphs import Glyphs
    from obspool_dashboard.lines import Line

STATE_ROLES = {
    WorkerState.STARTING: Role.INFO,
    WorkerState.IDLE: Role.MUTED,
    WorkerState.BUSY: Role.GOOD,
    WorkerState.DRAINING: Role.WARN,
    WorkerState.GONE: Role.BAD,
}


_SHORT = {WorkerState.STARTING: "start", WorkerState.DRAINING: "drain"}


def _known(text: str, role: Role = Role.TEXT) -> Part:
    """Make a part of a number; what says nothing steps back."""
    return Part(text, Role.FAINT if text in {units.NOTHING, "0", "0 %", "0 B"} else role)


def _state(row: WorkerRow, glyphs: Glyphs) -> Part:
    state = row.worker.state
    doubt = "?" if row.worker.torn else ""
    return Part(f"{glyphs.states[state]} {state}{doubt}", STATE_ROLES[state])


def _state_in(row: WorkerRow, glyphs: Glyphs, width: int) -> Line:
    part = _state(row, glyphs)
    if len(part.text) <= width:
        return (part,)
    state = row.worker.state
    return (Part(f"{glyphs.states[state]} {_SHORT.get(state, state)}", part.role),)


def _function(row: WorkerRow, glyphs: Glyphs) -> Part:
    if row.worker.doing is None:
        return Part(units.NOTHING, Role.FAINT)
    return Part(glyphs.printable(row.worker.doing))


def _running(row: WorkerRow, glyphs: Glyphs) -> Part:
    text = units.duration(row.running, glyphs.micro)
    return Part(glyphs.alert + text, Role.WARN) if row.stuck else _known(text)


def _number(text: Callable[[WorkerRow], str]) -> Callable[[WorkerRow, Glyphs], Part]:
    return lambda row, _: _known(text(row))


def _errors(row: WorkerRow, _: Glyphs) -> Part:
    return _known(units.count(row.errors), Role.BAD)


COLUMNS: tuple[Column[WorkerRow], ...] = (
    Column(
        "slot", "SLOT", 5,
        lambda row, _: Part(str(row.worker.slot), Role.STRONG),
        lambda row: row.worker.slot,
        "the worker's place; it stays when the process is recycled",
    ),
    Column(
        "pid", "PID", 7,
        lambda row, _: Part(str(row.worker.pid)),
        lambda row: row.worker.pid,
        "of its present process",
        rank=4,
    ),
    Column(
        "generation", "GEN", 4,
        lambda row, _: Part(str(row.worker.generation), Role.MUTED),
        lambda row: row.worker.generation,
        "how many processes this slot has had",
        rank=11, descending=True,
    ),
    Column(
        "state", "STATE", 10, _state,
        lambda row: list(WorkerState).index(row.worker.state),
        "starting, idle, busy, draining (ends after its task) or gone; ?: was being written",
        left=True, drawn=_state_in, tight=7,
    ),
    Column(
        "function", "FUNCTION", 9, _function,
        lambda row: row.worker.doing,
        "the function that it runs, and the item, where the pool describes items",
        rank=2, stretch=23, left=True,
    ),
    Column(
        "for", "FOR", 8, _running,
        lambda row: row.running,
        "time in the present item; !: over 10 s and 10 times the p95 of its function",
        rank=3, descending=True,
    ),
    Column(
        "items", "ITEMS", 6,
        _number(lambda row: units.count(row.items)),
        lambda row: row.items,
        "items ended in this slot, of all generations",
        rank=6, descending=True,
    ),
    Column(
        "rate", "/S", 5,
        _number(lambda row: units.rate(row.rates.items)),
        lambda row: row.rates.items,
        "items a second, over the last five seconds",
        rank=1, descending=True,
    ),
    Column(
        "busy", "BUSY", 5,
        _number(lambda row: units.percent(row.rates.busy)),
        lambda row: row.rates.busy,
        "share of the time spent in items, over the last five seconds",
        rank=1, descending=True,
    ),
    Column(
        "p50", "P50", 7,
        lambda row, glyphs: _known(units.duration(row.p50, glyphs.micro)),
        lambda row: row.p50,
        "median run time of its items",
        rank=10, descending=True,
    ),
    Column(
        "p95", "P95", 7,
        lambda row, glyphs: _known(units.duration(row.p95, glyphs.micro)),
        lambda row: row.p95,
        "95 of 100 of its items take no longer",
        rank=7, descending=True,
    ),
    Column(
        "rss", "RSS", 8,
        _number(lambda row: units.size(row.worker.resident_memory or None)),
        lambda row: row.worker.resident_memory or None,
        "resident memory of its process",
        rank=5, descending=True,
    ),
    Column(
        "growth", "GROWTH", 8,
        _number(lambda row: units.size(row.worker.memory_growth)),
        lambda row: row.worker.memory_growth,
        "resident memory since its process was ready: what it leaks or caches",
        rank=12, descending=True,
    ),
    Column(
        "cpu", "CPU", 5,
        _number(lambda row: units.percent(row.rates.cpu)),
        lambda row: row.rates.cpu,
        "of one core, over the last five seconds; far below BUSY it waits in its items",
        rank=8, descending=True,
    ),
    Column(
        "queue", "Q", 3,
        _number(lambda row: units.count(row.worker.queue_tasks)),
        lambda row: row.worker.queue_tasks,
        "tasks sent to it and not begun",
        rank=9, descending=True,
    ),
    Column(
        "errors", "ERR", 5, _errors,
        lambda row: row.errors,
        "items that raised, timed out or were lost",
        rank=13, descending=True,
    ),
    Column(
        "tasks", "TASKS", 6,
        _number(lambda row: units.count(row.worker.process_tasks)),
        lambda row: row.worker.process_tasks,
        "tasks of its present process, which maxtasksperchild limits",
        rank=14, descending=True,
    ),
)  # fmt: skip


class WorkerTable(LiveTable[WorkerRow]):
    """A live row for each worker; the cursor follows its slot."""

    columns = COLUMNS
    nothing = "no workers"

    def key_of(self, row: WorkerRow) -> Hashable:
        """A worker is its slot, whatever process works there."""
        return row.worker.slot

    def searched(self, row: WorkerRow) -> str:
        """Look into what tells workers apart, not into numbers that change."""
        worker = row.worker
        return f"slot {worker.slot} {worker.pid} {worker.state} {worker.doing or ''}"

    def show_frame(self, frame: Frame) -> None:
        """Show the workers of a frame."""
        totals = totals_of(frame, self.glyphs) if frame.workers else None
        self.show_rows(frame.workers, totals)


def totals_of(frame: Frame, glyphs: Glyphs) -> Mapping[str, Part]:
    """Return the row of totals: sums, means of shares, and quantiles of all items together."""
    workers = frame.snapshot.workers
    histograms = list(frame.snapshot.item_run.values())
    run = sum(histograms[1:], start=histograms[0]) if histograms else None
    live = [row.rates.cpu for row in frame.workers if row.rates.cpu is not None]
    busy = sum(worker.state is WorkerState.BUSY for worker in workers)
    p50 = run.quantile(0.5) if run else None
    p95 = run.quantile(0.95) if run else None
    texts = {
        "slot": "all",
        "state": f"{busy} busy",
        "items": units.count(sum(items_done(worker.items) for worker in workers)),
        "rate": units.rate(frame.rates.items),
        "busy": units.percent(frame.rates.busy),
        "p50": units.duration(p50, glyphs.micro),
        "p95": units.duration(p95, glyphs.micro),
        "rss": units.size(sum(row.worker.resident_memory for row in frame.workers)),
        "growth": units.size(sum(row.worker.memory_growth for row in frame.workers)),
        "cpu": units.percent(sum(live) / len(live) if live else None),
        "queue": units.count(sum(row.worker.queue_tasks for row in frame.workers)),
        "errors": units.count(sum(items_failed(worker.items) for worker in workers)),
    }
    return {key: Part(text, Role.STRONG) for key, text in texts.items()}
