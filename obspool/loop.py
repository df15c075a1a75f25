"""The one thread in which a pool lives, and what it is made of.

    inbox ───────────┐                                   ┌──> engine ──> workers
                     ├──> round: settle, act, give ──────┼──> recorder ──> segment
    engine ─ events ─┘                                   └──> results, callbacks' thread

The thread refers to nothing that refers to the Pool: so a pool nobody refers to any more is
collected, and ends. Nothing here is user code.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
import weakref
from collections import deque
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from obspool import _fork
from obspool.callbacks import Callbacks
from obspool.calls import Calls
from obspool.counters import PoolBook, is_name
from obspool.decoding import Decoder
from obspool.engines.protocol import (
    CounterNamed,
    Engine,
    Event,
    Exited,
    HookFailed,
    Leaving,
    Ready,
    Results,
    Revoked,
    Started,
    StartFailed,
)
from obspool.errors import PoolBrokenError, PoolTerminatedError
from obspool.interrupts import Interrupts
from obspool.iterators import IMapIterator, WeakSink
from obspool.ledger import Ledger
from obspool.loans import Loans
from obspool.recycling import Recycling
from obspool.results import AsyncResult
from obspool.scheduler import Scheduler
from obspool.streams import Stream
from obspool.supervisor import Supervisor
from obspool.task_queue import Queue
from obspool.telemetry.layout import COUNTERS
from obspool.telemetry.recorder import Recorder
from obspool.waiting import Flag, forbidden, let_go
from obspool.words import EventKind, ExitReason, PoolOutcome, PoolState

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from obspool.announcement import Announcement
    from obspool.engines.protocol import WorkerId
    from obspool.handle import Handle
    from obspool.jobs import Job
    from obspool.telemetry.segment import Segment

_log = logging.getLogger("obspool")

_SECOND = 1_000_000_000
_HEARTBEAT = _SECOND // 2

# How old the counts in the segment may be (ns): each store of them costs 10 µs.
_RECORD_EVERY = _SECOND // 100

# After terminate: SIGTERM at once, SIGKILL after this, and no more waiting after that (seconds).
KILL_AFTER = 1.0
GIVE_UP_AFTER = 4.0


class Loop:
    """A pool's thread; what stands under "from any thread" doesn't run in it, all else does.

    Attributes:
        inbox: what callers want done.
        decoder: of results, for callers.
        synced: flags to set when the segment is up to date.
        at_end: what else belongs to the pool.
        close_asked: somebody has called close or terminate.
        terminate_asked: somebody has called terminate.
        opened: the first workers exist.
        ended: nothing runs any more.
        error: what kept the first workers from being started.
    """

    def __init__(
        self,
        engine: Engine,
        segment: Segment,
        *,
        processes: int,
        max_tasks: int | None,
        max_memory: int | Literal["auto"] | None,
        max_age: float | None,
        balance: bool,
        announcement: Announcement,
    ) -> None:
        self.engine = engine
        self.segment = segment
        self.announcement = announcement
        self._recorder = Recorder(segment)
        self._recorder.workers_configured = processes
        self._recorder.max_tasks_per_child = max_tasks or 0
        self.supervisor = Supervisor(engine, self._recorder, processes, max_tasks)
        self._ledger = Ledger(self._recorder)
        self.calls = Calls()
        self.decoder = Decoder(engine)
        self.loans = Loans(engine, self._recorder)
        self._recycling = Recycling(engine, self.supervisor, max_memory=max_memory, max_age=max_age)
        self._queue = Queue(engine, self._ledger)
        self._scheduler = Scheduler(
            engine,
            self._recorder,
            self.supervisor,
            self._ledger,
            self._queue,
            self.loans,
            self._recycling,
            Interrupts(engine, self.supervisor, balance=balance),
            balance=balance,
        )
        self.inbox: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._postponed: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._book = PoolBook(segment, self._refuse_counter)
        self.callbacks = Callbacks(
            f"obspool-callbacks-{segment.facts.name}", self._count_callback_error, self._book.enter
        )
        self.close_asked = self.terminate_asked = False
        self._closing = False
        self._terminated_at: int | None = None
        self._killed = False
        self._abandoned = False
        self._beat_at = time.monotonic_ns()
        self._recorded_at = 0
        self._unrecorded = True
        self.synced: list[Flag] = []
        self.at_end = ExitStack()
        self._iterators: list[weakref.ref[IMapIterator]] = []
        self._unopened: set[WorkerId] = set()  # first workers that are still to be made
        self.opened = Flag()
        self.ended = Flag()
        self.error: BaseException | None = None
        # In the creator's context, which forked workers inherit as the stdlib's first ones do.
        self.thread = threading.Thread(
            target=contextvars.copy_context().run,
            args=(self._run,),
            name=f"obspool-scheduler-{segment.facts.name}",
            daemon=True,
        )
        _fork.register(self)

    # -- from any thread

    def post(self, action: Callable[..., None], *arguments: Any) -> None:
        """Have the scheduler's thread call `action`."""
        _fork.settle()
        let_go()
        self.inbox.append((action, arguments))
        if self.ended.is_set():  # nobody reads it any more
            self._refuse_all()
        else:
            self.engine.wake()

    def job(self, number: int) -> Job | None:
        """Return the job with this id, None if it has ended, or is of calls that only share it."""
        job = self._ledger.jobs.get(number)
        return None if job is None or job.shared else job

    def _count_callback_error(self) -> None:
        # At once, from the callbacks' thread: the last callback may outlast the scheduler's.
        self._recorder.count_callback_error()

    def _refuse_counter(self, name: str) -> None:
        _log.warning(
            "pool %s: a pool has room for %d counters of its program: %r is not counted, nor is "
            "any further one",
            self.segment.facts.name,
            COUNTERS,
            name,
        )

    def _hook_failed(self, event: HookFailed, *, initial: bool) -> None:
        """Say why a hook failed, from the callbacks' thread: what it raised is user code."""
        try:
            error = self.engine.decode(event.error)
        except BaseException as failure:  # noqa: BLE001 - the next best reason
            error = failure
        if initial:
            self.post(self.supervisor.start_failed, event.worker, error)
        else:
            slot = event.worker.slot
            _log.error("the finalizer of the worker in slot %d raised %r", slot, error)

    # -- what callers want

    def submit(self, job: Job) -> None:
        """Take a job."""
        self._scheduler.submit(job)
        if self._closing:  # it was called before that, and comes after it
            self._queue.end_streams()
        if isinstance(job.sink, (IMapIterator, WeakSink)):
            self._iterators.append(job.sink.reference())
        if self.supervisor.broken is not None:
            self._fail(self.supervisor.broken)
        elif self._terminated_at is not None or self.supervisor.ending:
            self._fail(terminated_error())

    def cancel(
        self, job: Job, error: BaseException, running: bool, handle: Handle | None = None
    ) -> None:
        """Have what has not begun of a job never begin, or of the call that gave the handle."""
        now = time.monotonic_ns()
        if handle is not None:
            job = handle.attached() or job  # it may have got another one since
        if isinstance(job, Stream) and isinstance(handle, AsyncResult):
            if handle.is_out():  # who waits for it has the worker: it comes back in a moment
                self._postponed.append((self.cancel, (job, error, running, handle)))
                return
            self._scheduler.cancel_call(job, handle, error, now, running=running)
        else:
            self._scheduler.cancel(job, error, now, running=running)

    def note(self, text: str) -> None:
        """Record that a command came."""
        self._recorder.event(EventKind.COMMAND, text)

    def close(self, by: str) -> None:
        """Take no more work, and end when all is done."""
        if not self._closing:
            self._closing = True
            self._queue.end_streams()
            self._show_state()
            self._recorder.event(EventKind.POOL_CLOSING, f"close() by {by}")

    def pause(self, by: str) -> None:
        """Begin nothing more."""
        if not self._scheduler.paused:
            self._scheduler.pause()
            self._show_state()
            self.note(f"pause by {by}")

    def resume(self, by: str) -> None:
        """Go on."""
        if self._scheduler.paused:
            self._scheduler.resume()
            self._show_state()
            self.note(f"resume by {by}")

    def _show_state(self) -> None:
        """Show that the pool is paused before all else: nothing happens until that is over."""
        state = PoolState.CLOSING if self._closing else PoolState.RUNNING
        paused = self._scheduler.paused and self._terminated_at is None
        self._recorder.state = PoolState.PAUSED if paused else state

    def resize(self, workers: int, by: str) -> None:
        """Have so many workers."""
        before, self._recorder.workers_configured = self.supervisor.size, workers
        self.supervisor.wanted = workers
        self.note(f"resize from {before} to {workers} by {by}")
        for worker in self.supervisor.resize(workers):
            self._scheduler.retire(worker, ExitReason.RESIZE)
        self._recycling.share()

    def recycle(self, slot: int | None, by: str) -> None:
        """Have a worker replaced, or all."""
        self.note(f"recycle {'all workers' if slot is None else f'slot {slot}'} by {by}")
        slots = self.supervisor.slots
        # None where the slot is still to come: callers see the size that is wanted.
        which = slots[: self.supervisor.size] if slot is None else slots[slot : slot + 1]
        for one in which:
            if one.current is not None:
                self._recycling.want(one.current, ExitReason.COMMAND)

    def set_max_tasks(self, limit: int | None, by: str) -> None:
        """Replace workers after so many tasks."""
        self.note(f"set maxtasksperchild={limit or 'none'} by {by}")
        self._recorder.max_tasks_per_child = limit or 0
        for worker in self.supervisor.set_max_tasks(limit):
            self._recycling.want(worker, ExitReason.TASKS)

    def terminate(self, by: str) -> None:
        """End now."""
        if self._terminated_at is not None:
            return
        self._closing = True
        self._terminated_at = time.monotonic_ns()
        self._show_state()
        self._recorder.event(EventKind.POOL_CLOSING, f"terminate() by {by}")
        self._abandoned = self._ledger.busy() or bool(self.loans)
        self._fail(terminated_error())
        self.supervisor.kill_all(hard=False)

    # -- the rounds

    def _run(self) -> None:
        with forbidden():
            self._live()

    def _live(self) -> None:
        try:
            self._begin()
            while not self._round():
                pass
            self._end(PoolOutcome.ABANDONED if self._abandoned else PoolOutcome.FINISHED)
        except Exception as error:  # noqa: BLE001 - no waiter may be left behind
            name = self.segment.facts.name
            _log.exception("pool %s: the scheduler failed; the pool is broken", name)
            broken = PoolBrokenError(f"the scheduler of pool {name} failed: {error!r}")
            broken.__cause__ = error
            self.supervisor.broken = broken
            try:
                self._fail(broken)
                self.supervisor.kill_all(hard=True)
            finally:
                self._end(PoolOutcome.BROKEN)

    def _begin(self) -> None:
        self._book.open()
        self._recorder.event(EventKind.POOL_STARTED, f"{len(self.supervisor.slots)} workers")
        self.supervisor.open()
        self._unopened.update(self.supervisor.workers)
        self.engine.open()

    def _round(self) -> bool:
        """Wait, act, and tell; return whether the pool has ended."""
        events = self.engine.poll(self._timeout())
        now = time.monotonic_ns()
        # Before the inbox is emptied: nothing comes later.
        quiet = self.close_asked and not self.calls
        served = self._scheduler.settle(now)
        self._unrecorded = self._unrecorded or served or bool(events or self.inbox)
        for event in events:
            self._handle(event, now)
        if self._postponed:
            self.inbox.extend(self._postponed)
            self._postponed.clear()
        if self.inbox:
            self._scheduler.recall()
        while self.inbox:
            action, arguments = self.inbox.popleft()
            action(*arguments)
        if self._terminated_at is None:
            self._scheduler.dispatch(now)
        else:
            self._scheduler.rest(now)
            if self._ledger.jobs:  # a caller has left a call since
                self._fail(self.ending_error())
        if self.supervisor.broken and self._terminated_at is None:
            self._break(self.supervisor.broken)
        if self._closing and quiet and not self._ledger.jobs and not self.supervisor.ending:
            self._shut_down()
        self.announcement.make_if_due(now)
        if now - self._beat_at >= _HEARTBEAT or self._terminated_at is not None:
            self._beat(now)
        if now - self._recorded_at >= _RECORD_EVERY or self.synced:
            self._record(now)
        # Last in a round: from here on those who were woken compete for the GIL.
        self._tell()
        self._queue.release_feeders()
        return self.supervisor.ending and (not self.supervisor.workers or self._given_up(now))

    def _shut_down(self) -> None:
        """Have the workers end, unless a caller still has one of them."""
        if self._scheduler.recall() and not self._ledger.jobs:
            self.supervisor.shut_down()

    def _timeout(self) -> float:
        if self.inbox:
            return 0.0
        now = time.monotonic_ns()
        due = self._beat_at + _HEARTBEAT
        if self._unrecorded:
            due = min(due, self._recorded_at + _RECORD_EVERY)
        for at in (self._scheduler.look_at, self.announcement.due):
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
                _log.error("pool %s: %s; the worker is replaced", self.segment.facts.name, error)
                self.supervisor.distrust(event.worker)
        elif isinstance(event, Ready):
            self.supervisor.ready(event.worker)
        elif isinstance(event, Leaving):
            self._scheduler.recall([event.worker])
        elif isinstance(event, Exited):
            self._scheduler.exited(event)
            self._see_opened(event.worker)
        elif isinstance(event, Revoked):
            self._scheduler.revoked(event)
        elif isinstance(event, CounterNamed):
            if is_name(event.name):
                self._book.name(event.name)
        elif isinstance(event, Started):
            self.supervisor.started(event)
            self._see_opened(event.worker)
        elif isinstance(event, HookFailed):
            initial = self.supervisor.hook_failed(event.worker)
            self.callbacks.call(lambda: self._hook_failed(event, initial=initial))
        elif isinstance(event, StartFailed):
            self.supervisor.start_failed(event.worker, event.error)
            self.supervisor.gone(event.worker)
            if event.worker in self._unopened:
                self.error = self.error or event.error
                self.terminate("the pool itself")
            self._see_opened(event.worker)

    def _see_opened(self, worker: WorkerId) -> None:
        self._unopened.discard(worker)
        if not self._unopened:
            self.opened.set()

    def _break(self, error: PoolBrokenError) -> None:
        self._terminated_at = time.monotonic_ns()
        self._recorder.event(EventKind.TROUBLE, f"broken: {error}")
        self._fail(error)
        self.supervisor.kill_all(hard=True)

    def _fail(self, error: BaseException) -> None:
        self._scheduler.recall()
        self._ledger.fail_all(self.supervisor.workers.values(), error)
        self._queue.clear()
        self._tell()

    def _beat(self, now: int) -> None:
        """Show that this thread lives; kill what doesn't end, and what doesn't begin."""
        if now - self._beat_at >= _HEARTBEAT:
            if self.terminate_asked:  # whoever asked may have been interrupted behind that
                self.terminate("the program")
            elif self.close_asked:
                self.close("the program")
            self._beat_at = now
            self.segment.hold()
            self.supervisor.retry()
            self._queue.see_late()
            self._recycling.look(now)
            for job in self._queue.unfed(self.calls):
                error = RuntimeError("the call that this job is from was interrupted")
                self._scheduler.cancel(job, error, now, running=False)
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
            job.finish(self.callbacks)

    def _record(self, now: int) -> None:
        """Bring the segment up to date."""
        self._recorded_at, self._unrecorded = now, False
        recorder = self._recorder
        recorder.telemetry_errors = self.engine.troubles
        recorder.scheduler_busy = time.thread_time_ns()
        recorder.load = self.decoder.total()
        self._scheduler.measure(now)
        self._book.settle()
        if self._iterators:
            there = [ref() for ref in self._iterators]
            live = [iterator for iterator in there if iterator and not iterator.exhausted()]
            if len(live) < len(there):
                self._iterators = [weakref.ref(iterator) for iterator in live]
            recorder.tasks_result = sum(iterator.waiting() for iterator in live)
        recorder.flush(now)
        synced, self.synced = self.synced, []
        for event in synced:
            event.set()

    def _end(self, outcome: PoolOutcome) -> None:
        """Let go of everything."""
        if self.supervisor.broken:
            outcome = PoolOutcome.BROKEN
        try:
            self._fail(terminated_error())
            self._recorder.event(EventKind.POOL_ENDED, outcome.value)
            self._record(time.monotonic_ns())
            self.announcement.make(ended=True)
            self._recorder.end(outcome)
            self.decoder.close(self._recorder.store_load)
            self.at_end.close()
            self.engine.close()
            self.segment.close(outcome)
            _fork.unregister(self)
        finally:  # whatever failed, nobody waits for ever
            self._book.close()
            self.ended.set()
            self.loans.refusal = self.ending_error
            self.announcement.give_up()
            self._refuse_all()
            self._fail(self.ending_error())  # what callers have left meanwhile
            self.callbacks.close()
            self.opened.set()

    def ending_error(self) -> BaseException:
        """Return the error of what comes too late, from any thread."""
        return self.supervisor.broken or terminated_error()

    def _refuse_all(self) -> None:
        """Give every job that came too late its error; callers and `_end` may do so at once."""
        while True:
            try:
                action, arguments = self.inbox.popleft()
            except IndexError:
                return
            if action == self.submit:
                job: Job = arguments[0]
                job.refuse(self.ending_error())

    def after_fork_in_child(self) -> None:
        """Nothing runs here: whoever waits, waits for nothing."""
        self.ended.set()
        self.opened.set()
        self.announcement.give_up()


def terminated_error() -> PoolTerminatedError:
    """Return the error of what the pool will not run any more."""
    return PoolTerminatedError("the pool was terminated before this result was there")
