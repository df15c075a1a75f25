"""The engine of threads of this process: payloads are the objects, nothing is pickled."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from obspool.counters import book_of
from obspool.engines.protocol import (
    Event,
    Exited,
    HookFailed,
    Line,
    Plan,
    Ready,
    Results,
    Revoked,
    Started,
    StartFailed,
    WorkerId,
)
from obspool.engines.stacks import tidy
from obspool.errors import StackUnavailableError
from obspool.frames import frames_of_all
from obspool.functions import Function, name_of
from obspool.telemetry.bank import Bank, Claims
from obspool.worker import stacks
from obspool.worker.outbox import Outbox
from obspool.worker.runner import Runner

if TYPE_CHECKING:
    from collections.abc import Callable

    from obspool.messages import Batch, Part


class _Identity:
    """The codec within one process: every object is its own payload."""

    deferrable: frozenset[type] = frozenset()
    pickles = False

    @staticmethod
    def dump(value: Any) -> Any:
        """Return the value."""
        return value

    load = dump_error = dump


@dataclass(eq=False, slots=True)
class _Worker:
    """One thread: batches come through its queue, None ends it; `killed`: not as planned."""

    claims: Claims
    batches: queue.SimpleQueue[Batch | None]
    thread: threading.Thread | None = None
    killed: bool = False


class ThreadHandle:
    """What `ThreadPool._pool` shows of a worker: enough of a `DummyProcess`."""

    def __init__(self, thread: threading.Thread) -> None:
        """Take the thread."""
        self._thread = thread
        self.name = thread.name
        self.daemon = True

    @property
    def pid(self) -> int | None:
        """The thread's native id."""
        return self._thread.native_id

    @property
    def exitcode(self) -> int | None:
        """0 when the thread has ended."""
        return None if self._thread.is_alive() else 0

    def is_alive(self) -> bool:
        """Tell whether the thread runs."""
        return self._thread.is_alive()


