"""What a worker writes into its bank of the segment, and the claim that it shares with the parent.

One 8-byte store costs 45 ns, so what can be shared by many items is: only the mark is written for
each item, as two bytes; a claim once a slice; counters and histograms once in about 1 ms of work.
"""

from __future__ import annotations

import mmap
import os
import sys
from bisect import bisect_left
from time import process_time_ns

from obspool.telemetry.layout import (
    DESCRIPTION_WORDS,
    FUNCTIONS,
    HISTOGRAM_WORDS,
    LATENCY_BOUNDS,
    PARENT,
    WORKER,
    text_of,
    text_words,
)
from obspool.words import Outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from typing import Any

    from obspool.telemetry.layout import Layout
    from obspool.telemetry.ring import ErrorRing

_BOUNDS = tuple(round(bound * 1_000_000_000) for bound in LATENCY_BOUNDS)
_SUM = HISTOGRAM_WORDS - 1

OUTCOMES = tuple(Outcome)
OK = OUTCOMES.index(Outcome.OK)
ERROR = OUTCOMES.index(Outcome.ERROR)
TIMEOUT = OUTCOMES.index(Outcome.TIMEOUT)
CANCELLED = OUTCOMES.index(Outcome.CANCELLED)
SKIPPED = OUTCOMES.index(Outcome.SKIPPED)

# The mark is one word: the sequence number of a slice's first item, shifted by this many bits, plus
# how many of the slice's items have begun: so one store of two bytes marks an item.
MARK_BITS = 16
MARK_COUNT = (1 << MARK_BITS) - 1

# How often CPU time is read: the call costs 0.6 µs.
_CPU_EVERY = 10_000_000


def begun_by(mark: int) -> int:
    """Return the sequence number below which every item had begun when the mark was stored."""
    return int((mark >> MARK_BITS) + (mark & MARK_COUNT))


def observe(cells: Any, base: int, duration: int, count: int = 1) -> None:
    """Add `count` observations of a duration in ns to the histogram at word `base`."""
    cells[base + bisect_left(_BOUNDS, duration)] += count
    cells[base + _SUM] += duration * count


def observe_all(cells: Any, base: int, durations: list[int]) -> None:
    """Add observations of these durations in ns to the histogram at word `base`."""
    shortest = bisect_left(_BOUNDS, min(durations))
    if shortest == bisect_left(_BOUNDS, max(durations)):  # as are most of a lot
        cells[base + shortest] += len(durations)
    else:
        for duration in durations:
            cells[base + bisect_left(_BOUNDS, duration)] += 1
    cells[base + _SUM] += sum(durations)


