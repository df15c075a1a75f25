"""What the caller holds of a job: the stdlib's result objects, with their documented behaviour.

The scheduler's thread only appends to them and wakes: it takes no lock that a caller could hold (a
signal handler may interrupt a caller anywhere), and decodes nothing. Values are decoded by whoever
asks for them, or by the thread of callbacks.
"""

# ruff: noqa: SLF001 - some functions do for many results what methods do for one

from __future__ import annotations

import multiprocessing.pool as mp_pool
from multiprocessing import TimeoutError as MpTimeoutError
from time import monotonic
from typing import TYPE_CHECKING, Any

from obspool.errors import CancelledError, PoolBrokenError, PoolTerminatedError
from obspool.handle import Handle
from obspool.handlers import pass_on
from obspool.jobs import FAILURES, PARENT_ERROR
from obspool.messages import Kind
from obspool.waiting import Waiters

if TYPE_CHECKING:
    from collections.abc import Callable

    from obspool.callbacks import Callbacks
    from obspool.decoding import Decoder
    from obspool.jobs import Job
    from obspool.loans import Loan


# A caller of `map` is woken to decode what came when so many parts or items wait for it, or large
# ones. Each wake costs as much as a thousand of its items; what is left costs time at the end.
DUE_PARTS = 16
DUE_ITEMS = 1024
DUE_BYTES = 4096


def _small(payload: Any) -> bool:
    return type(payload) is bytes and len(payload) < DUE_BYTES


def is_of_items(kind: int, payload: Any) -> bool:
    """Tell whether an error is one item's, and not its call's: cancelled, or the pool has ended."""
    ends = (CancelledError, PoolTerminatedError, PoolBrokenError)
    return kind != Kind.CANCELLED and (kind != PARENT_ERROR or not isinstance(payload, ends))