class ThreadEngine:
    """Workers that are threads; they can be stopped, not killed."""

    name = "threads"
    killable = False
    pickles = False
    troubles = 0
    start_method = ""

    def __init__(self, plan: Plan, name: str) -> None:
        """Make nothing yet; `name` is for the threads' names."""
        self._plan = plan
        self._name = name
        self._numbers = itertools.count(1)
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._workers: dict[WorkerId, _Worker] = {}

    def start(self, worker: WorkerId) -> None:
        """Start a thread."""
        lock = threading.Lock()
        segment = self._plan.segment
        claims = Claims(segment.cells, segment.layout, *worker, lock)
        claims.reset()
        made = _Worker(claims, queue.SimpleQueue())
        made.thread = thread = threading.Thread(
            target=self._run,
            args=(worker, made),
            name=f"obspool-{self._name}-{worker.slot}",
            daemon=True,
        )
        self._workers[worker] = made
        try:
            thread.start()
        except RuntimeError as error:  # no more threads
            del self._workers[worker]
            self._events.put(StartFailed(worker, error))
            return

    def _run(self, worker: WorkerId, made: _Worker) -> None:
        thread = threading.current_thread()
        self._events.put(Started(worker, thread.native_id or 0, ThreadHandle(thread)))
        segment = self._plan.segment
        book = book_of(segment)
        if book is not None:
            book.enter()
        bank = Bank(segment.cells, segment.layout, *worker, cpu_clock=time.thread_time_ns)
        bank.open()
        code = 1
        try:
            code = self._live(worker, made, bank)
        except SystemExit:  # an item's: it ends the worker, as it does in a process
            pass
        finally:
            bank.end()
            self._events.put(Exited(worker, code, made.claims.begun(), made.claims.began()))

    def _live(self, worker: WorkerId, made: _Worker, bank: Bank) -> int:
        """Do what a worker does; return its exit code."""
        codec, hooks = _Identity(), self._plan.hooks

        def send(parts: list[Part], busy: int, ended: int) -> None:
            self._events.put(Results(worker, parts, busy, ended, 0))

        if hooks.initializer is not None:
            try:
                hooks.initializer(*hooks.initargs)
            except BaseException as error:  # noqa: BLE001 - told to the scheduler
                self._events.put(HookFailed(worker, error))
                return 1
        self._events.put(Ready(worker))
        runner = Runner(bank, made.claims, Outbox(send, codec), codec)
        runner.open(hooks.describe)
        while (batch := made.batches.get()) is not None:
            runner.run(batch)
            del batch  # a waiting worker keeps no arguments alive
        if hooks.finalizer is not None and not made.killed:
            try:
                hooks.finalizer()
            except BaseException as error:  # noqa: BLE001 - told to the scheduler
                self._events.put(HookFailed(worker, error))
        return 0

    def open(self) -> None:
        """Do nothing: `start` has done it."""

    def send(self, worker: WorkerId, batch: Batch) -> None:
        """Hand the batch over."""
        if worker in self._workers:
            self._workers[worker].batches.put(batch)

    def lend(self, worker: WorkerId) -> Line | None:  # noqa: ARG002
        """Return None: here no function is one that a worker has already."""
        return None

    def reclaim(self, worker: WorkerId, read: list[bytes]) -> None:
        """Do nothing: none is lent."""

    def interrupt(self, worker: WorkerId, first: int, until: int) -> None:
        """Do nothing: a thread can't be interrupted."""

    def stop(self, worker: WorkerId) -> None:
        """Queue the word to stop behind the worker's batches."""
        if worker in self._workers:
            self._workers[worker].batches.put(None)

    def revoke(self, worker: WorkerId, first: int, until: int, *, exact: bool) -> None:
        """Take items back in memory: the answer is known at once."""
        start = self._workers[worker].claims.revoke(first, until, exact=exact)
        if start is not None and start < until:
            self._events.put(Revoked(worker, start, until))

    def kill(self, worker: WorkerId, *, hard: bool) -> None:
        """Take back what hasn't begun and stop afterwards: a thread can't be ended from outside."""
        made = self._workers.get(worker)
        if made is not None and not hard:
            made.killed = True
            made.claims.revoke_all()
            made.batches.put(None)

    def begun(self, worker: WorkerId) -> int:
        """Look at the claims in memory."""
        known = self._workers.get(worker)
        return 0 if known is None else known.claims.begun()

    def memory(self, worker: WorkerId) -> int:  # noqa: ARG002
        """Return 0: threads share their process's."""
        return 0

    def stack(self, worker: WorkerId) -> str:
        """Look at the thread's frames."""
        known = self._workers.get(worker)
        thread = None if known is None else known.thread
        frames = frames_of_all(stacks.MOST_FRAMES + 1)
        if thread is None or thread.ident not in frames:
            raise StackUnavailableError(
                f"no stack of the thread in slot {worker.slot}: it has not begun, or has ended"
            )
        return tidy(
            f"Thread {thread.name} (most recent call first):\n"
            f"{''.join(stacks.lines(frames[thread.ident]))}"
        )

    def poll(self, timeout: float | None) -> list[Event]:
        """Wait for the first event; take those that are there already with it."""
        events: list[Event] = []
        try:
            event = self._events.get(timeout=timeout)
            while True:
                if event is not None:
                    events.append(event)
                    if isinstance(event, Exited):
                        self._workers.pop(event.worker, None)
                event = self._events.get_nowait()
        except queue.Empty:
            return events

    def wake(self) -> None:
        """Have `poll` return."""
        self._events.put(None)

    def close(self) -> None:
        """Forget the threads; those that still run an item end after it."""
        self._workers.clear()

    def encode_function(self, function: Callable[..., Any]) -> Function:
        """Return the function as it is."""
        return Function(next(self._numbers), function, kept=False, name=name_of(function))

    def encode(self, value: Any, *, copy: bool = True) -> Any:  # noqa: ARG002 - nothing is copied
        """Return the value as it is."""
        return value

    def decode(self, payload: Any) -> Any:
        """Return the value as it is."""
        return payload

    def size(self, payload: Any) -> int:  # noqa: ARG002 - nothing travels
        """Return 0: nothing travels."""
        return 0