class Claims:
    """The words of a bank by which parent and worker agree on who runs what.

    The lock is this generation's own. The worker takes it once a slice; the parent only ever tries.
    """

    __slots__ = (
        "_acquire",
        "_release",
        "cancelled_from",
        "cancelled_until",
        "cells",
        "claim",
        "lock",
        "mark",
        "revoked_from",
        "revoked_until",
        "slice_start",
    )

    def __init__(self, cells: Any, layout: Layout, slot: int, generation: int, lock: Any) -> None:
        worker = layout.worker_block(slot, generation)
        parent = layout.parent_block(slot, generation)
        self.cells = cells
        self.lock = lock
        self._acquire = lock.acquire
        self._release = lock.release
        self.claim = worker + WORKER["claim"]
        self.mark = worker + WORKER["mark"]
        self.slice_start = worker + WORKER["slice_start"]
        self.revoked_from = parent + PARENT["revoked_from"]
        self.revoked_until = parent + PARENT["revoked_until"]
        self.cancelled_from = parent + PARENT["cancelled_from"]
        self.cancelled_until = parent + PARENT["cancelled_until"]

    def reset(self) -> None:
        """Clear what an earlier generation has left; the parent does, before each start."""
        for word in (
            self.claim,
            self.mark,
            self.revoked_from,
            self.revoked_until,
            self.cancelled_until,
        ):
            self.cells[word] = 0

    def begun(self) -> int:
        """Return the sequence number below which every item not taken back has begun."""
        return begun_by(self.cells[self.mark])

    def began(self) -> int:
        """Return when the running slice began, CLOCK_MONOTONIC in ns."""
        return int(self.cells[self.slice_start])

    def cancel(self, first: int, until: int) -> None:
        """Say that the items in [first, until) may be interrupted, for the parent."""
        cells = self.cells
        cells[self.cancelled_until] = 0  # never the new begin with the old end
        cells[self.cancelled_from] = first
        cells[self.cancelled_until] = until

    def is_cancelled(self, number: int) -> bool:
        """Tell whether an item may be interrupted."""
        cells = self.cells
        return bool(cells[self.cancelled_from] <= number < cells[self.cancelled_until])

    def take(self, first: int, wanted: int) -> tuple[int, int]:
        """Claim up to `wanted` items from `first` on, for the worker.

        Returns:
            The first item claimed and how many: with none, where to go on instead.
        """
        cells = self.cells
        self._acquire()
        until = cells[self.revoked_until]
        if until > first:
            start = cells[self.revoked_from]
            if start <= first:
                self._release()
                return until, 0
            wanted = min(wanted, start - first)
        cells[self.claim] = first + wanted
        cells[self.mark] = first << MARK_BITS
        self._release()
        return first, wanted

    def first(self) -> int:
        """Return the sequence number of the running slice's first item."""
        return int(self.cells[self.mark] >> MARK_BITS)

    def shorten(self, until: int) -> None:
        """Claim nothing from `until` on; the lock is held, by the worker."""
        self.cells[self.claim] = until

    def revoke_all(self) -> None:
        """Take back everything that isn't claimed, also what is yet to be sent."""
        with self.lock:
            self.cells[self.revoked_from] = self.cells[self.claim]
            self.cells[self.revoked_until] = 1 << 62

    def revoke(self, first: int, until: int, *, exact: bool = False) -> int | None:
        """Take back the items in [first, until) that aren't claimed, for the parent; never waits.

        Args:
            first: where to begin; earlier, if an older revocation lies before it.
            until: the number after the last one.
            exact: all of them or none.

        Returns:
            The first item taken back (`until` when there was none), or None when the lock is held.
        """
        if not self.lock.acquire(False):
            return None
        try:
            cells = self.cells
            claimed = cells[self.claim]
            start, end = cells[self.revoked_from], cells[self.revoked_until]
            if exact and claimed > first:
                return until
            first = max(first, claimed)
            if end > claimed and first >= start:
                first = end  # the older one isn't passed yet: extend it, by more than was asked for
            elif first < until:
                cells[self.revoked_from] = first
            if first >= until:
                return until
            cells[self.revoked_until] = until
            return first
        finally:
            self.lock.release()


class Tally:
    """What ran since it was last written down.

    Attributes:
        label: of the function.
        busy: time in items, ns.
        items: those that ran.
        errors: how many of them failed.
        timeouts: how many of these because their time was over.
        cancelled: how many of these because they were cancelled.
        skipped: items that did not run, after an error.
        tasks: tasks that ended.
        failed: how many of them failed.
        task_run: time of the ended tasks, ns.
        wait: how long the tasks had waited when they began, ns; None before one begins.
        load: time that unpickling took, ns.
        dump: time that pickling took, ns.
    """

    __slots__ = (
        "busy",
        "cancelled",
        "dump",
        "errors",
        "failed",
        "items",
        "label",
        "load",
        "skipped",
        "task_run",
        "tasks",
        "timeouts",
        "wait",
    )

    def __init__(self) -> None:
        self.label = self.busy = self.items = self.errors = self.skipped = 0
        self.tasks = self.failed = self.task_run = self.timeouts = self.cancelled = 0
        self.load = self.dump = 0
        self.wait: int | None = None


