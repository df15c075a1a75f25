"""What a pool is made of behind its public face, and the one thread in which it all runs.

    Pool ── calls ──> inbox ──┐                        ┌──> engine ──> workers
                              ├─> the scheduler's thread ──> recorder ──> segment
    engine ── events ─────────┘                        └──> results, callbacks' thread

The thread refers to the core, never to the Pool: so a pool nobody refers to any more is collected,
and ends. Whoever calls only appends to the inbox and wakes: that may be a signal handler or a
`__del__`.
"""

from __future__ import annotations

import contextvars
import logging
import os
import threading
import time
import weakref
from collections import deque
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from obspool import _fork
from obspool.callbacks import Callbacks
from obspool.calls import Calls
from obspool.control.protocol import Command
from obspool.engines.protocol import (
    Engine,
    Event,
    Exited,
    InitializerFailed,
    Ready,
    Results,
    Revoked,
    Started,
    StartFailed,
)
from obspool.errors import (
    ControlError,
    ForkedPoolError,
    PoolBrokenError,
    PoolTerminatedError,
)
from obspool.feeder import Feeder, Unsendable
from obspool.iterators import IMapIterator, WeakSink
from obspool.jobs import PARENT_ERROR
from obspool.ledger import Ledger
from obspool.offers import Claim, Offers
from obspool.recycling import Recycling
from obspool.results import AsyncResult
from obspool.scheduler import Scheduler
from obspool.supervisor import Supervisor
from obspool.telemetry.reader import read
from obspool.telemetry.recorder import Recorder
from obspool.waiting import Flag
from obspool.words import EventKind, ExitReason, Outcome, PoolOutcome, PoolState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from obspool.announcement import Announcement
    from obspool.control.peer import Peer
    from obspool.engines.protocol import WorkerId
    from obspool.jobs import Job
    from obspool.telemetry.segment import Segment
    from obspool.telemetry.snapshot import Snapshot

_log = logging.getLogger("obspool")

_SECOND = 1_000_000_000
_HEARTBEAT = _SECOND // 2

# How old the counts in the segment may be (ns): each store of them costs 10 µs.
_RECORD_EVERY = _SECOND // 100

# After terminate: SIGTERM at once, SIGKILL after this, and no more waiting after that (seconds).
KILL_AFTER = 1.0
GIVE_UP_AFTER = 4.0

# A larger item isn't sent by a caller's thread: a channel need not take it at once.
DIRECT_BYTES = 4096

# How long `stats` waits for the latest counts (seconds); after that it takes those that are there.
STATS_PATIENCE = 0.5


