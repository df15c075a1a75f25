"""A program's own counters: `obspool.counter("rows").add(3)`, in workers and in the parent.

    worker process: add ──> its bank: key, value ────────────────┐
                     └─ a new name ── frame ──> parent: names ───┼──> readers: name, sum
    parent, its threads: add ──> the pool block: values ─────────┘

A worker adds to words of its own, at once: nothing is lost with it. It can't write to the table of
names, so the first use of a name in a process is told to the parent. Workers import this module.
"""

from __future__ import annotations

import os
import threading
from collections import deque

from obspool.telemetry.layout import (
    COUNTER,
    COUNTER_NAME_WORDS,
    COUNTERS,
    POOL,
    WORD,
    WORKER,
    counter_key,
    text_of,
    text_words,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from obspool.telemetry.cells import SegmentCells

_MOST = (1 << 63) - 1  # added at once


class Counter:
    """Counts something of the program's; made by `obspool.counter`.

    Attributes:
        name: as it was given.
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def add(self, amount: int = 1) -> None:
        """Add to the counter of the pool whose worker this is, from any thread.

        In a pool's own process: of the pool whose callback or whose ThreadPool worker runs this,
        else of the newest pool there. Where there is none, nothing happens.

        Args:
            amount: an integer, 0 or more.

        Raises:
            TypeError: it is no integer.
            ValueError: it is negative, or above 2**63.
        """
        if type(amount) is not int:
            raise TypeError(f"counter {self.name!r}: a whole number is added, not {amount!r}")
        if not 0 <= amount <= _MOST:
            raise ValueError(f"counter {self.name!r}: a counter never falls, so not {amount}")
        book = getattr(_here, "book", None) or _book()
        if book is not None:
            book.add(self.name, amount)

    inc = add

    def __repr__(self) -> str:
        """Return how it is made."""
        return f"obspool.counter({self.name!r})"


def counter(name: str) -> Counter:
    """Return the program's counter of this name; it is `obspool_user_<name>_total` in /metrics.

    A pool has room for 16 names. Further ones are counted nowhere, and a warning is logged once.

    Args:
        name: at most 64 ASCII letters, digits and underscores, no digit first; without `_total`.

    Raises:
        ValueError: it isn't such a name.
    """
    if not is_name(name):
        raise ValueError(
            f"not a counter's name: {name!r}; at most {COUNTER_NAME_WORDS * WORD} ASCII letters, "
            "digits and underscores, no digit first, without _total at the end"
        )
    return Counter(name)


def is_name(name: str) -> bool:
    """Tell whether a counter may have this name."""
    return (
        name.isascii()
        and name.isidentifier()
        and len(name) <= COUNTER_NAME_WORDS * WORD
        and not name.endswith("_total")
    )


class PoolBook:
    """A pool's counters in its own process: the names, and what this process adds itself.

    The lock is reentrant, as a signal's handler may add in the midst of an addition.
    """

    def __init__(self, segment: SegmentCells, refuse: Callable[[str], None]) -> None:
        """Take the segment, and what is called with the first name that has no room."""
        self.segment = segment
        self._pool = segment.layout.pool
        self._refuse: Callable[[str], None] | None = refuse
        self._places: dict[str, int] = {}
        self._named: deque[str] = deque()  # by workers
        self._lock = threading.RLock()

    def name(self, name: str) -> None:
        """Take the name of a counter that a worker adds to: it gets its place soon."""
        self._named.append(name)

    def settle(self) -> None:
        """Give new names their places; not now, if somebody is at it, who may wait for the pool."""
        if self._named and self._lock.acquire(blocking=False):
            try:
                while self._named:
                    self.place(self._named.popleft())
            finally:
                self._lock.release()

    def place(self, name: str) -> int | None:
        """Return which of the counters has this name, None if there is no room for it."""
        with self._lock:
            found = self._places.get(name)
            if found is not None:
                return found
            number = len(self._places)
            if number < COUNTERS:
                cells = self.segment.cells
                at = self.segment.layout.counters + number * COUNTER.words
                cells[at : at + COUNTER_NAME_WORDS] = text_words(name, COUNTER_NAME_WORDS)
                self._places[name] = number
                cells[self._pool + POOL["counters"]] = number + 1  # last: then the name is there
                return number
            refuse, self._refuse = self._refuse, None
        if refuse is not None:
            refuse(name)
        return None

    def add(self, name: str, amount: int) -> None:
        """Add to a counter."""
        place = self.place(name)
        if place is not None:
            with self._lock:
                self.segment.cells[self._pool + POOL["counter_values"] + place] += amount

    def enter(self) -> None:
        """Have what this thread adds counted here."""
        _here.book = self

    def open(self) -> None:
        """Be the newest pool's."""
        _books.append(self)

    def close(self) -> None:
        """Be no pool's any more that works."""
        if self in _books:
            _books.remove(self)


class WorkerBook:
    """The counters of a worker process, in its bank."""

    def __init__(
        self, segment: SegmentCells, worker: tuple[int, int], tell: Callable[[str], None]
    ) -> None:
        """Take the segment, slot and generation, and what tells the parent of a name."""
        self._segment = segment
        base = segment.layout.worker_block(*worker)
        self._keys = base + WORKER["counter_keys"]
        self._values = base + WORKER["counter_values"]
        self._tell = tell
        self._places: dict[str, int | None] = {}
        self._lock = threading.RLock()

    def add(self, name: str, amount: int) -> None:
        """Add to a counter."""
        new = False
        with self._lock:
            try:
                place = self._places[name]
            except KeyError:
                place, new = self._find(name)
                self._places[name] = place
            if place is not None:
                self._segment.cells[place] += amount
        if new:
            self._tell(name)

    def _find(self, name: str) -> tuple[int | None, bool]:
        """Return the word for a counter, None without room; and whether the parent may not know."""
        cells, key = self._segment.cells, counter_key(name)
        named = self._named()
        new = key not in named
        keys = cells[self._keys : self._keys + COUNTERS].tolist()
        if key in keys:  # of an earlier generation
            return self._values + keys.index(key), new
        if new and len(named) == COUNTERS:
            return None, new
        # What is not among a full table's names is not counted anywhere: its words are free.
        full = len(named) == COUNTERS
        for place, other in enumerate(keys):
            if not other or (full and other not in named):
                cells[self._keys + place] = 0  # first: no reader takes the old value for the new
                cells[self._values + place] = 0
                cells[self._keys + place] = key
                return self._values + place, new
        return None, new

    def _named(self) -> set[int]:
        """Return the keys of the names that the parent knows."""
        cells, layout = self._segment.cells, self._segment.layout
        found = set()
        for index in range(min(cells[layout.pool + POOL["counters"]], COUNTERS)):
            at = layout.counters + index * COUNTER.words
            found.add(counter_key(text_of(cells[at : at + COUNTER_NAME_WORDS])))
        return found


# What this thread adds is counted there: `book`, in a ThreadPool's workers and in callbacks.
_here = threading.local()

_books: list[PoolBook] = []  # of this process's pools, the newest last
_own: WorkerBook | None = None  # of this process, a worker
_make: Callable[[], WorkerBook] | None = None  # makes it: few workers count
_making = threading.RLock()


def be_worker(make: Callable[[], WorkerBook]) -> None:
    """Say that this process is a worker, whose book is made when something is counted."""
    global _own, _make, _making
    _own, _make, _making = None, make, threading.RLock()


def _forget() -> None:
    """Have a forked child count nothing: the words are its parent's."""
    global _own, _make  # noqa: PLW0603 - of the process
    _own = _make = None
    _books.clear()
    _here.__dict__.clear()


os.register_at_fork(after_in_child=_forget)


def _book() -> PoolBook | WorkerBook | None:
    if _own is not None:
        return _own
    if _make is not None:
        return _made(_make)
    return _books[-1] if _books else None


def _made(make: Callable[[], WorkerBook]) -> WorkerBook:
    """Make this worker's book, unless another thread has just done so."""
    global _own  # noqa: PLW0603 - of the process
    with _making:
        if _own is None:
            _own = make()
        return _own


def book_of(segment: Any) -> PoolBook | None:
    """Return the book of the pool with this segment, in its own process."""
    return next((book for book in _books if book.segment is segment), None)