class _Failure:
    """An outcome that is to be raised."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


_UNDECODED: Any = object()


class AsyncResult(Handle, mp_pool.ApplyResult):  # type: ignore[type-arg]
    """The result of `apply_async`; see `multiprocessing.pool.AsyncResult`."""

    # There may be very many: slots, and no other object, for what each of them has.
    __slots__ = (
        "_callback",
        "_decode",
        "_decoded",
        "_error",
        "_error_callback",
        "_job",
        "_payload",  # of the arguments, then of the outcome
        "_pool",
        "_submitted",
        "_told",
    )

    _counts: tuple[int, int | None, int] = (1, 1, 0)
    _waiters: Waiters | None = None  # made by the first who waits
    _loan: Loan | None = None  # there its outcome is to be collected

    def __init__(
        self,
        pool: Any,
        decode: Callable[[Any], Any],
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        job: Job | None = None,
        payload: Any = None,
        submitted: int = 0,
    ) -> None:
        self._pool = pool  # alive as long as it works for this result, as in the stdlib
        self._decode = decode
        self._callback = callback
        self._error_callback = error_callback
        self._told = False
        self._error: tuple[int, Any] | None = None
        self._decoded = _UNDECODED
        self._job = job
        self._payload = payload
        self._submitted = submitted

    def ready(self) -> bool:
        """Return whether the call has completed."""
        if not self._told and self._loan is not None:
            self._loan.collect(self, 0.0)
        return self._told

    def successful(self) -> bool:
        """Return whether the call completed without raising.

        Raises:
            ValueError: the result is not ready.
        """
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._error is None

    def cancelled(self) -> bool:
        """Return whether the call ended because it was cancelled."""
        if not self.ready() or self._error is None:
            return False
        kind, error = self._error
        return kind == Kind.CANCELLED or isinstance(error, CancelledError)

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the result is there, or the timeout (seconds) is over."""
        loan, job = self._loan, self._job
        if loan is not None:
            deadline = None if timeout is None else monotonic() + timeout
            loan.collect(self, timeout)
            timeout = None if deadline is None else deadline - monotonic()
        elif job is not None:
            job.waited_for()
        if not self._told:
            self._own_waiters().wait_until(self._is_told, timeout)

    def _is_told(self) -> bool:
        return self._told

    def _own_waiters(self) -> Waiters:
        """Return who waits; one object for all threads, which those that tell look for last."""
        waiters: Waiters = self.__dict__.setdefault("_waiters", Waiters())
        return waiters

    def _wake(self) -> None:
        """Wake whoever waits."""
        if self._waiters is not None:
            self._waiters.tell()

    def get(self, timeout: float | None = None) -> Any:
        """Return the result when it arrives.

        Raises:
            multiprocessing.TimeoutError: it did not arrive within `timeout` seconds.
            Exception: what the call raised.
        """
        if not self._told:
            self.wait(timeout)
            if not self._told:
                raise MpTimeoutError
        outcome = self._decoded
        if outcome is _UNDECODED:
            outcome = self._outcome()
        if type(outcome) is _Failure:
            raise outcome.error
        return outcome

    def _outcome(self) -> Any:
        """Decode, once; return the value, or a failure."""
        if self._decoded is _UNDECODED:
            outcome: Any
            error = self._error
            try:
                if error is None:
                    outcome = self._make()
                elif error[0] == PARENT_ERROR:
                    outcome = _Failure(error[1])
                else:
                    outcome = _Failure(self._decode(error[1]))
            except Exception as failure:  # noqa: BLE001 - what unpickling raised is the outcome
                pass_on(failure)
                outcome = _Failure(failure)
                error = (PARENT_ERROR, failure)
            if self._decoded is _UNDECODED:  # else another thread was faster: one object for all
                self._error = error
                self._decoded = outcome
            self._payload = None
        return self._decoded

    def _make(self) -> Any:
        return self._decode(self._payload)

    # -- the call's own side

    def ask(self, job: Job, payload: Any, submitted: int) -> None:
        """Take the job, the arguments as a payload, and when they were submitted.

        That is CLOCK_MONOTONIC in ns.
        """
        self._job = job
        self._payload = payload
        self._submitted = submitted

    def asked(self) -> tuple[Any, int]:
        """Return the arguments as a payload, and when they were submitted."""
        return self._payload, self._submitted

    def expect(self, loan: Loan | None) -> None:
        """Take the loan whose worker has the call; None: the scheduler brings the outcome."""
        self._loan = loan

    def is_out(self) -> bool:
        """Tell whether the call was sent without the scheduler, and has no outcome yet."""
        return self._loan is not None and not self._told

    def is_waited_for(self) -> bool:
        """Tell whether a thread waits for it."""
        return self._waiters is not None and bool(self._waiters)

    def refuse(self, error: BaseException) -> None:
        """Give it this error, unless it has an outcome: nobody will bring one."""
        if not self._told:
            self.receive(0, 1, PARENT_ERROR, [error])
            self.tell()

    # -- the scheduler's side

    def receive(self, first: int, count: int, kind: int, payloads: list[Any]) -> None:  # noqa: ARG002
        """Take the outcome of the call."""
        if kind in FAILURES:
            self._fail(kind, payloads[0])
        else:
            self._payload = payloads[0]

    def _fail(self, kind: int, payload: Any) -> None:
        self._error = (kind, payload)
        self._payload = None
        self._counts = (1, 1, 1)

    def has_callback(self) -> bool:
        """Return whether a callback must run before the result is told."""
        # Also the one that isn't called: dropping it may run user code, which is that thread's.
        return self._callback is not None or self._error_callback is not None

    def finish(self, callbacks: Callbacks) -> None:
        """Say that the result is there, once its callback has run."""
        if self.has_callback():
            callbacks.add(self)
        else:
            self.tell()

    def run_callback(self) -> None:
        """Call the callback, in its own thread; what it raises becomes the error of this result.

        Raises:
            Exception: what the callback raised.
        """
        outcome = self._outcome()
        try:
            if type(outcome) is not _Failure:
                if self._callback is not None:
                    self._callback(outcome)
            elif self._error_callback is not None:
                self._error_callback(outcome.error)
        except BaseException as error:
            self._error = (PARENT_ERROR, error)
            self._decoded = _Failure(error)
            raise

    def tell(self) -> None:
        """Say that the result is there."""
        self._detach()
        self._told = True
        self._pool = None
        self._callback = self._error_callback = None
        if self._loan is not None:
            self._loan = None
        self._wake()


def asked(results: list[AsyncResult]) -> list[Any]:
    """Return the payloads of single calls."""
    return [result._payload for result in results]


def submissions(results: list[AsyncResult]) -> list[int]:
    """Return when single calls were submitted, CLOCK_MONOTONIC in ns."""
    return [result._submitted for result in results]