class Core:
    """A pool's engine room; everything but `post` and what only reads runs in its own thread."""

    def __init__(
        self,
        engine: Engine,
        segment: Segment,
        *,
        processes: int,
        max_tasks: int | None,
        max_memory: int | None,
        max_age: float | None,
        balance: bool,
        announcement: Announcement,
    ) -> None:
        self.engine = engine
        self.segment = segment
        self._announcement = announcement
        self.pid = os.getpid()
        self._recorder = Recorder(segment)
        self._recorder.workers_configured = processes
        self._recorder.max_tasks_per_child = max_tasks or 0
        self.supervisor = Supervisor(engine, self._recorder, processes, max_tasks)
        self._ledger = Ledger(self._recorder)
        self.calls = Calls()
        self._offers = Offers(engine, self.calls)
        self._recycling = Recycling(engine, self.supervisor, max_memory=max_memory, max_age=max_age)
        self._scheduler = Scheduler(
            engine,
            self._recorder,
            self.supervisor,
            self._ledger,
            self._offers,
            self._recycling,
            balance=balance,
        )
        self._inbox: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self.callbacks = Callbacks(
            f"obspool-callbacks-{segment.facts.name}", self._count_callback_error
        )
        self.closing = self.terminating = False  # for callers: what was asked for
        self._closing = False
        self._terminated_at: int | None = None
        self._killed = False
        self._abandoned = False
        self._beat_at = time.monotonic_ns()
        self._recorded_at = 0
        self._unrecorded = True
        self._synced: list[Flag] = []
        self.at_end = ExitStack()  # what else belongs to the pool
        self.metrics_url: str | None = None
        self._iterators: list[weakref.ref[IMapIterator]] = []
        self._unopened: set[WorkerId] = set()  # first workers that are still to be made
        self.opened = Flag()
        self.ended = Flag()
        self.error: BaseException | None = None
        # In the creator's context, which forked workers inherit as the stdlib's first ones do.
        self._thread = threading.Thread(
            target=contextvars.copy_context().run,
            args=(self._run,),
            name=f"obspool-scheduler-{segment.facts.name}",
            daemon=True,
        )
        _fork.register(self)

    def open(self) -> None:
        """Start everything; return when the workers exist.

        Raises:
            Exception: what kept the first workers from being started at all.
        """
        self._thread.start()
        self.opened.wait()
        if self.error is not None:
            self.ended.wait()
            raise self.error

    # -- from any thread

    @property
    def name(self) -> str:
        """The pool's name; whoever asks waits until it is final."""
        _fork.settle()
        if not self._announcement.is_made() and threading.current_thread() is not self._thread:
            self.post(self._announcement.make)
            self._announcement.wait()
        return self.segment.facts.name

    def post(self, action: Callable[..., None], *arguments: Any) -> None:
        """Have the scheduler's thread call `action`."""
        _fork.settle()
        self._inbox.append((action, arguments))
        if self.ended.is_set():  # nobody reads it any more
            self._refuse_all()
        else:
            self.engine.wake()

    def run(self, job: Job, items: Iterable[Any], *, call: int, copy: bool, here: bool) -> None:
        """Have a job run, and feed it: in this thread, or in one of its own.

        Args:
            job: new.
            items: of the caller; its code runs only where it is fed.
            call: number of the call that it is from.
            copy: whether the caller may change large objects before they are sent.
            here: feed it before this returns.
        """
        feeder = Feeder(job, items, self.engine)
        job.caller = call
        self.post(self._submit, job)
        try:
            if here:
                feeder.run(copy=copy)
            else:
                name = f"obspool-feeder-{self.segment.facts.name}"
                job.feeder = threading.Thread(target=feeder.run_in_thread, name=name, daemon=True)
                job.feeder.start()
        except BaseException as error:  # interrupted, or no thread is to be had
            self.post(self._ledger.abandon, job, error, Outcome.CANCELLED)
            raise

    def run_one(self, job: Job, item: Any, *, call: int, wait: bool) -> None:
        """Have a job of one item run.

        Args:
            job: new.
            item: its only one.
            call: number of the call that it is from.
            wait: the caller waits for it, and changes nothing meanwhile.
        """
        try:
            payload = self.engine.encode(item, copy=not wait)
        except Exception as error:  # noqa: BLE001 - the outcome of the call, as in the stdlib
            self.fail(job, error)
            return
        job.feed_one(payload)
        if (
            not wait
            or self._inbox  # maybe of this caller: what came first goes first
            or self.engine.size(payload) > DIRECT_BYTES
            or not self._offers.take(Claim(job, payload, call))
        ):
            self.post(self._submit, job)

    def fail(self, job: Job, error: BaseException) -> None:
        """Have a job end with an error: it can't be sent at all."""
        job.feed_one(Unsendable(error))
        job.flawed = True
        self.post(self._submit, job)

    def check(self) -> None:
        """See that the pool can take work.

        Raises:
            ForkedPoolError: this is a forked child of the pool's process.
            PoolBrokenError: it can't run anything any more.
        """
        _fork.settle()
        if self.pid != os.getpid():
            raise ForkedPoolError(
                f"this pool belongs to process {self.pid}; a forked child (this is {os.getpid()}) "
                "can't use it: make a pool of its own there"
            )
        if self.supervisor.broken is not None:
            broken = self.supervisor.broken
            raise PoolBrokenError(*broken.args) from broken.__cause__

    def close(self, by: str = "the program") -> None:
        """Take no more work; end when all is done."""
        self.closing = True
        self.post(self._close, by)

    def terminate(self, by: str = "the program") -> None:
        """End now."""
        self.closing = self.terminating = True
        self.post(self._terminate, by)

    def recycle(self, slot: int | None, by: str = "the program") -> None:
        """Have a slot's worker replaced, or all."""
        self.post(self._recycle, slot, by)

    def command(self, command: Command, by: Peer) -> None:
        """Do what came over the control socket.

        Raises:
            ControlError: the pool has ended.
        """
        if self.ended.is_set():
            raise ControlError(f"pool {self.name} has ended")
        who = f"uid {by.uid}, pid {by.pid}"
        self.post(self._recorder.event, EventKind.COMMAND, f"{command} by {who}")
        if command is Command.CLOSE:
            self.close(who)
        else:
            self.terminate(who)

    def stats(self) -> Snapshot:
        """Read the segment, once it is up to date.

        Raises:
            ForkedPoolError: this is a forked child of the pool's process.
        """
        if self.pid != os.getpid():
            raise ForkedPoolError(f"this pool belongs to process {self.pid}")
        if not self.ended.is_set() and threading.current_thread() is not self._thread:
            synced = Flag()
            self.post(self._announcement.make)
            self.post(self._synced.append, synced)
            synced.wait(STATS_PATIENCE)
        return read(self.segment)

    def join(self) -> None:
        """Wait for the end of the workers and of the callbacks."""
        _fork.settle()
        self.ended.wait()
        self.callbacks.join()

    def _count_callback_error(self) -> None:
        # At once, from the callbacks' thread: the last callback may outlast the scheduler's.
        self._recorder.count_callback_error()

    # -- the scheduler's thread

    def _run(self) -> None:
        try:
            self._begin()
            while not self._round():
                pass
            self._end(PoolOutcome.ABANDONED if self._abandoned else PoolOutcome.FINISHED)
        except Exception as error:  # noqa: BLE001 - no waiter may be left behind
            _log.exception("pool %s: the scheduler failed; the pool is broken", self.name)
            broken = PoolBrokenError(f"the scheduler of pool {self.name} failed: {error!r}")
            broken.__cause__ = error
            self.supervisor.broken = broken
            try:
                self._fail(broken, Outcome.CANCELLED)
                self.supervisor.kill_all(hard=True)
            finally:
                self._end(PoolOutcome.BROKEN)

    def _begin(self) -> None:
        self._recorder.event(EventKind.POOL_STARTED, f"{len(self.supervisor.slots)} workers")
        self.supervisor.open()
        self._unopened.update(self.supervisor.workers)
        self.engine.open()

    def _round(self) -> bool:
        """Wait, act, and tell; return whether the pool has ended."""
        events = self.engine.poll(self._timeout())
        now = time.monotonic_ns()
        quiet = self.closing and not self.calls  # before the inbox is emptied: nothing comes later
        self._scheduler.settle()  # before the answers to it
        self._unrecorded = self._unrecorded or bool(events or self._inbox)
        for event in events:
            self._handle(event, now)
        if self._inbox:
            self._scheduler.withdraw()
        while self._inbox:
            action, arguments = self._inbox.popleft()
            action(*arguments)
        if self._terminated_at is None:
            self._scheduler.dispatch(now)
        if self.supervisor.broken and self._terminated_at is None:
            self._break(self.supervisor.broken)
        if self._closing and quiet and not self._ledger.jobs and not self.supervisor.ending:
            self.supervisor.shut_down()
        self._announcement.make_if_due(now)
        if now - self._beat_at >= _HEARTBEAT or self._terminated_at is not None:
            self._beat(now)
        if now - self._recorded_at >= _RECORD_EVERY or self._synced:
            self._record(now)
        # Last in a round: from here on those who were woken compete for the GIL.
        self._tell()
        self._scheduler.release_feeders()
        return self.supervisor.ending and (not self.supervisor.workers or self._given_up(now))

    def _timeout(self) -> float:
        if self._inbox:
            return 0.0
        now = time.monotonic_ns()
        due = self._beat_at + _HEARTBEAT
        if self._unrecorded:
            due = min(due, self._recorded_at + _RECORD_EVERY)
        for at in (self._scheduler.look_at, self._announcement.due):
            if at is not None:
                due = min(due, at)
        if self._terminated_at is not None:
            due = min(due, now + _SECOND // 20)
        return max(0, due - now) / _SECOND

    def _handle(self, event: Event, now: int) -> None:
        if isinstance(event, Results):
            try:
                self._scheduler.results(event, now)
            except LookupError as error:  # this worker can't be believed any more
                _log.error("pool %s: %s; the worker is replaced", self.name, error)
                self.supervisor.distrust(event.worker)
        elif isinstance(event, Ready):
            self.supervisor.ready(event.worker)
        elif isinstance(event, Exited):
            self._scheduler.exited(event)
            self._see_opened(event.worker)
        elif isinstance(event, Revoked):
            self._scheduler.revoked(event)
        elif isinstance(event, Started):
            self.supervisor.started(event)
            self._see_opened(event.worker)
        elif isinstance(event, InitializerFailed):
            self.supervisor.initializer_failed(event.worker)
            self.callbacks.call(lambda: self._decode_failure(event))  # unpickling is user code
        elif isinstance(event, StartFailed):
            self.supervisor.start_failed(event.worker, event.error)
            self.supervisor.gone(event.worker)
            if event.worker in self._unopened:
                self.error = self.error or event.error
                self._terminate("the pool itself")
            self._see_opened(event.worker)

    def _decode_failure(self, event: InitializerFailed) -> None:
        """Tell the supervisor why an initializer failed, from the callbacks' thread."""
        try:
            error = self.engine.decode(event.error)
        except Exception as failure:  # noqa: BLE001 - the next best reason
            error = failure
        self.post(self.supervisor.start_failed, event.worker, error)

    def _see_opened(self, worker: WorkerId) -> None:
        self._unopened.discard(worker)
        if not self._unopened:
            self.opened.set()

    def _submit(self, job: Job) -> None:
        self._scheduler.submit(job)
        if isinstance(job.sink, (IMapIterator, WeakSink)):
            self._iterators.append(job.sink.reference())
        if self.supervisor.broken is not None:
            self._fail(self.supervisor.broken, Outcome.CANCELLED)
        elif self._terminated_at is not None or self.supervisor.ending:
            self._fail(self._terminated_error(), Outcome.CANCELLED)

    def _close(self, by: str) -> None:
        if not self._closing:
            self._closing = True
            self._recorder.state = PoolState.CLOSING
            self._recorder.event(EventKind.POOL_CLOSING, f"close() by {by}")

    def _recycle(self, slot: int | None, by: str) -> None:
        which = "all workers" if slot is None else f"slot {slot}"
        self._recorder.event(EventKind.COMMAND, f"recycle {which} by {by}")
        for one in self.supervisor.slots if slot is None else [self.supervisor.slots[slot]]:
            if one.current is not None:
                self._recycling.want(one.current, ExitReason.COMMAND)

    def _terminate(self, by: str) -> None:
        if self._terminated_at is not None:
            return
        self._closing = True
        self._terminated_at = time.monotonic_ns()
        self._recorder.state = PoolState.CLOSING
        self._recorder.event(EventKind.POOL_CLOSING, f"terminate() by {by}")
        self._abandoned = bool(self._ledger.jobs)
        self._fail(self._terminated_error(), Outcome.CANCELLED)
        self.supervisor.kill_all(hard=False)

    @staticmethod
    def _terminated_error() -> PoolTerminatedError:
        return PoolTerminatedError("the pool was terminated before this result was there")

    def _break(self, error: PoolBrokenError) -> None:
        self._terminated_at = time.monotonic_ns()
        self._recorder.event(EventKind.TROUBLE, f"broken: {error}")
        self._fail(error, Outcome.CANCELLED)
        self.supervisor.kill_all(hard=True)

    def _fail(self, error: BaseException, outcome: Outcome) -> None:
        self._scheduler.give_up()
        self._ledger.fail_all(self.supervisor.workers.values(), error, outcome)
        self._scheduler.clear()
        self._tell()

    def _beat(self, now: int) -> None:
        """Show that this thread lives; kill what doesn't end, and what doesn't begin."""
        if now - self._beat_at >= _HEARTBEAT:
            self._beat_at = now
            self.segment.hold()
            self.supervisor.retry()
            self._recycling.look(now)
            for job in self._scheduler.unfed(self.calls):
                error = RuntimeError("the call that this job is from was interrupted")
                self._ledger.abandon(job, error, Outcome.CANCELLED)
            self._unrecorded = True
        since = self._terminated_at
        if since is not None and not self._killed and now - since > KILL_AFTER * _SECOND:
            self._killed = True
            self.supervisor.kill_all(hard=True)
        for worker in self.supervisor.overdue(now):
            self.engine.kill(worker.id, hard=True)

    def _given_up(self, now: int) -> bool:
        if self._terminated_at is None:
            return False
        patience = GIVE_UP_AFTER if self.engine.killable else 0.0
        return now - self._terminated_at > patience * _SECOND

    def _tell(self) -> None:
        """Hand over what has ended."""
        finished, self._ledger.finished = self._ledger.finished, []
        for job in finished:
            if isinstance(job.sink, AsyncResult) and job.sink.has_callback():
                self.callbacks.add(job.sink)
            else:
                job.sink.tell()

    def _record(self, now: int) -> None:
        """Bring the segment up to date."""
        self._recorded_at, self._unrecorded = now, False
        recorder = self._recorder
        recorder.telemetry_errors = self.engine.troubles
        self._scheduler.measure()
        if self._iterators:
            there = [ref() for ref in self._iterators]
            live = [iterator for iterator in there if iterator and not iterator.exhausted()]
            if len(live) < len(there):
                self._iterators = [weakref.ref(iterator) for iterator in live]
            recorder.tasks_result = sum(iterator.waiting() for iterator in live)
        recorder.flush(now)
        synced, self._synced = self._synced, []
        for event in synced:
            event.set()

    def _end(self, outcome: PoolOutcome) -> None:
        """Let go of everything."""
        if self.supervisor.broken:
            outcome = PoolOutcome.BROKEN
        try:
            self._fail(self._terminated_error(), Outcome.CANCELLED)
            self._recorder.event(EventKind.POOL_ENDED, outcome.value)
            self._record(time.monotonic_ns())
            self._announcement.make(ended=True)
            self._recorder.end(outcome)
            self.at_end.close()
            self.engine.close()
            self.segment.close(outcome)
            _fork.unregister(self)
        finally:  # whatever failed, nobody waits for ever
            self.ended.set()
            self._announcement.give_up()
            self._refuse_all()
            self.callbacks.close()
            self.opened.set()

    def _refuse_all(self) -> None:
        """Give every job that came too late its error; callers and `_end` may do so at once."""
        while True:
            try:
                action, arguments = self._inbox.popleft()
            except IndexError:
                return
            if action == self._submit:
                job: Job = arguments[0]
                job.cancelled = True
                job.sink.receive(0, 1, PARENT_ERROR, [self._terminated_error()])
                job.sink.tell()

    def after_fork_in_child(self) -> None:
        """Nothing runs here: whoever waits, waits for nothing."""
        self.ended.set()
        self.opened.set()
        self._announcement.give_up()
