"""What `imap` and `imap_unordered` return, and how far their input is read ahead."""

from __future__ import annotations

import multiprocessing.pool as mp_pool
import weakref
from collections import deque
from itertools import islice
from multiprocessing import TimeoutError as MpTimeoutError
from threading import RLock
from time import monotonic
from typing import TYPE_CHECKING, Any, Self

from obspool.handle import Handle
from obspool.handlers import pass_on
from obspool.jobs import PARENT_ERROR
from obspool.messages import Kind
from obspool.results import is_of_items
from obspool.waiting import Waiters

if TYPE_CHECKING:
    from collections.abc import Iterator

    from obspool.callbacks import Callbacks
    from obspool.decoding import Decoder
    from obspool.jobs import Job


class Room:
    """How many items may be read ahead of those that were taken from an iterator."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._read = self._taken = 0
        self._closed = False
        self._waiters = Waiters()

    def within(self, job: Job, items: Iterator[Any]) -> Iterator[Any]:
        """Yield the items as there is room for a task of them; nothing more once it is closed."""
        while self._enter(job.chunk, job):
            read = 0
            for item in islice(items, job.chunk):
                read += 1
                yield item
            if read < job.chunk:
                return

    def _enter(self, count: int, job: Job) -> bool:
        """Wait until there is room for so many items; return whether anybody wants them."""

        def is_there(size: int) -> bool:
            return (
                self._closed
                or job.cancelled
                or self._read + count - self._taken <= max(size, count)
            )

        if not is_there(self._size):
            # Until half of it is free: each wake costs as much as many items.
            while not self._waiters.wait_until(lambda: is_there(self._size // 2), 1.0):
                pass  # the job may have been cancelled, which nobody tells
        self._read += count
        return not (self._closed or job.cancelled)

    def took(self, count: int) -> None:
        """Note that so many items were taken; by one thread at a time."""
        self._taken += count
        self._waiters.tell()

    def close(self) -> None:
        """Say that nobody takes anything any more."""
        self._closed = True
        self._waiters.tell()


class WeakSink:
    """An iterator as its job sees it, where nothing is to be read once it was dropped."""

    def __init__(self, iterator: IMapIterator) -> None:
        self._iterator = weakref.ref(iterator)

    def reference(self) -> weakref.ref[IMapIterator]:
        """Return a reference to the iterator."""
        return self._iterator

    def receive(self, first: int, count: int, kind: int, payloads: list[Any]) -> None:
        """Take the outcome of some items, if anybody wants it."""
        iterator = self._iterator()
        if iterator is not None:
            iterator.receive(first, count, kind, payloads)

    def tell(self) -> None:
        """Say that all is there."""
        iterator = self._iterator()
        if iterator is not None:
            iterator.tell()

    def finish(self, _callbacks: Callbacks) -> None:
        """Say that all is there."""
        self.tell()


class IMapIterator(Handle, mp_pool.IMapIterator):  # type: ignore[type-arg]
    """The iterator of `imap`: it yields what finished, raises for what failed, and goes on."""

    ordered = True

    def __init__(
        self,
        pool: Any,
        decode: Decoder,
        room: Room | None = None,
        *,
        return_exceptions: bool = False,
    ) -> None:
        self._room = room
        self._pool = pool
        self._decode = decode
        self._returns_errors = return_exceptions
        self._waiters = Waiters()
        self._inbox: deque[tuple[int, int, int, list[Any]]] = deque()
        self._all = False
        # Of consumers only, and never held while something is decoded.
        self._lock = RLock()
        self._parts: dict[int, tuple[int, int, list[Any]]] = {}
        self._next_item = 0
        self._current: deque[tuple[int, Any, int]] = deque()
        self._received = self._yielded = 0
        self._untimed = self._patience = 0

    def __del__(self) -> None:
        """Have nothing more read, where that is bounded: nobody will take it."""
        room = getattr(self, "_room", None)
        if room is not None:
            room.close()

    def sink(self) -> IMapIterator | WeakSink:
        """Return what its job fills."""
        return self if self._room is None else WeakSink(self)

    def reference(self) -> weakref.ref[IMapIterator]:
        """Return a reference that doesn't keep it."""
        return weakref.ref(self)

    def __iter__(self) -> Self:
        """Return itself."""
        return self

    def next(self, timeout: float | None = None) -> Any:
        """Return the next result.

        Raises:
            StopIteration: there are no more.
            multiprocessing.TimeoutError: none arrived within `timeout` seconds.
            Exception: what the call on this item raised; `next` may be called again. Instead of a
                StopIteration, which would end a loop as if there were no more, RuntimeError.
        """
        deadline = None if timeout is None else monotonic() + timeout
        while True:
            with self._lock:
                found = self._take()
            if found is not None:
                try:
                    kind, value = self._open(*found)
                    if kind == _VALUE or self._returns(kind, value):
                        self._yielded += 1
                        return value
                except BaseException:  # interrupted: it hasn't been handed over
                    with self._lock:
                        self._current.appendleft(found)
                        if self._room is not None:
                            self._room.took(-1)
                    raise
                self._yielded += 1
                if isinstance(value, StopIteration):  # as PEP 479 has it for generators
                    raise RuntimeError("an item raised StopIteration") from value
                if not is_of_items(kind, value):  # one object for all that is left
                    raise value.with_traceback(None)
                raise value
            if self._all and not self._inbox:
                raise StopIteration
            left = None if deadline is None else deadline - monotonic()
            if not self._waiters.wait(self._something, left) and (left is not None and left <= 0):
                raise MpTimeoutError

    __next__ = next  # noqa: A003 - the stdlib's name

    def _something(self) -> bool:
        return self._all or bool(self._inbox)

    def _take(self) -> tuple[int, Any, int] | None:
        """Return the next payload, if it is there: its kind, itself, and how many items it is."""
        current = self._current
        while not current:
            while self._inbox:
                first, count, kind, payloads = self._inbox.popleft()
                if not self.ordered:
                    first = self._next_item + len(self._parts)  # in the order of arrival
                self._parts[first] = (count, kind, payloads)
                if not self.ordered:
                    break
            part = self._parts.pop(self._next_item, None)
            if part is None:
                return None
            count, kind, payloads = part
            self._next_item += count if self.ordered else 1
            if kind == Kind.LIST:
                current.append((kind, payloads[0], count))
            else:
                current.extend((kind, payload, 1) for payload in payloads)
        if self._room is not None:
            self._room.took(1)
        return current.popleft()

    def _open(self, kind: int, payload: Any, count: int) -> tuple[int, Any]:
        """Decode a payload: to a value, or to an error of the parent's or the item's."""
        if kind == Kind.LIST:
            return self._open_list(payload, count)
        if kind in {_VALUE, PARENT_ERROR}:
            return kind, payload
        try:
            if self._untimed < self._patience:
                self._untimed += 1
                value = self._decode.plain(payload)
            else:
                value, taken = self._decode.timed(payload, 1 + self._untimed)
                self._untimed, self._patience = 0, 0 if taken > _SLOW else _UNTIMED
        except Exception as error:  # noqa: BLE001 - what unpickling raised is the outcome
            pass_on(error)
            return PARENT_ERROR, error
        return (_VALUE if kind == Kind.ITEMS else kind), value

    def _returns(self, kind: int, error: Any) -> bool:
        """Tell whether an error is to be returned as a result."""
        return self._returns_errors and is_of_items(kind, error)

    def _open_list(self, payload: Any, count: int) -> tuple[int, Any]:
        """Decode a chunk's results; return the first, and keep the others for the next calls."""
        try:
            values = [(_VALUE, value, 1) for value in self._decode(payload)]
        except Exception as error:  # noqa: BLE001 - the outcome of each of them
            pass_on(error)
            values = [(PARENT_ERROR, error, 1)] * count
        with self._lock:
            # Before whatever another consumer put there meanwhile: only order among threads.
            self._current.extendleft(reversed(values[1:]))
        return values[0][0], values[0][1]

    def waiting(self) -> int:
        """Return how many items have arrived and were not asked for yet."""
        return max(0, self._received - self._yielded)

    def exhausted(self) -> bool:
        """Return whether everything has arrived and was asked for."""
        return self._all and self.waiting() <= 0

    # -- the scheduler's side

    def receive(self, first: int, count: int, kind: int, payloads: list[Any]) -> None:
        """Take the outcome of some items."""
        self._received += count
        self._inbox.append((first, count, kind, payloads))
        self._waiters.tell()

    def tell(self) -> None:
        """Say that all is there."""
        self._detach()
        self._all = True
        self._pool = None
        self._waiters.tell()

    def finish(self, _callbacks: Callbacks) -> None:
        """Say that all is there."""
        self.tell()


# To take the time of each quick item's decoding would cost 3 %: it is that of every sixteenth.
_SLOW = 10_000  # ns
_UNTIMED = 15

_VALUE = -1  # an item of a chunk's results that is decoded already


class IMapUnorderedIterator(IMapIterator, mp_pool.IMapUnorderedIterator):  # type: ignore[type-arg]
    """The iterator of `imap_unordered`: in the order of arrival."""

    ordered = False