def tell_all(
    results: list[AsyncResult], kind: int, payloads: list[Any], callbacks: Callbacks
) -> None:
    """Give results of single calls their outcomes, all of this kind, and say that they are there.

    Does what `receive` and `finish` do.
    """
    failed = kind in FAILURES
    for result, payload in zip(results, payloads, strict=True):
        if failed:
            result._fail(kind, payload)
        else:
            result._payload = payload
        if result._callback is None and result._error_callback is None:
            result._job = None
            result._told = True
            result._pool = None
            if result._waiters is not None:
                result._waiters.tell()
        else:
            callbacks.add(result)


class MapResult(AsyncResult, mp_pool.MapResult):  # type: ignore[type-arg]
    """The result of `map_async` and `starmap_async`: a list in the order of the iterable."""

    def __init__(
        self,
        pool: Any,
        decode: Decoder,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        return_exceptions: bool = False,
    ) -> None:
        super().__init__(pool, decode, callback, error_callback)
        self._decode_many = decode.many
        self._returns_errors = return_exceptions
        self._parts: dict[int, tuple[int, int, list[Any]]] = {}
        self._values: list[Any] = []  # what is decoded, in its place
        self._length = 0
        self._due = False  # there is enough to decode to wake the caller for it

    def receive_nothing(self, length: int) -> None:
        """Take an empty iterable, or a chunksize below 1, which runs nothing, as in the stdlib."""
        self._length = length
        self._counts = (0, length, 0)

    def receive(self, first: int, count: int, kind: int, payloads: list[Any]) -> None:
        """Take the outcome of some items; the first error that arrives is the error."""
        self._length = max(self._length, first + count)
        if kind in FAILURES and not (self._returns_errors and is_of_items(kind, payloads[0])):
            if self._error is None:
                self._error = (kind, payloads[0])
                self._parts.clear()
        elif self._error is None and kind != Kind.SKIPPED:
            self._parts[first] = (count, kind, payloads)
            if len(self._parts) >= DUE_PARTS or count >= DUE_ITEMS or not _small(payloads[0]):
                self._due = True
                self._wake()

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the result is there, or the timeout is over; decode what comes meanwhile."""
        deadline = None if timeout is None else monotonic() + timeout
        while not self._told:
            left = None if deadline is None else deadline - monotonic()
            if left is not None and left <= 0:
                return
            self._own_waiters().wait(self._something, left)
            # Only where nothing can fail: what else there is to decode is the outcome's affair.
            if self._due and not self._told:
                self._due = False
                self._decode_parts()

    def _something(self) -> bool:
        return self._told or self._due

    def _decode_parts(self) -> None:
        """Decode what has come; several threads may, and one may be interrupted."""
        decode = self._decode
        for first in list(self._parts):
            part = self._parts.get(first)
            if part is None:  # another thread has decoded it
                continue
            count, kind, payloads = part
            try:
                if kind == PARENT_ERROR:
                    decoded = payloads
                elif kind == Kind.LIST:
                    decoded = decode(payloads[0])
                else:
                    decoded = self._decode_many(payloads)
            except Exception as error:  # noqa: BLE001 - what unpickling raised is the outcome
                pass_on(error)
                if not self._returns_errors:
                    self._error = self._error or (PARENT_ERROR, error)
                    return
                decoded = self._decode_each(kind, count, payloads, error)
            self._place(first, count, decoded)
            self._parts.pop(first, None)  # only now: until then it is still to be done

    def _place(self, first: int, count: int, decoded: list[Any]) -> None:
        """Put values where they belong: now, as long as there is something else to wait for."""
        values = self._values
        if len(values) < first + count:  # another thread may see that too: there is room enough
            values += [None] * (first + count - len(values))
        values[first : first + count] = decoded

    def _decode_each(
        self, kind: int, count: int, payloads: list[Any], error: Exception
    ) -> list[Any]:
        """Decode a part of which something can't be: its error takes that item's place."""
        if kind == Kind.LIST:
            return [error] * count
        decoded: list[Any] = []
        for payload in payloads:
            try:
                decoded.append(self._decode(payload))
            except Exception as failure:  # noqa: BLE001 - the item's outcome
                pass_on(failure)
                decoded.append(failure)
        return decoded

    def _make(self) -> list[Any]:
        self._decode_parts()
        if self._error is not None:
            raise self._error[1]
        self._place(self._length, 0, [])
        del self._values[self._length :]
        return self._values

    def _outcome(self) -> Any:
        outcome = super()._outcome()
        self._values = []
        return outcome
