"""The slots of a segment made into WorkerSnapshots, and the sums over all of them.

Three decisions stand here. *Who works in a slot now*: of its two generations the newest that is
alive and past its start-up; else the newest alive (a first worker that is starting); else the
newest. So a worker that drains shows until its successor is ready. *A generation that starts* shows
nothing of the worker's own fields but totals: they are its predecessor's until it cleared them.
*When the pool has ended or died* every worker is gone, because nobody outlives the parent.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import repeat
from operator import add
from typing import TYPE_CHECKING

from obspool.telemetry.bank import begun_by
from obspool.telemetry.layout import text_of
from obspool.telemetry.rows import NANO, Histograms, Picker, Text, optional, wall, word
from obspool.telemetry.snapshot import ItemError, WorkerSnapshot
from obspool.words import ExitReason, Outcome, WorkerState

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from obspool.telemetry.header import Header, Table
    from obspool.telemetry.rows import Row
    from obspool.telemetry.snapshot import Histogram

OTHER = "other"
_OUTCOMES = tuple(Outcome)
_EXIT_REASONS = tuple(ExitReason)
_WORKER_STATES = tuple(WorkerState)
_PARENT_FIELDS = (
    "generation",
    "pid",
    "lifecycle",
    "started_wall",
    "queue_tasks",
    "resident_bytes",
    "ready_resident_bytes",
    "cpu_sample",
    "exit_reason",
)
_WORKER_FIELDS = (
    "task_start",
    "slice_start",
    "function",
    "process_tasks",
    "busy",
    "cpu",
    "mark",
    "described",
    "load",
    "dump",
    "first_resident",
    ("tasks", len(_OUTCOMES)),
    ("items", len(_OUTCOMES)),
)
_ERROR_FIELDS = ("number", "again", "wall", "generation", "function")
# Of a ring, and of a text, whatever a header says.
_MOST_ERRORS = 64
_MOST_WORDS = 64
_COUNTER_FIELDS = ("counter_keys", "counter_values")
# Where in the list of a bank's histograms they are; those of items are by function.
_TASK_WAIT, _TASK_RUN, _ITEM_RUN = range(3)
_COUNTS = 11  # where the numbers by outcome begin in what is picked


@dataclass(frozen=True)
class Reading:
    """A segment as it was read.

    Attributes:
        raw: all of its bytes.
        torn: the banks, as (slot, parity), that were being written in each attempt.
        held: whether the owner's lock was held just before; None: it can't be known.
        now: when, in nanoseconds of the UNIX epoch.
        boot: wall time less CLOCK_MONOTONIC now, in nanoseconds; None on another boot of a host.
        errors: whether the last errors of items are wanted.
    """

    header: Header
    raw: bytearray
    torn: Collection[tuple[int, int]]
    held: bool | None
    now: int
    boot: int | None
    errors: bool = True


class Slots:
    """All slots of one reading.

    Attributes:
        running: tasks that run, known after `workers()`; in a pool that died, that ran.
        load: time that all workers took to unpickle arguments, ns; known then, too.
        dump: the same to pickle results.
        counted: what all workers counted on the program's own counters, by key; the same.
    """

    def __init__(self, reading: Reading, pool: Row, boot: int, *, alive: bool) -> None:
        """Prepare to read.

        Args:
            reading: of a segment.
            pool: its block.
            boot: wall time less CLOCK_MONOTONIC, in nanoseconds.
            alive: whether the pool lives.

        Raises:
            SegmentError: the layout's histograms have odd sizes.
        """
        self.running = self.load = self.dump = 0
        self.counted: dict[int, int] = {}
        self._raw = reading.raw
        self._cells = memoryview(reading.raw).cast("Q")
        self._torn = reading.torn
        self._boot = boot
        self._alive = alive
        self._parent = reading.header.table("parent")
        self._worker = reading.header.table("worker")
        self._parities = (0, 1) if self._parent.bank and self._worker.bank else (0,)
        self._pick_parent = Picker(self._parent, *_PARENT_FIELDS)
        self._pick_worker = Picker(self._worker, *_WORKER_FIELDS)
        # Few programs have counters of their own: then their words needn't be looked at.
        self._pick_counters = _counters(self._worker) if pool["counters"] else None
        self._description = Text(self._worker, "description")
        self._histograms = Histograms(reading.header.latency_bounds)
        self._histograms.check(self._worker, "task_wait", "task_run")
        # One more than there are named ones: the last is of all other functions.
        self._item_run_places = self._histograms.places(self._worker, "item_run")
        self._functions = max(0, len(self._item_run_places) - 1)
        self._names = self._function_names(reading.header, pool["functions"])
        self._places = self._histogram_places()
        self._sums = [0] * len(self._places)
        errors = _Errors(reading.header.table("errors"))
        self._errors = errors.by_slot(self._cells, self._function) if reading.errors else {}

    def workers(self) -> tuple[WorkerSnapshot, ...]:
        """Return a row for each slot that was ever used; to be called once, before the sums."""
        slots = zip(*map(self._banks, self._parities), strict=True)
        rows = (self._slot(slot, banks) for slot, banks in enumerate(slots))
        return tuple(row for row in rows if row is not None)

    def task_wait(self) -> Histogram:
        """Return the time tasks waited, of all workers there ever were."""
        return self._histograms.made(self._sums[_TASK_WAIT])

    def task_run(self) -> Histogram:
        """Return the time tasks ran, of all workers there ever were."""
        return self._histograms.made(self._sums[_TASK_RUN])

    def item_run(self) -> dict[str, Histogram]:
        """Return the time items ran by function; `other` is there when it may have any."""
        by_name: dict[str, int] = {}
        *named, others = self._sums[_ITEM_RUN:] or [0]
        for name, lanes in zip(self._names, named, strict=True):
            by_name[name] = by_name.get(name, 0) + lanes
        if others or len(self._names) == self._functions > 0:
            by_name[OTHER] = by_name.get(OTHER, 0) + others
        return {name: self._histograms.made(lanes) for name, lanes in by_name.items()}

    def _function_names(self, header: Header, known: int) -> list[str]:
        table = header.table("functions")
        text = Text(table, "name")
        count = min(known, table.count, self._functions)
        return [text(self._cells, table.at + i * table.stride) for i in range(count)]

    def _function(self, index: int) -> str | None:
        if not index:
            return None
        return self._names[index - 1] if index <= len(self._names) else OTHER

    def _monotonic(self, nanoseconds: int) -> float | None:
        return (nanoseconds + self._boot) / NANO if nanoseconds else None

    def _banks(self, parity: int) -> Iterator[_Bank | None]:
        """Yield the bank of each slot that generations of this parity have; None: none ever had."""
        cells, worker = self._cells, self._worker
        told, own = self._pick_parent(cells, parity), self._pick_worker(cells, parity)
        counters: Iterable[tuple[int, ...]] = repeat(())
        if self._pick_counters is not None:
            counters = self._pick_counters(cells, parity)
        at = worker.at + parity * worker.bank
        for numbers, its_own, its_counters in zip(told, own, counters, strict=False):
            # One of two was never used in a pool that recycles nothing.
            yield _Bank(parity, at, numbers, its_own, its_counters) if numbers[0] else None
            at += worker.stride

    def _slot(self, slot: int, banks: Iterable[_Bank | None]) -> WorkerSnapshot | None:
        """Return a slot's row and add its banks to the sums; None when it was never used."""
        now: _Bank | None = None
        counts: Sequence[int] = ()
        queue_tasks = cpu = busy = item_run = 0
        for bank in banks:
            if bank is None:
                continue
            now = bank if now is None else max(now, bank, key=_Bank.rank)
            counts = tuple(map(add, counts, bank.counts)) if counts else bank.counts
            self.running += bank.task_start != 0
            self.load += bank.load
            self.dump += bank.dump
            queue_tasks += bank.queue_tasks
            cpu += bank.cpu
            busy += bank.busy
            item_run += self._add(bank)
        if now is None:
            return None
        works = self._alive and now.state is not WorkerState.GONE
        return WorkerSnapshot(
            slot=slot,
            generation=now.generation,
            pid=now.pid,
            state=now.shown if works else WorkerState.GONE,
            torn=(slot, now.parity) in self._torn,
            start_time=wall(now.started),
            function=self._function(now.function),
            description=self._description(self._cells, now.at)
            if works and now.task_start and now.is_described
            else "",
            task_start_time=self._monotonic(now.task_start) if works else None,
            item_start_time=self._monotonic(now.slice_start) if works else None,
            process_tasks=now.process_tasks,
            queue_tasks=queue_tasks,
            resident_memory=now.resident,
            memory_growth=now.resident - now.ready if now.resident and now.ready else 0,
            cpu_seconds=cpu / NANO,
            busy_seconds=busy / NANO,
            restarts=now.generation - 1,
            tasks=dict(zip(_OUTCOMES, counts, strict=False)),
            items=dict(zip(_OUTCOMES, counts[len(_OUTCOMES) :], strict=True)),
            item_run=self._histograms.made(item_run),
            exit_reason=optional(_EXIT_REASONS, now.exit_reason),
            errors=self._errors.get(slot, ()),
        )

    def _add(self, bank: _Bank) -> int:
        """Add a bank's histograms to the pool's; return its run time of items, of all functions."""
        lanes = self._histograms.all_lanes(self._raw, bank.at, self._places)
        self._sums = list(map(add, self._sums, lanes))
        if bank.counters:
            half = len(bank.counters) // 2
            for key, number in zip(bank.counters[:half], bank.counters[half:], strict=True):
                self.counted[key] = self.counted.get(key, 0) + number
        return sum(lanes[_ITEM_RUN:])

    def _histogram_places(self) -> list[int]:
        """Return where in a bank the histograms are that are used, in words; -1: it has none."""
        fields = self._worker.fields
        item_run = self._item_run_places
        return [
            *(fields.get(name, (-1, 0))[0] for name in ("task_wait", "task_run")),
            *item_run[: len(self._names)],
            *item_run[-1:],
        ]


