"""The public class: it turns calls into jobs, and nothing else."""

from __future__ import annotations

import multiprocessing.pool as mp_pool
import os
import sys
import threading
import warnings
import weakref
from functools import partial
from multiprocessing import get_context, util
from multiprocessing.pool import CLOSE, INIT, RUN, TERMINATE
from typing import TYPE_CHECKING, Any, ClassVar

if sys.platform == "win32":
    raise ImportError("obspool needs a POSIX system; fall back to multiprocessing.pool.Pool")

from obspool import hooks
from obspool.assembly import assemble
from obspool.calls import Calling
from obspool.cpus import usable_cpus
from obspool.engines.protocol import Plan
from obspool.functions import Function, name_of
from obspool.jobs import Job
from obspool.messages import Call
from obspool.results import AsyncResult, IMapIterator, IMapUnorderedIterator, MapResult
from obspool.words import JobKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from obspool.core import Core
    from obspool.engines.protocol import Engine
    from obspool.telemetry.snapshot import Snapshot


# A job of at most so many tasks is pickled in the caller's thread: it costs less than a thread.
SMALL_JOB = 64

# How long `apply` waits (seconds) until it sees to it that its job is counted and balanced.
UNTOLD_TIME = 0.01

# How long terminate() waits for the end (seconds): the scheduler gives up a little earlier.
TERMINATE_PATIENCE = 5.0


