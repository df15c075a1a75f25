"""The slots of a segment made into WorkerSnapshots, and the sums over all of them.

Three decisions stand here. *Who works in a slot now*: of its two generations the newest that is
alive and past its start-up; else the newest alive (a first worker that is starting); else the
newest. So a worker that drains shows until its successor is ready. *A generation that starts* shows
nothing of the worker's own fields but totals: they are its predecessor's until it cleared them.
*When the pool has ended or died* every worker is gone, because nobody outlives the parent.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from operator import add, itemgetter
from typing import TYPE_CHECKING, TypeAlias

from obspool.telemetry.bank import begun_by
from obspool.telemetry.histograms import Histograms
from obspool.telemetry.layout import text_of
from obspool.telemetry.rows import NANO, Picker, Text, optional, wall, word
from obspool.telemetry.snapshot import ItemError, WorkerSnapshot
from obspool.words import ExitReason, Outcome, WorkerState

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

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
# One generation of a slot, with the totals of those before it in the same bank: its parity, then
# the parent's fields and its own.
_Bank: TypeAlias = "tuple[int, ...]"
_FIELDS = ("parity", *_PARENT_FIELDS, *_WORKER_FIELDS)
_GENERATION = _FIELDS.index("generation")
_COUNTS = len(_FIELDS) - 2  # from here on they are by outcome
_SUMMED = (
    *("lifecycle", "queue_tasks", "cpu_sample"),
    *("task_start", "busy", "cpu", "load", "dump"),
)
_summed = itemgetter(*map(_FIELDS.index, _SUMMED))
# Where in the list of a bank's histograms they are; those of items are by function.
_TASK_WAIT, _TASK_RUN, _ITEM_RUN = range(3)
# To look a member up in its class takes 0.1 µs in Python 3.11, which is much for each slot.
_STARTING, _IDLE, _BUSY, _GONE = (
    WorkerState.STARTING,
    WorkerState.IDLE,
    WorkerState.BUSY,
    WorkerState.GONE,
)
_GONE_INDEX = _WORKER_STATES.index(_GONE)
# From the worst candidate for who works in a slot on; others are better.
_RANKS = {_GONE_INDEX: 0, _WORKER_STATES.index(_STARTING): 1}


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
        by_parity = [self._banks(parity) for parity in self._parities]
        item_runs = self._item_runs(by_parity)
        return tuple(
            [
                self._slot(slot, used, item_runs[slot])
                for slot, banks in enumerate(zip(*by_parity, strict=True))
                if (used := [bank for bank in banks if bank[_GENERATION]])
            ]
        )

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

    def _banks(self, parity: int) -> list[_Bank]:
        """Return the banks of one parity, and add what is told there of counters."""
        cells = self._cells
        told = self._pick_parent.columns(cells, parity)
        generations = told[0]
        if not any(generations):  # as of one of two in a pool that recycles nothing
            return [(parity, 0)] * len(generations)
        if self._pick_counters is not None:
            for counters in itertools.compress(self._pick_counters(cells, parity), generations):
                self._count(counters)
        own = self._pick_worker.columns(cells, parity)
        return list(zip(itertools.repeat(parity), *told, *own, strict=False))

    def _count(self, counters: tuple[int, ...]) -> None:
        """Add a bank's part of the program's counters: their keys, then the values."""
        half = len(counters) // 2
        for key, number in zip(counters[:half], counters[half:], strict=True):
            self.counted[key] = self.counted.get(key, 0) + number

    def _item_runs(self, by_parity: list[list[_Bank]]) -> list[int]:
        """Add the banks' histograms to the pool's; return the run time of items for each slot."""
        of_slots = [0] * self._worker.count
        for parity, banks in zip(self._parities, by_parity, strict=True):
            used = [slot for slot, bank in enumerate(banks) if bank[_GENERATION]]
            records = [self._at(slot, parity) for slot in used]
            for index, place in enumerate(self._places):
                lanes = self._histograms.column(self._raw, records, place)
                self._sums[index] += sum(lanes)
                if index >= _ITEM_RUN:
                    for slot, run in zip(used, lanes, strict=True):
                        of_slots[slot] += run
        return of_slots

    def _at(self, slot: int, parity: int) -> int:
        """Return the first word of a worker's fields."""
        worker = self._worker
        return worker.at + slot * worker.stride + parity * worker.bank

    def _slot(self, slot: int, banks: list[_Bank], item_run: int) -> WorkerSnapshot:
        """Return a slot's row: what is told of its present generation, and the totals of all."""
        now = banks[0] if len(banks) == 1 else max(banks, key=_rank)
        counts: Sequence[int] = ()
        queue_tasks = cpu = busy = 0
        for bank in banks:
            lifecycle, queued, sampled, begun, its_busy, its_cpu, load, dump = _summed(bank)
            is_gone = lifecycle == _GONE_INDEX
            queue_tasks += 0 if is_gone else queued
            # The parent's sample is the newer one while a task runs long.
            cpu += its_cpu if is_gone or its_cpu > sampled else sampled
            busy += its_busy
            counts = tuple(map(add, counts, bank[_COUNTS:])) if counts else bank[_COUNTS:]
            # What is starting or gone runs nothing, whatever an earlier generation has left there.
            self.running += begun != 0 and lifecycle not in _RANKS
            self.load += load
            self.dump += dump
        # fmt: off
        (
            parity, generation, pid, lifecycle, started, _, resident, ready, _, reason,
            task_start, slice_start, function, process_tasks, _, _, mark, described, _, _,
            first_resident, *_,
        ) = now
        # fmt: on
        state = word(_WORKER_STATES, lifecycle, _IDLE)
        if state is _STARTING or state is _GONE:
            task_start = 0
        if state is _STARTING:
            function = process_tasks = first_resident = 0
        # The parent's first sample may be a second younger.
        ready = first_resident or ready
        works = self._alive and state is not _GONE
        return WorkerSnapshot(
            slot=slot,
            generation=generation,
            pid=pid,
            # A worker that is ready is busy while a task runs.
            state=(_BUSY if task_start and state is _IDLE else state) if works else _GONE,
            torn=(slot, parity) in self._torn,
            start_time=wall(started),
            function=self._function(function),
            task_start_time=self._monotonic(task_start) if works else None,
            # Between tasks the start of the last slice is left standing.
            item_start_time=self._monotonic(slice_start) if works and task_start else None,
            process_tasks=process_tasks,
            queue_tasks=queue_tasks,
            resident_memory=resident,
            memory_growth=resident - ready if resident and ready else 0,
            cpu_seconds=cpu / NANO,
            busy_seconds=busy / NANO,
            restarts=generation - 1,
            tasks=dict(zip(_OUTCOMES, counts, strict=False)),
            items=dict(zip(_OUTCOMES, counts[len(_OUTCOMES) :], strict=True)),
            item_run=self._histograms.made(item_run),
            exit_reason=optional(_EXIT_REASONS, reason),
            # One of an earlier item, or of none of this generation, says nothing.
            description=self._description(self._cells, self._at(slot, parity))
            if works and task_start and described and described == begun_by(mark)
            else "",
            errors=self._errors.get(slot, ()),
        )

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


def _rank(bank: _Bank) -> tuple[int, int]:
    """Say how good a candidate a generation is for who works in its slot now."""
    _, generation, _, lifecycle, *_ = bank
    return _RANKS.get(lifecycle, len(_RANKS)), generation
