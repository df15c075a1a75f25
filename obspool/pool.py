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
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if sys.platform == "win32":
    raise ImportError("obspool needs a POSIX system; fall back to multiprocessing.pool.Pool")

from obspool import hooks
from obspool.assembly import assemble
from obspool.checks import check_callable, check_count, check_max_tasks, check_seconds
from obspool.cpus import usable_cpus
from obspool.engines.protocol import Plan
from obspool.messages import Hooks
from obspool.methods import Methods

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from obspool.core import Core
    from obspool.engines.protocol import Engine
    from obspool.telemetry.snapshot import Snapshot


# How long terminate() waits for the end (seconds): the scheduler gives up a little earlier.
TERMINATE_PATIENCE = 5.0


# typeshed allows a chunksize of None in imap, which never worked.
class Pool(Methods, mp_pool.Pool):  # type: ignore[misc]
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
        max_memory_per_child: resident memory (bytes) after which a worker is replaced when it has
            ended what it runs; "auto": an equal share of four fifths of what the cgroup, or else
            the machine, has. Looked at between items, and twice a second while one runs. Each
            worker's own limit is up to a tenth lower or higher, so that not all end at once.
        max_age_per_child: seconds after which a worker is replaced, in the same way.
        finalizer: called without arguments in a worker that ends as planned, because of a limit, a
            command, or `close`; not when it is killed or the pool is terminated. An error of its
            own is logged, and an event; nothing is lost by it.
        timeout: how long an item may run (seconds), where its call doesn't say; None: for ever. See
            `obspool.methods.Methods`.
        retries: how often an item that was lost with its worker runs again, where its call doesn't
            say.
        balance: let idle workers take over the rest of a chunk that another one runs; False keeps
            each chunk whole and in one worker.
        describe: called in the worker as the function is (`describe(*args, **kwargs)`), before each
            item; `obspool top` and `stats` show what it returns (as text, of which 128 bytes) as
            the item that runs, and WorkerLostError names it. None: items' arguments are shown
            nowhere. It costs about 5 µs an item.

    Raises:
        ValueError: `processes` below 1, a `maxtasksperchild` that isn't a positive integer, a name
            with nothing usable in it, a time or a size not above 0, `retries` below 0.
        TypeError: `initializer`, `finalizer` or `describe` can't be called, `timeout` or `retries`
            is no number.
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
        max_memory_per_child: int | Literal["auto"] | None = None,
        max_age_per_child: float | None = None,
        finalizer: Callable[[], object] | None = None,
        timeout: float | None = None,
        retries: int = 0,
        balance: bool = True,
        describe: Callable[..., object] | None = None,
    ) -> None:
        self._state = INIT  # for __del__, should this fail
        self._ctx = context or get_context()
        if processes is None:
            processes = usable_cpus()
        if processes < 1:
            raise ValueError("Number of processes must be at least 1")
        check_max_tasks(maxtasksperchild)
        check_callable("initializer", initializer)
        check_callable("finalizer", finalizer)
        check_callable("describe", describe)
        if timeout is not None:
            check_seconds("timeout", timeout)
        check_count("retries", retries, 0)
        if max_memory_per_child is not None and max_memory_per_child != "auto":
            check_count("max_memory_per_child", max_memory_per_child, 1)
        if max_age_per_child is not None:
            check_seconds("max_age_per_child", max_age_per_child)
        self._timeout = timeout
        self._retries = retries
        self._wanted = processes
        self._initializer = initializer
        self._initargs = tuple(initargs)
        self._hooks = Hooks(initializer, self._initargs, finalizer, describe)
        make_process = self._ctx.Process
        if type(self).Process is not mp_pool.Pool.Process:
            make_process = partial(_process, weakref.ref(self), self._ctx)
        self._core = assemble(
            partial(self._make_engine, make_process),
            engine_name=self._engine_name,
            start_method=self._ctx.get_start_method() if self._engine_name == "processes" else "",
            processes=processes,
            max_tasks=maxtasksperchild,
            max_memory=max_memory_per_child,
            max_age=max_age_per_child,
            name=name,
            metrics=metrics,
            balance=balance,
        )
        self._terminate = util.Finalize(self, _end, args=(self._core,), exitpriority=15)
        self._core.open()
        self._state = RUN

    def _make_engine(self, make_process: Callable[..., Any], segment: Any, name: str) -> Engine:
        from obspool.engines.processes import ProcessEngine  # noqa: PLC0415 - threads need none

        plan = Plan(segment, self._hooks, make_process, self._ctx)
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

    @property
    def _processes(self) -> int:
        """How many workers there are to be; setting it resizes the pool, as in the stdlib."""
        core = self._core
        return self._wanted if core is None else core.workers

    @_processes.setter
    def _processes(self, value: int) -> None:
        self.resize(value)

    @property
    def _maxtasksperchild(self) -> int | None:
        """After how many tasks workers are replaced."""
        return None if self._core is None else self._core.max_tasks

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

    def stack(self, slot: int) -> str:
        """Return the Python stack of a worker as it is now, also of one that is stuck.

        The innermost frame comes first. A worker in Python code shows all of its threads, the main
        one first, which runs the items. One that is in C code, holding the GIL or not, shows the
        main thread alone; that takes 50 ms or more, everything else a few. The worker goes on. Only
        a system call of C code that isn't restarted after a signal (a sleep, a poll) ends early,
        with EINTR, which not all code expects. All is done in the caller's thread, so this works
        after `close`, too, and when the pool's own threads are stuck.

        Args:
            slot: whose worker, from 0 on.

        Returns:
            Lines as faulthandler's, at most 64 KiB.

        Raises:
            ValueError: there is no such slot.
            StackUnavailableError: it can't be had (now): the worker is just starting or ending, it
                was stopped, it does not answer within a second, or the system isn't Linux; the
                message says which.
            ForkedPoolError: in a forked child of the pool's process.
        """
        return self._live().stack(slot)

    def _live(self) -> Core:
        if self._core is None:
            raise ValueError("this pool works with the stdlib's machinery, without telemetry")
        return self._core

    def _check_running(self) -> None:
        self._live().check()
        if self._state != RUN:
            raise ValueError("Pool not running")

    # -- steering

    def recycle(self, slot: int | None = None) -> None:
        """Have a worker replaced when it has ended what it runs; what it hasn't begun others run.

        Args:
            slot: whose worker, from 0 on; None: all of them, one after the other (at most an eighth
                of them at a time).

        Raises:
            ValueError: there is no such slot, or the pool doesn't run.
        """
        self._check_running()
        self._live().recycle(slot)

    def pause(self) -> None:
        """Begin nothing more until `resume`; calls may be made, and wait.

        What runs goes on to its end. What was sent to workers and has not begun comes back (with
        `balance=False` a chunk that has begun runs to its end). A paused pool that is closed ends
        when it was resumed; `terminate` ends it at once.

        Raises:
            ValueError: the pool doesn't run.
        """
        self._check_running()
        self._live().pause()

    def resume(self) -> None:
        """Go on after `pause`; also when the pool was closed meanwhile.

        Raises:
            ForkedPoolError: in a forked child of the pool's process.
        """
        self._live().check()
        self._live().resume()

    def resize(self, processes: int) -> None:
        """Have more workers, or fewer; returns at once.

        New ones start now. Those too many end what they run, and what they have not begun others
        run. A call's default chunksize is from the number when it is made.

        Args:
            processes: how many there are to be, at least 1.

        Raises:
            TypeError: it isn't an int.
            ValueError: it is below 1 or above 4,096, or the pool doesn't run.
            OSError: there is no room for their telemetry.
        """
        check_count("processes", processes, 1)
        self._check_running()
        self._live().resize(processes)

    def cancel(self, job: int, *, running: bool = False) -> None:
        """Cancel a call by its number in `stats().jobs`, as its result's `cancel` does.

        Args:
            job: number of the call.
            running: interrupt what runs, too.

        Raises:
            ValueError: no call with this number is in progress, or what runs can't be interrupted.
        """
        self._live().check()
        self._live().cancel_job(job, running=running)

    def set(self, *, maxtasksperchild: int | None) -> None:
        """Change after how many tasks workers are replaced; those that have run as many are now.

        Args:
            maxtasksperchild: as the pool's; None: without limit.

        Raises:
            ValueError: it isn't a positive integer or None, or the pool doesn't run.
        """
        check_max_tasks(maxtasksperchild)
        self._check_running()
        self._live().set_max_tasks(maxtasksperchild)

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
            RuntimeError: within a call on the pool, which would have to end first.
        """
        util.debug("joining pool")
        if self._state == RUN:
            raise ValueError("Pool is still running")
        if self._state not in {CLOSE, TERMINATE}:
            raise ValueError("In unknown state")
        self._live().join()


class ThreadPool(Pool, mp_pool.ThreadPool):  # type: ignore[misc] # as above
    """A `multiprocessing.pool.ThreadPool` with the same telemetry and control.

    Threads can't be killed: `terminate` drops what has not begun, and doesn't wait for what runs.

    Args:
        processes: number of threads; None: the CPUs that this process may really use.
        initializer: called as `initializer(*initargs)` when a worker starts.
        initargs: its arguments.
        name: as `Pool`'s.
        metrics: as `Pool`'s.
        finalizer: called in a thread that ends as planned; as `Pool`'s.
        balance: as `Pool`'s.
        describe: as `Pool`'s.
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
        finalizer: Callable[[], object] | None = None,
        balance: bool = True,
        describe: Callable[..., object] | None = None,
    ) -> None:
        super().__init__(
            processes,
            initializer,
            initargs,
            name=name,
            metrics=metrics,
            finalizer=finalizer,
            balance=balance,
            describe=describe,
        )

    def _make_engine(self, make_process: Callable[..., Any], segment: Any, name: str) -> Engine:
        from obspool.engines.threads import ThreadEngine  # noqa: PLC0415 - processes need none

        plan = Plan(segment, self._hooks, make_process, self._ctx)
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