class Bank:
    """A worker's own counters: continued from the slot's generation before the last."""

    def __init__(
        self,
        cells: Any,
        layout: Layout,
        slot: int,
        generation: int,
        cpu_clock: Callable[[], int] = process_time_ns,
    ) -> None:
        base = layout.worker_block(slot, generation)
        self.cells = cells
        self._cpu_clock = cpu_clock
        mark = base + WORKER["mark"]
        low = 0 if sys.byteorder == "little" else 6
        self.mark = cells[mark : mark + 1].cast("B")[low : low + 2].cast("H")
        self._sequence = base + WORKER["sequence"]
        self._task_start = base + WORKER["task_start"]
        self._slice_start = base + WORKER["slice_start"]
        self._function = base + WORKER["function"]
        self._process_tasks = base + WORKER["process_tasks"]
        self._busy = base + WORKER["busy"]
        self._cpu = base + WORKER["cpu"]
        self._tasks = base + WORKER["tasks"]
        self._items = base + WORKER["items"]
        self._task_wait = base + WORKER["task_wait"]
        self._task_run = base + WORKER["task_run"]
        self._item_run = base + WORKER["item_run"]
        self._load = base + WORKER["load"]
        self._dump = base + WORKER["dump"]
        self._first_resident = base + WORKER["first_resident"]
        self._last_resident = base + WORKER["last_resident"]
        self._described = base + WORKER["described"]
        self._description = base + WORKER["description"]
        self._place = layout, slot, generation
        self._errors: ErrorRing | None = None
        self._cpu_before = self._cpu_read = 0
        for word in (
            self._task_start,
            self._slice_start,
            self._function,
            self._process_tasks,
            self._described,
            self._first_resident,
            self._last_resident,
        ):
            cells[word] = 0
        if cells[self._sequence] & 1:  # its predecessor was killed while it wrote
            cells[self._sequence] += 1

    def open(self) -> None:
        """Go on with the slot's CPU time, in the worker itself."""
        self._cpu_before = self.cells[self._cpu] - self._cpu_clock()

    def begin(self, function: int, now: int) -> None:
        """Show that a task of the function with this label begins."""
        self.cells[self._function] = function + 1
        self.cells[self._slice_start] = now
        self.cells[self._task_start] = now

    def idle(self) -> None:
        """Show that nothing runs."""
        self.cells[self._task_start] = 0
        self.cells[self._function] = 0

    def describe(self, lock: AbstractContextManager[Any], begun: int, text: str) -> None:
        """Show what the item that begins is.

        Args:
            lock: as for `account`.
            begun: number below which items have begun, this one too.
            text: what it is.
        """
        cells, at = self.cells, self._description
        with lock:
            cells[self._sequence] += 1
            cells[self._described] = begun
            cells[at : at + DESCRIPTION_WORDS] = text_words(text, DESCRIPTION_WORDS)
            cells[self._sequence] += 1

    def failed(self, error: BaseException, begun: int) -> None:
        """Write down what an item raised.

        Args:
            error: what it raised.
            begun: number below which items have begun, this one too.
        """
        if self._errors is None:
            from obspool.telemetry.ring import ErrorRing  # noqa: PLC0415 - few workers need it

            self._errors = ErrorRing(self.cells, *self._place)
        cells, at = self.cells, self._description
        is_described = cells[self._described] == begun
        item = text_of(cells[at : at + DESCRIPTION_WORDS]) if is_described else ""
        self._errors.add(error, cells[self._function], item)

    def tick(self, now: int) -> None:
        """Show when the running slice began."""
        self.cells[self._slice_start] = now

    def account(self, lock: AbstractContextManager[Any], tally: Tally, now: int) -> None:
        """Write down what ran since the last call, and clear the tally.

        Args:
            lock: the claim lock, the only fence there is between this row and its readers.
            tally: what ran.
            now: CLOCK_MONOTONIC in ns.
        """
        cells = self.cells
        items, errors, tasks = tally.items, tally.errors, tally.tasks
        with lock:
            cells[self._sequence] += 1
            cells[self._busy] += tally.busy
            if items:
                cells[self._items + OK] += items - errors
                item_run = self._item_run + HISTOGRAM_WORDS * min(tally.label, FUNCTIONS)
                observe(cells, item_run, tally.busy // items, items)
            if errors:
                cells[self._items + ERROR] += errors - tally.timeouts - tally.cancelled
                cells[self._items + TIMEOUT] += tally.timeouts
                cells[self._items + CANCELLED] += tally.cancelled
                tally.timeouts = tally.cancelled = 0
            if tally.skipped:
                cells[self._items + SKIPPED] += tally.skipped
            if tasks:
                cells[self._process_tasks] += tasks
                cells[self._tasks + OK] += tasks - tally.failed
                observe(cells, self._task_run, tally.task_run // tasks, tasks)
                if tally.failed:
                    cells[self._tasks + ERROR] += tally.failed
                if tally.wait is not None:
                    observe(cells, self._task_wait, tally.wait, tasks)
                    tally.wait = None
            if tally.load or tally.dump:
                cells[self._load] += tally.load
                cells[self._dump] += tally.dump
                tally.load = tally.dump = 0
            if now - self._cpu_read > _CPU_EVERY:
                self._cpu_read = now
                cells[self._cpu] = self._cpu_before + self._cpu_clock()
            cells[self._sequence] += 1
        tally.busy = tally.items = tally.errors = tally.skipped = 0
        tally.tasks = tally.failed = tally.task_run = 0

    def end(self) -> None:
        """Store the CPU time to the last, at exit."""
        self.cells[self._cpu] = self._cpu_before + self._cpu_clock()

    def ready(self) -> None:
        """Store the memory that this process has before its first task."""
        self.cells[self._first_resident] = _resident()

    def leave(self) -> None:
        """Store the memory that it has at the end."""
        self.cells[self._last_resident] = _resident()


def _resident() -> int:
    """Return this process's resident memory, bytes; 0 where the kernel has no such file."""
    try:
        fd = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return int(os.read(fd, 64).split()[1]) * mmap.PAGESIZE
        finally:
            os.close(fd)
    except (OSError, ValueError, IndexError):
        return 0