class Pool(mp_pool.Pool):
    """A `multiprocessing.pool.Pool` that can be seen into and steered while it works.

    Args:
        processes: number of workers; None: the CPUs that this process may really use (the affinity,
            the cgroup's quota, PYTHON_CPU_COUNT).
        initializer: called as `initializer(*initargs)` when a worker starts.
        initargs: its arguments.
        maxtasksperchild: tasks (chunks, not items) after which a worker is replaced; None: never.
        context: of multiprocessing, as from `multiprocessing.get_context("spawn")`.
        name: by which `obspool top`, /metrics and the registry know the pool; by default the
            script's. A taken name gets the next free suffix (`nightly-2`).
        metrics: where to serve /metrics from this process: a port of the loopback interface, or
            "host:port"; True for any free port; None: as OBSPOOL_METRICS says, else nowhere.
        balance: let idle workers take over the rest of a chunk that another one runs; False keeps
            each chunk whole and in one worker.

    Raises:
        ValueError: `processes` below 1, a `maxtasksperchild` that isn't a positive integer, a name
            with nothing usable in it.
        TypeError: `initializer` can't be called.
        MetricsServerError: `metrics` names an address that can't be had.
    """

    _engine_name: ClassVar[str] = "processes"
    _core: Core | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Give a subclass that overrides queue-level hooks the stdlib's machinery."""
        super().__init_subclass__(**kwargs)
        if cls.__module__ != __name__:
            hooks.adopt(cls)

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
        *,
        name: str | None = None,
        metrics: bool | int | str | None = None,
        balance: bool = True,
    ) -> None:
        self._state = INIT  # for __del__, should this fail
        self._ctx = context or get_context()
        if processes is None:
            processes = usable_cpus()
        if processes < 1:
            raise ValueError("Number of processes must be at least 1")
        limit: object = maxtasksperchild  # whatever the caller gave
        if limit is not None and not (isinstance(limit, int) and limit > 0):
            raise ValueError("maxtasksperchild must be a positive int or None")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._processes = processes
        self._maxtasksperchild = maxtasksperchild
        self._initializer = initializer
        self._initargs = tuple(initargs)
        make_process = self._ctx.Process
        if type(self).Process is not mp_pool.Pool.Process:
            make_process = partial(_process, weakref.ref(self), self._ctx)
        self._core = assemble(
            partial(self._make_engine, make_process),
            engine_name=self._engine_name,
            start_method=self._ctx.get_start_method() if self._engine_name == "processes" else "",
            processes=processes,
            max_tasks=maxtasksperchild,
            name=name,
            metrics=metrics,
            balance=balance,
        )
        self._terminate = util.Finalize(self, _end, args=(self._core,), exitpriority=15)
        self._core.open()
        self._state = RUN

    def _make_engine(self, make_process: Callable[..., Any], segment: Any, name: str) -> Engine:
        from obspool.engines.processes import ProcessEngine  # noqa: PLC0415 - threads need none

        plan = Plan(segment, self._initializer, self._initargs, make_process, self._ctx)
        return ProcessEngine(plan, name)

    # -- what clients of the stdlib's Pool look at

    @property
    def _pool(self) -> list[Any]:
        """The processes of the workers that exist."""
        return [] if self._core is None else self._core.supervisor.handles()

    @property
    def _state(self) -> str:
        """RUN, CLOSE, TERMINATE or INIT; also when it was `obspool close` that closed it."""
        core = self._core
        if core is not None and self._said_state == RUN and core.closing:
            return TERMINATE if core.terminating else CLOSE
        return self._said_state

    @_state.setter
    def _state(self, value: str) -> None:
        self._said_state = value

    def _repopulate_pool(self) -> None:
        """See that every slot has its worker: the supervisor does so by itself."""
        if self._core is not None:
            self._core.engine.wake()

    def __del__(self, _warn: Callable[..., None] = warnings.warn, _run: str = RUN) -> None:
        """Warn of a pool that was never closed, as the stdlib does."""
        if getattr(self, "_said_state", None) == _run:
            _warn(f"unclosed running multiprocessing pool {self!r}", ResourceWarning, source=self)

    def __reduce__(self) -> Any:
        """Refuse: a pool belongs to its process."""
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    # -- seeing

    @property
    def name(self) -> str:
        """The name that the pool really got."""
        return self._live().name

    @property
    def metrics_url(self) -> str | None:
        """Where this process serves /metrics for the pool, None where it doesn't."""
        return self._live().metrics_url

    def stats(self) -> Snapshot:
        """Return how the pool is, also after its end; costs it nothing.

        Raises:
            ForkedPoolError: in a forked child of the pool's process.
        """
        return self._live().stats()

    def _live(self) -> Core:
        if self._core is None:
            raise ValueError("this pool works with the stdlib's machinery, without telemetry")
        return self._core

    # -- calls

    def _check_running(self) -> None:
        self._live().check()
        if self._state != RUN:
            raise ValueError("Pool not running")

    def apply(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
    ) -> Any:
        """Call `func(*args, **kwds)` in a worker and return its result."""
        result = self._apply(func, args, kwds, None, None, wait=True)
        result.wait(UNTOLD_TIME)
        if not result.ready():
            self._live().engine.wake()  # the scheduler may not know of it yet
        return result.get()

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult:
        """Have `func(*args, **kwds)` called in a worker; return what its result will be."""
        return self._apply(func, args, kwds, callback, error_callback)

    def _apply(
        self,
        func: Callable[..., Any],
        args: Iterable[Any],
        kwds: Mapping[str, Any],
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
        *,
        wait: bool = False,
    ) -> AsyncResult:
        core = self._live()
        with Calling(core) as number:
            self._check_running()
            result = AsyncResult(self, core.engine.decode, callback, error_callback)
            call, item = (Call.FULL, (args, kwds)) if kwds else (Call.STAR, args)
            job = self._job(JobKind.APPLY, func, call, 1, result)
            if job is not None:
                core.run_one(job, item, call=number, wait=wait)
            return result

    def map(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]:
        """Apply `func` to each element, collecting the results in a list that is returned."""
        return self._map(func, iterable, JobKind.MAP, chunksize, wait=True).get()  # type: ignore[no-any-return]

    def starmap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
    ) -> list[Any]:
        """As `map`, but each element is unpacked as arguments: `func(*element)`."""
        return self._map(func, iterable, JobKind.STARMAP, chunksize, wait=True).get()  # type: ignore[no-any-return]

    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> MapResult:
        """As `map`, without waiting."""
        return self._map(func, iterable, JobKind.MAP, chunksize, callback, error_callback)

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> MapResult:
        """As `starmap`, without waiting."""
        return self._map(func, iterable, JobKind.STARMAP, chunksize, callback, error_callback)

    def _map(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        kind: JobKind,
        chunksize: int | None,
        callback: Callable[[list[Any]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        wait: bool = False,
    ) -> MapResult:
        self._check_running()
        items: Any = iterable if hasattr(iterable, "__len__") else list(iterable)
        length = len(items)
        core = self._live()
        if chunksize is None:
            chunksize, extra = divmod(length, self._processes * 4)
            chunksize += bool(extra)
        result = MapResult(self, core.engine.decode, callback, error_callback)
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
            job = self._job(kind, func, call, chunksize, result)
            if job is not None:
                core.run(job, items, call=number, copy=copy, here=here)
        return result

    def imap(  # type: ignore[override] # typeshed allows None, which never worked
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int = 1
    ) -> IMapIterator:
        """Apply `func` to each element; return an iterator over the results, in order.

        An element whose call raised raises in its turn, and the iterator goes on behind it.
        """
        return self._imap(IMapIterator, JobKind.IMAP, func, iterable, chunksize)

    def imap_unordered(  # type: ignore[override] # as above
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int = 1
    ) -> IMapIterator:
        """As `imap`, with the results in the order in which they arrive."""
        kind = JobKind.IMAP_UNORDERED
        return self._imap(IMapUnorderedIterator, kind, func, iterable, chunksize)

    def _imap(
        self,
        make: type[IMapIterator],
        kind: JobKind,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int,
    ) -> IMapIterator:
        self._check_running()
        if chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize!r}")
        core = self._live()
        with Calling(core) as number:
            self._check_running()
            result = make(self, core.engine.decode)
            job = self._job(kind, func, Call.ONE, chunksize, result)
            if job is not None:
                core.run(job, iterable, call=number, copy=True, here=False)
        return result

    def _job(
        self, kind: JobKind, func: Callable[..., Any], call: int, chunksize: int, result: Any
    ) -> Job | None:
        """Make a call a job; None when the function can't be sent, and so it has failed."""
        core = self._live()
        try:
            function = core.engine.encode_function(func)
        except Exception as error:  # noqa: BLE001 - the outcome of the call, as in the stdlib
            function = Function(0, None, kept=True, name=name_of(func))
            core.fail(Job(kind, function, call, 1, result), error)
            return None
        return Job(kind, function, call, chunksize, result)

    # -- the end

    def close(self) -> None:
        """Take no more calls; the workers exit when all work is done."""
        util.debug("closing pool")
        if self._state == RUN:
            self._state = CLOSE
            self._live().close()

    def terminate(self) -> None:
        """End the workers now; calls that have no result yet get a PoolTerminatedError."""
        util.debug("terminating pool")
        self._state = TERMINATE
        self._terminate()

    def join(self) -> None:
        """Wait until the workers have exited, and the callbacks have run.

        Raises:
            ValueError: the pool is still running: call `close` or `terminate` before.
        """
        util.debug("joining pool")
        if self._state == RUN:
            raise ValueError("Pool is still running")
        if self._state not in {CLOSE, TERMINATE}:
            raise ValueError("In unknown state")
        self._live().join()


class ThreadPool(Pool, mp_pool.ThreadPool):
    """A `multiprocessing.pool.ThreadPool` with the same telemetry and control.

    Threads can't be killed: `terminate` drops what has not begun, and doesn't wait for what runs.

    Args:
        processes: number of threads; None: the CPUs that this process may really use.
        initializer: called as `initializer(*initargs)` when a worker starts.
        initargs: its arguments.
        name: as `Pool`'s.
        metrics: as `Pool`'s.
        balance: as `Pool`'s.
    """

    _engine_name: ClassVar[str] = "threads"

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        *,
        name: str | None = None,
        metrics: bool | int | str | None = None,
        balance: bool = True,
    ) -> None:
        super().__init__(
            processes, initializer, initargs, name=name, metrics=metrics, balance=balance
        )

    def _make_engine(self, make_process: Callable[..., Any], segment: Any, name: str) -> Engine:
        from obspool.engines.threads import ThreadEngine  # noqa: PLC0415 - processes need none

        plan = Plan(segment, self._initializer, self._initargs, make_process, self._ctx)
        return ThreadEngine(plan, name)


def _process(pool: weakref.ref[Pool], context: Any, **arguments: Any) -> Any:
    """Make a process as the pool's `Process` does, which a subclass may override."""
    owner = pool()
    if owner is None:  # it is being collected: its end is on its way
        return context.Process(**arguments)
    return owner.Process(context, **arguments)


def _end(core: Core) -> None:
    """Terminate: once, from `terminate`, the garbage collector, or at exit."""
    if core.pid != os.getpid():
        return
    core.terminate()
    # The garbage collector may call this in a thread of ours, which must not wait for itself.
    if not threading.current_thread().name.startswith("obspool-"):
        core.ended.wait(TERMINATE_PATIENCE)