def _counters(table: Table) -> Picker | None:
    """Return what takes the keys, then the values, of the program's counters out of a bank."""
    keys, values = (table.fields.get(name, (0, 0))[1] for name in _COUNTER_FIELDS)
    both = min(keys, values)
    return Picker(table, *((name, both) for name in _COUNTER_FIELDS)) if both else None


class _Errors:
    """The last errors of slots: a ring for each parity, in which each field is an array."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._offsets = tuple(table.fields.get(name, (0, 0))[0] for name in _ERROR_FIELDS)
        sizes = (table.fields.get(name, (0, 0))[1] for name in _ERROR_FIELDS)
        self._count = min(_MOST_ERRORS, *sizes)
        self._numbers = Picker(table, ("number", self._count)) if self._count else None
        self._texts = tuple(self._text(name) for name in ("item", "text"))

    def _text(self, name: str) -> tuple[int, int]:
        """Return where the texts of a field begin, and how many words each has."""
        offset, size = self._table.fields.get(name, (0, 0))
        number = self._table.fields.get("number", (0, 0))[1]
        return offset, size // number if number else 0

    def by_slot(
        self, cells: memoryview, named: Callable[[int], str | None]
    ) -> dict[int, tuple[ItemError, ...]]:
        """Return those of slots that have some, the oldest first; without ones being written."""
        found: dict[int, list[ItemError]] = {}
        table = self._table
        if self._numbers is None:
            return {}
        for parity in (0, 1) if table.bank else (0,):
            first = table.at + parity * table.bank
            for slot, numbers in enumerate(self._numbers(cells, parity)):
                if not any(numbers):
                    continue  # as nearly always
                at = first + slot * table.stride
                errors = (
                    self._one(cells, at, place, named)
                    for place, number in enumerate(numbers)
                    if number
                )
                found.setdefault(slot, []).extend(error for error in errors if error is not None)
        return {slot: tuple(sorted(errors, key=_error_time)) for slot, errors in found.items()}

    def _one(
        self, cells: memoryview, at: int, place: int, named: Callable[[int], str | None]
    ) -> ItemError | None:
        number, again, when, generation, function = (
            cells[at + offset + place] for offset in self._offsets
        )
        if number != again:
            return None
        item, text = (
            text_of(cells[(start := at + offset + place * words) : start + min(words, _MOST_WORDS)])
            for offset, words in self._texts
        )
        return ItemError(when / NANO, generation, named(function), item, text)


def _error_time(error: ItemError) -> float:
    return error.time


class _Bank:
    """One generation of a slot, with the totals of those before it in the same bank."""

    __slots__ = (
        "at",
        "busy",
        "counters",
        "counts",
        "cpu",
        "dump",
        "exit_reason",
        "function",
        "generation",
        "is_described",
        "load",
        "parity",
        "pid",
        "process_tasks",
        "queue_tasks",
        "ready",
        "resident",
        "slice_start",
        "started",
        "state",
        "task_start",
    )

    def __init__(
        self,
        parity: int,
        at: int,
        told: tuple[int, ...],
        own: tuple[int, ...],
        counters: tuple[int, ...],
    ) -> None:
        """Take the numbers apart.

        Args:
            parity: of the generation.
            at: first word of the worker's fields.
            told: what the parent knows of it.
            own: what it tells of itself.
            counters: keys of the program's counters, then the values.
        """
        self.parity = parity
        self.at = at
        self.counters = counters
        (
            self.generation,
            self.pid,
            lifecycle,
            self.started,
            queue_tasks,
            self.resident,
            self.ready,
            cpu_sample,
            self.exit_reason,
        ) = told
        task_start, slice_start, function, process_tasks, self.busy, self.cpu = own[:6]
        mark, described, self.load, self.dump, first_resident = own[6:_COUNTS]
        # One that is of an earlier item, or of none of this generation, says nothing.
        self.is_described = described != 0 and described == begun_by(mark)
        self.counts = own[_COUNTS:]
        self.state = word(_WORKER_STATES, lifecycle, WorkerState.IDLE)
        gone = self.state is WorkerState.GONE
        starting = self.state is WorkerState.STARTING
        self.queue_tasks = 0 if gone else queue_tasks
        self.task_start = 0 if gone or starting else task_start
        # Between tasks the start of the last slice is left standing.
        self.slice_start = slice_start if self.task_start else 0
        self.function = 0 if starting else function
        self.process_tasks = 0 if starting else process_tasks
        if first_resident and not starting:
            self.ready = first_resident  # the parent's first sample may be a second younger
        if not gone:
            # The parent's sample is the newer one while a task runs long.
            self.cpu = max(self.cpu, cpu_sample)

    @property
    def shown(self) -> WorkerState:
        """The state that people see: a worker that is ready is busy while a task runs."""
        if self.state is WorkerState.IDLE and self.task_start:
            return WorkerState.BUSY
        return self.state

    def rank(self) -> tuple[int, int]:
        """Say how good a candidate this is for who works in the slot now."""
        if self.state is WorkerState.GONE:
            return 0, self.generation
        return 1 if self.state is WorkerState.STARTING else 2, self.generation
