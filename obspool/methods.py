"""The calls of a pool: each becomes a job. What is keyword-only here, the stdlib hasn't got."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from obspool.calls import Calling
from obspool.checks import check_count, check_seconds
from obspool.functions import Function, name_of
from obspool.handlers import pass_on
from obspool.iterators import IMapIterator, IMapUnorderedIterator, Room
from obspool.jobs import Job
from obspool.messages import Call
from obspool.results import AsyncResult, MapResult
from obspool.words import JobKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from obspool.core import Core


# A job of at most so many tasks is pickled in the caller's thread: it costs less than a thread.
SMALL_JOB = 64


class Terms(NamedTuple):
    """What a call asks for besides its work; what is None the pool decides."""

    timeout: float | None = None
    retries: int | None = None
    return_exceptions: bool = False

    def resolved(self, pool: Methods) -> Terms:
        """Return what is possible and complete: 0 is no timeout.

        Raises:
            ValueError: it isn't possible.
            TypeError: something is of the wrong type.
        """
        timeout, retries = self.timeout, self.retries
        if timeout is None:
            timeout = pool._timeout  # noqa: SLF001 - the same class, in two files
        else:
            check_seconds("timeout", timeout)
            if not pool._live().engine.killable:  # noqa: SLF001
                raise ValueError("timeout= needs processes: a thread can't be interrupted or ended")
        if retries is None:
            retries = pool._retries  # noqa: SLF001
        else:
            check_count("retries", retries, 0)
        endless = timeout is None or timeout == inf
        return Terms(0.0 if endless else timeout, retries, self.return_exceptions)


class Methods:
    """`apply`, `map` and all others of the stdlib's Pool.

    All of them take

    - `timeout`: how long an item may run (seconds above 0; `math.inf`: for ever; None: as the pool
      says). Then a SoftTimeoutError is raised in it, in its worker; when it hasn't ended two
      seconds later, its worker is killed. Its error is TaskTimeoutError either way, unless it
      catches the SoftTimeoutError and returns in time. Other items run on. Not in a ThreadPool.
    - `retries`: how often an item is run again that was lost with its worker, in which it had begun
      (None: as the pool says, by default never, because it may have had effects). An item that had
      finished, and whose result was lost, may so run twice. When it has been lost once more than
      that, it raises WorkerLostError. Errors that an item raises, and timeouts, are not retried.
    """

    _processes: int
    _timeout: float | None
    _retries: int

    def _live(self) -> Core:
        raise NotImplementedError

    def _check_running(self) -> None:
        raise NotImplementedError

    def apply(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        *,
        timeout: float | None = None,
        retries: int | None = None,
    ) -> Any:
        """Call `func(*args, **kwds)` in a worker and return its result.

        Args:
            func: what to call.
            args: its positional arguments.
            kwds: its keyword arguments.
            timeout: see the class.
            retries: see the class.
        """
        call, item = Call.STAR, args
        if kwds:
            call, item = Call.FULL, (args, kwds)
        result = None
        if timeout is None and retries is None:
            result = self._live().singles.append(self, func, call, item, wait=True)
        if result is None:
            result = self._begin(func, call, item, Terms(timeout, retries), wait=True)
        return result.get()

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        timeout: float | None = None,
        retries: int | None = None,
    ) -> AsyncResult:
        """Have `func(*args, **kwds)` called in a worker; return what its result will be.

        Args:
            func: what to call.
            args: its positional arguments.
            kwds: its keyword arguments.
            callback: called with the result, in the pool's thread for callbacks.
            error_callback: called with the error.
            timeout: see the class.
            retries: see the class.
        """
        call, item = Call.STAR, args
        if kwds:
            call, item = Call.FULL, (args, kwds)
        result = None
        if timeout is None and retries is None:  # the short way, of which every step counts
            singles = self._live().singles
            result = singles.append(self, func, call, item, callback, error_callback)
        if result is None:
            terms = Terms(timeout, retries)
            result = self._begin(func, call, item, terms, callback, error_callback)
        return result

    def _begin(
        self,
        func: Callable[..., Any],
        call: int,
        item: Any,
        terms: Terms,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        wait: bool = False,
    ) -> AsyncResult:
        """Make a call that doesn't go the way of the last one."""
        core = self._live()
        result = AsyncResult(self, core.decoder, callback, error_callback)
        usual = terms.timeout is None and terms.retries is None
        with Calling(core):
            self._check_running()
            timeout, retries, _ = terms.resolved(self)
            function = self._function(JobKind.APPLY, func, result)
            if function is None:
                return result
            try:
                core.singles.begin(
                    *(func, function, call, item, result),
                    retries=retries or 0,
                    timeout=timeout or 0.0,
                    usual=usual,
                    wait=wait,
                )
            except Exception as error:  # noqa: BLE001 - the outcome of the call, as in the stdlib
                pass_on(error)
                core.fail(Job(JobKind.APPLY, function, call, 1, result), error)
            return result

    def map(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        *,
        timeout: float | None = None,
        retries: int | None = None,
        return_exceptions: bool = False,
    ) -> list[Any]:
        """Apply `func` to each element, collecting the results in a list that is returned.

        Args:
            func: called with one element.
            iterable: read to its end before anything runs, if it has no length.
            chunksize: elements per task; None: a quarter of a worker's share.
            timeout: see the class.
            retries: see the class.
            return_exceptions: put what an element raised into the list, in its place, and run all
                elements; False: raise the first error, and skip what follows an error in its chunk.
                The pool's end is raised all the same.
        """
        terms = Terms(timeout, retries, return_exceptions)
        return self._map(func, iterable, JobKind.MAP, chunksize, terms, wait=True).get()  # type: ignore[no-any-return]

    def starmap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        *,
        timeout: float | None = None,
        retries: int | None = None,
        return_exceptions: bool = False,
    ) -> list[Any]:
        """As `map`, but each element is unpacked as arguments: `func(*element)`."""
        terms = Terms(timeout, retries, return_exceptions)
        return self._map(func, iterable, JobKind.STARMAP, chunksize, terms, wait=True).get()  # type: ignore[no-any-return]

    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        timeout: float | None = None,
        retries: int | None = None,
        return_exceptions: bool = False,
    ) -> MapResult:
        """As `map`, without waiting."""
        terms = Terms(timeout, retries, return_exceptions)
        return self._map(func, iterable, JobKind.MAP, chunksize, terms, callback, error_callback)

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        timeout: float | None = None,
        retries: int | None = None,
        return_exceptions: bool = False,
    ) -> MapResult:
        """As `starmap`, without waiting."""
        terms, kind = Terms(timeout, retries, return_exceptions), JobKind.STARMAP
        return self._map(func, iterable, kind, chunksize, terms, callback, error_callback)

    def _map(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        kind: JobKind,
        chunksize: int | None,
        terms: Terms,
        callback: Callable[[list[Any]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        wait: bool = False,
    ) -> MapResult:
        self._check_running()
        terms = terms.resolved(self)
        items: Any = iterable if hasattr(iterable, "__len__") else list(iterable)
        length = len(items)
        core = self._live()
        if chunksize is None:
            chunksize, extra = divmod(length, self._processes * 4)
            chunksize += bool(extra)
        result = MapResult(
            self,
            core.decoder,
            callback,
            error_callback,
            return_exceptions=terms.return_exceptions,
        )
        if not length or chunksize <= 0:
            # The stdlib's: nothing runs, no callback is called, and the result is there.
            result.receive_nothing(length)
            result.tell()
            return result
        call = Call.STAR if kind is JobKind.STARMAP else Call.ONE
        tasks = -(-length // chunksize)
        copy = not (wait and type(items) in {list, tuple})  # others may reuse a buffer
        here = wait or (tasks <= SMALL_JOB and length <= SMALL_JOB * SMALL_JOB)
        with Calling(core) as number:
            self._check_running()
            job = self._job(kind, func, call, chunksize, result, terms)
            result.attach(job)
            if job is not None:
                job.length = length
                core.run(job, items, call=number, copy=copy, here=here)
        return result

    def imap(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int = 1,
        *,
        buffersize: int | None = None,
        timeout: float | None = None,
        retries: int | None = None,
        return_exceptions: bool = False,
    ) -> IMapIterator:
        """Apply `func` to each element; return an iterator over the results, in order.

        An element whose call raised raises in its turn, and the iterator goes on behind it.

        Args:
            func: called with one element.
            iterable: read in a thread of its own, ahead of the workers.
            chunksize: elements per task.
            buffersize: how many elements may be read ahead of what was taken from the iterator (at
                least one task's): so an endless iterable needs a bounded memory. When the iterator
                is dropped, no more is read. None: as far ahead as workers need, whoever takes the
                results, and to the end. (As `buffersize` of `concurrent.futures`, Python 3.14.)
            timeout: see the class.
            retries: see the class.
            return_exceptions: yield what an element raised instead of raising it.

        Raises:
            ValueError: `chunksize` or `buffersize` is below 1.
        """
        terms = Terms(timeout, retries, return_exceptions)
        return self._imap(IMapIterator, JobKind.IMAP, func, iterable, chunksize, buffersize, terms)

    def imap_unordered(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int = 1,
        *,
        buffersize: int | None = None,
        timeout: float | None = None,
        retries: int | None = None,
        return_exceptions: bool = False,
    ) -> IMapIterator:
        """As `imap`, with the results in the order in which they arrive."""
        kind, terms = JobKind.IMAP_UNORDERED, Terms(timeout, retries, return_exceptions)
        return self._imap(IMapUnorderedIterator, kind, func, iterable, chunksize, buffersize, terms)

    def _imap(
        self,
        make: type[IMapIterator],
        kind: JobKind,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int,
        buffersize: int | None,
        terms: Terms,
    ) -> IMapIterator:
        self._check_running()
        terms = terms.resolved(self)
        if chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize!r}")
        room = None
        if buffersize is not None:
            check_count("buffersize", buffersize, 1)
            room = Room(max(buffersize, chunksize))
        core = self._live()
        with Calling(core) as number:
            self._check_running()
            result = make(self, core.decoder, room, return_exceptions=terms.return_exceptions)
            job = self._job(kind, func, Call.ONE, chunksize, result.sink(), terms)
            result.attach(job)
            if job is not None:
                job.room = room
                try:
                    job.length = len(iterable)  # type: ignore[arg-type]
                except Exception as error:  # noqa: BLE001 - it has none, or its own code failed
                    pass_on(error)
                core.run(job, iterable, call=number, copy=True, here=False)
        return result

    def _function(self, kind: JobKind, func: Callable[..., Any], sink: Any) -> Function | None:
        """Make a function ready to travel; None when it can't be, and so its call has failed."""
        core = self._live()
        try:
            return core.engine.encode_function(func)
        except Exception as error:  # noqa: BLE001 - the outcome of the call, as in the stdlib
            pass_on(error)
            function = Function(0, None, kept=True, name=name_of(func))
            core.fail(Job(kind, function, Call.ONE, 1, sink), error)
            return None

    def _job(
        self,
        kind: JobKind,
        func: Callable[..., Any],
        call: int,
        chunksize: int,
        sink: Any,
        terms: Terms,
    ) -> Job | None:
        """Make a call a job; None when the function can't be sent, and so it has failed."""
        function = self._function(kind, func, sink)
        if function is None:
            return None
        stops = kind in {JobKind.MAP, JobKind.STARMAP} and not terms.return_exceptions
        return Job(
            kind,
            function,
            call,
            chunksize,
            sink,
            stop_on_error=stops,
            retries=terms.retries or 0,
            timeout=terms.timeout or 0.0,
        )
