"""What the caller holds of a job: the stdlib's result objects, with their documented behaviour.

The scheduler's thread only appends to them and wakes: it takes no lock that a caller could hold (a
signal handler may interrupt a caller anywhere), and decodes nothing. Values are decoded by whoever
asks for them, or by the thread of callbacks.
"""

from __future__ import annotations

import multiprocessing.pool as mp_pool
from collections import deque
from multiprocessing import TimeoutError as MpTimeoutError
from threading import RLock
from time import monotonic
from typing import TYPE_CHECKING, Any, Self

from obspool.jobs import PARENT_ERROR
from obspool.messages import Kind
from obspool.waiting import Waiters

if TYPE_CHECKING:
    from collections.abc import Callable

    Decode = Callable[[Any], Any]


# A caller of `map` is woken to decode what came when so many parts or items wait for it, or large
# ones. Each wake costs as much as a thousand of its items; what is left costs time at the end.
DUE_PARTS = 16
DUE_ITEMS = 1024
DUE_BYTES = 4096


def _small(payload: Any) -> bool:
    return type(payload) is bytes and len(payload) < DUE_BYTES


class AsyncResult(mp_pool.ApplyResult):  # type: ignore[type-arg]
    """The result of `apply_async`; see `multiprocessing.pool.AsyncResult`."""

    def __init__(
        self,
        pool: Any,
        decode: Decode,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> None:
        self._pool = pool  # alive as long as it works for this result, as in the stdlib
        self._decode = decode
        self._callback = callback
        self._error_callback = error_callback
        self._waiters = Waiters()
        self._told = False
        self._error: tuple[int, Any] | None = None
        self._payload: Any = None
        self._decoded: tuple[bool, Any] | None = None

    def ready(self) -> bool:
        """Return whether the call has completed."""
        return self._told

    def successful(self) -> bool:
        """Return whether the call completed without raising.

        Raises:
            ValueError: the result is not ready.
        """
        if not self._told:
            raise ValueError(f"{self!r} not ready")
        return self._error is None

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the result is there, or the timeout (seconds) is over."""
        if not self._told:
            self._waiters.wait_until(self.ready, timeout)

    def get(self, timeout: float | None = None) -> Any:
        """Return the result when it arrives.

        Raises:
            multiprocessing.TimeoutError: it did not arrive within `timeout` seconds.
            Exception: what the call raised.
        """
        self.wait(timeout)
        if not self._told:
            raise MpTimeoutError
        success, value = self._outcome()
        if success:
            return value
        raise value

    def _outcome(self) -> tuple[bool, Any]:
        """Decode, once."""
        if self._decoded is None:
            try:
                if self._error is None:
                    outcome = (True, self._make())
                elif self._error[0] == PARENT_ERROR:
                    outcome = (False, self._error[1])
                else:
                    outcome = (False, self._decode(self._error[1]))
            except Exception as error:  # noqa: BLE001 - what unpickling raised is the outcome
                self._error = (PARENT_ERROR, error)
                outcome = (False, error)
            if self._decoded is None:  # another thread may have been faster: one object for all
                self._decoded = outcome
            self._forget()
        return self._decoded

    def _forget(self) -> None:
        """Drop what the outcome was made from."""
        self._payload = None

    def _make(self) -> Any:
        return self._decode(self._payload)

    # -- the scheduler's side

    def receive(self, first: int, count: int, kind: int, payloads: list[Any]) -> None:  # noqa: ARG002
        """Take the outcome of the call."""
        if kind in {Kind.ERROR, PARENT_ERROR}:
            self._error = (kind, payloads[0])
        else:
            self._payload = payloads[0]

    def has_callback(self) -> bool:
        """Return whether a callback must run before the result is told."""
        # Also the one that isn't called: dropping it may run user code, which is that thread's.
        return self._callback is not None or self._error_callback is not None

    def run_callback(self) -> None:
        """Call the callback, in its own thread; what it raises becomes the error of this result.

        Raises:
            Exception: what the callback raised.
        """
        success, value = self._outcome()
        callback: Any = self._callback if success else self._error_callback
        try:
            if callback is not None:
                callback(value)
        except BaseException as error:
            self._error = (PARENT_ERROR, error)
            self._decoded = (False, error)
            raise

    def tell(self) -> None:
        """Say that the result is there."""
        self._told = True
        self._pool = None
        self._callback = self._error_callback = None
        self._waiters.tell()


class MapResult(AsyncResult, mp_pool.MapResult):  # type: ignore[type-arg]
    """The result of `map_async` and `starmap_async`: a list in the order of the iterable."""

    def __init__(
        self,
        pool: Any,
        decode: Decode,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> None:
        super().__init__(pool, decode, callback, error_callback)
        self._parts: dict[int, tuple[int, int, list[Any]]] = {}
        self._values: dict[int, tuple[int, list[Any]]] = {}
        self._length = 0
        self._due = False  # there is enough to decode to wake the caller for it

    def receive_nothing(self, length: int) -> None:
        """Take an empty iterable, or a chunksize below 1, which runs nothing, as in the stdlib."""
        self._length = length

    def receive(self, first: int, count: int, kind: int, payloads: list[Any]) -> None:
        """Take the outcome of some items; the first error that arrives is the error."""
        self._length = max(self._length, first + count)
        if kind in {Kind.ERROR, PARENT_ERROR}:
            if self._error is None:
                self._error = (kind, payloads[0])
                self._parts.clear()
        elif self._error is None and kind != Kind.SKIPPED:
            self._parts[first] = (count, kind, payloads)
            if len(self._parts) >= DUE_PARTS or count >= DUE_ITEMS or not _small(payloads[0]):
                self._due = True
                self._waiters.tell()

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the result is there, or the timeout is over; decode what comes meanwhile."""
        deadline = None if timeout is None else monotonic() + timeout
        while not self._told:
            left = None if deadline is None else deadline - monotonic()
            if left is not None and left <= 0:
                return
            self._waiters.wait(self._something, left)
            # Only where nothing can fail: what else there is to decode is the outcome's affair.
            if self._due and not self._told:
                self._due = False
                self._decode_parts()

    def _something(self) -> bool:
        return self._told or self._due

    def _decode_parts(self) -> None:
        """Decode what has come; several threads may, and one may be interrupted."""
        decode, values = self._decode, self._values
        for first in list(self._parts):
            part = self._parts.get(first)
            if part is None:  # another thread has decoded it
                continue
            count, kind, payloads = part
            try:
                decoded = decode(payloads[0]) if kind == Kind.LIST else list(map(decode, payloads))
            except Exception as error:  # noqa: BLE001 - what unpickling raised is the outcome
                if self._error is None:
                    self._error = (PARENT_ERROR, error)
                return
            values.setdefault(first, (count, decoded))
            self._parts.pop(first, None)  # only now: until then it is still to be done

    def _make(self) -> list[Any]:
        self._decode_parts()
        if self._error is not None:
            raise self._error[1]
        values: list[Any] = [None] * self._length
        for first, (count, part) in list(self._values.items()):
            values[first : first + count] = part
        return values

    def _forget(self) -> None:
        self._values = {}


class IMapIterator(mp_pool.IMapIterator):  # type: ignore[type-arg]
    """The iterator of `imap`: it yields what finished, raises for what failed, and goes on."""

    ordered = True

    def __init__(self, pool: Any, decode: Decode) -> None:
        self._pool = pool
        self._decode = decode
        self._waiters = Waiters()
        self._inbox: deque[tuple[int, int, int, list[Any]]] = deque()
        self._all = False
        # Of consumers only, and never held while something is decoded.
        self._lock = RLock()
        self._parts: dict[int, tuple[int, int, list[Any]]] = {}
        self._next_item = 0
        self._current: deque[tuple[int, Any, int]] = deque()
        self._received = self._yielded = 0

    def __iter__(self) -> Self:
        """Return itself."""
        return self

    def next(self, timeout: float | None = None) -> Any:
        """Return the next result.

        Raises:
            StopIteration: there are no more.
            multiprocessing.TimeoutError: none arrived within `timeout` seconds.
            Exception: what the call on this item raised; `next` may be called again.
        """
        deadline = None if timeout is None else monotonic() + timeout
        while True:
            with self._lock:
                found = self._take()
            if found is not None:
                try:
                    return self._open(*found)
                except Exception:
                    raise
                except BaseException:  # interrupted: it hasn't been handed over
                    self._current.appendleft(found)
                    raise
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
        return current.popleft()

    def _open(self, kind: int, payload: Any, count: int) -> Any:
        if kind == Kind.LIST:
            kind, payload = self._open_list(payload, count)
        elif kind == Kind.ITEMS:
            kind, payload = _VALUE, self._decode(payload)
        elif kind == Kind.ERROR:
            kind, payload = PARENT_ERROR, self._decode(payload)
        self._yielded += 1
        if kind == PARENT_ERROR:
            raise payload
        return payload

    def _open_list(self, payload: Any, count: int) -> tuple[int, Any]:
        """Decode a chunk's results; return the first, and keep the others for the next calls."""
        try:
            values = [(_VALUE, value, 1) for value in self._decode(payload)]
        except Exception as error:  # noqa: BLE001 - the outcome of each of them
            values = [(PARENT_ERROR, error, 1)] * count
        with self._lock:
            # Before whatever another consumer put there meanwhile: only order among threads.
            self._current.extendleft(reversed(values[1:]))
        return values[0][0], values[0][1]

    def waiting(self) -> int:
        """Return how many items have arrived and were not asked for yet."""
        return self._received - self._yielded

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
        self._all = True
        self._pool = None
        self._waiters.tell()


_VALUE = -1  # an item of a chunk's results that is decoded already


class IMapUnorderedIterator(IMapIterator, mp_pool.IMapUnorderedIterator):  # type: ignore[type-arg]
    """The iterator of `imap_unordered`: in the order of arrival."""

    ordered = False
