"""The life of workers: each slot's generations, from start to exit, and why each one ended.

    start ──> starting ──Ready──> idle ⇄ busy ──limit──> draining ──> gone
                  │                                          │
                  └─ failed too often in a row: broken       └─ its successor starts meanwhile

All of this runs in the scheduler's thread.
"""

from __future__ import annotations

import logging
import random
import signal
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from obspool.engines.protocol import WorkerId
from obspool.errors import PoolBrokenError
from obspool.words import EventKind, ExitReason, WorkerState

if TYPE_CHECKING:
    from collections.abc import Callable

    from obspool.engines.protocol import Engine, Exited, Started
    from obspool.jobs import Sent
    from obspool.telemetry.recorder import Recorder

_log = logging.getLogger("obspool")

# So many workers in a row that could not be started or did not become ready, with none alive: the
# pool is broken. With less a passing trouble would do it; with more an initializer that always
# fails costs more for nothing.
START_FAILURES = 3

# Tasks for a worker: as good as without end.
NO_LIMIT = 1 << 60

# Seconds until a worker that isn't ready is taken for stuck (it may have inherited a held lock), or
# one that has nothing left to do and doesn't end. An initializer may load a model for minutes, and
# a finalizer may save one, so this is generous.
HOOK_TIMEOUT = 600.0


class Worker:
    """One generation of a slot, as the parent sees it.

    Attributes:
        state: starting, idle (ready, also while it works), draining or gone.
        outstanding: what was sent to it and has no complete outcome yet, in order.
        tasks: how many tasks that is.
        next_seq: sequence number of the next item that is sent to it.
        tasks_left: how many more tasks it may be given.
        tasks_done: how many have ended in it.
        known: numbers of the functions that it has.
        reason: why it will end, or has; None while nobody wants that.
        condemned: killed because its item had to end.
        forget: numbers of functions that it doesn't need any more.
        busy: time in tasks that aren't complete yet, ns.
        stopped_at: when it was told to end after that, ns.
        progress_at: when it was last given work or gave results, ns.
        asked_at: when it was last asked to give work back, ns.
        unanswered: it has given back nothing since, and shown no other progress.
        begun: number below which its items had begun when that was last looked at; only where
            items are timed.
        begun_at: when that was first seen, ns.
        measured_at: when its memory was last looked at, ns.
        spread: by how much its limits of memory and age are larger: so not all end at a time.
    """

    __slots__ = (
        "asked_at",
        "begun",
        "begun_at",
        "busy",
        "condemned",
        "distrusted",
        "forget",
        "handle",
        "id",
        "known",
        "measured_at",
        "next_seq",
        "outstanding",
        "pid",
        "progress_at",
        "ready_at",
        "reason",
        "spread",
        "started_at",
        "state",
        "stopped_at",
        "tasks",
        "tasks_done",
        "tasks_left",
        "unanswered",
    )

    def __init__(self, worker_id: WorkerId, tasks_left: int) -> None:
        self.id = worker_id
        self.state = WorkerState.STARTING
        self.outstanding: deque[Sent] = deque()
        self.tasks = self.tasks_done = 0
        self.next_seq = 0
        self.tasks_left = tasks_left
        self.known: set[int] = set()
        self.forget: list[int] = []
        self.reason: ExitReason | None = None
        self.handle: Any = None
        self.pid = 0
        self.busy = 0
        self.condemned = self.distrusted = self.unanswered = False
        self.started_at = time.monotonic_ns()
        self.ready_at = 0
        self.progress_at = self.stopped_at = 0
        self.asked_at = self.measured_at = 0
        self.begun = self.begun_at = 0
        self.spread = random.uniform(0.9, 1.1)  # noqa: S311 - nothing to guess


class Slot:
    """A worker's stable place."""

    __slots__ = ("current", "failures", "generation", "index", "leaving", "successor")

    def __init__(self, index: int) -> None:
        self.index = index
        self.generation = 0
        self.failures = 0  # in a row
        self.current: Worker | None = None
        self.successor: Worker | None = None
        # Has run its last task, and is on its way out.
        self.leaving: Worker | None = None


class Supervisor:
    """Keeps every slot occupied, by a worker that may still take work.

    Attributes:
        size: how many slots are to be; those from there on only end what they run.
        wanted: the same, as soon as somebody has asked for another size.
        slots: all that ever were.
        max_tasks: after how many tasks a worker is replaced, None: never.
        workers: those that exist, or are on their way.
    """

    def __init__(
        self, engine: Engine, recorder: Recorder, slots: int, max_tasks: int | None
    ) -> None:
        self._engine = engine
        self._recorder = recorder
        self.max_tasks = max_tasks
        self.size = self.wanted = slots
        self.slots = [Slot(index) for index in range(slots)]
        self.workers: dict[WorkerId, Worker] = {}
        self._failures = 0
        self._retry: list[Slot] = []
        self._ahead = 0  # successors that were started before their predecessors ended
        self.has_room: Callable[[], bool] = lambda: True  # memory for one more worker
        self.ending = False
        self.broken: PoolBrokenError | None = None

    def open(self) -> None:
        """Start the first worker of each slot."""
        for slot in self.slots:
            self._start(slot)

    def handles(self) -> list[Any]:
        """Return what `Pool._pool` shows: the processes that exist."""
        return [w.handle for w in list(self.workers.values()) if w.handle is not None]

    def _start(self, slot: Slot) -> None:
        slot.generation += 1
        worker = Worker(WorkerId(slot.index, slot.generation), self.max_tasks or NO_LIMIT)
        if slot.current is None:
            slot.current = worker
        else:
            slot.successor = worker
            self._ahead += 1
        self.workers[worker.id] = worker
        self._recorder.worker_starting(worker.id)
        self._engine.start(worker.id)

    def _fill(self, slot: Slot) -> None:
        """See that the slot has a worker, or one on its way, as far as the rules allow."""
        if self.ending or self.broken or slot.index >= self.size:
            return
        if slot.current is None and slot.successor is not None:
            slot.current, slot.successor = slot.successor, None
            self._ahead -= 1
        current = slot.current
        if WorkerId(slot.index, slot.generation - 1) in self.workers:
            return  # the next generation's bank is its bank; its exit comes back here
        if current is None or (
            current.state is WorkerState.DRAINING
            and slot.successor is None
            and self._ahead < self._most_ahead()
            and (current.reason is not ExitReason.MEMORY or self.has_room())
        ):
            self._start(slot)

    # -- what the engine tells

    def started(self, event: Started) -> None:
        """A process exists."""
        worker = self.workers[event.worker]
        worker.handle, worker.pid = event.handle, event.pid
        self._recorder.worker(worker.id, pid=event.pid)
        self._recorder.event(
            EventKind.WORKER_STARTED, f"generation {worker.id.generation}", worker.id, event.pid
        )
        if self.ending:
            self.stop(worker, ExitReason.SHUTDOWN)
        elif worker.id.slot >= self.size:
            self.stop(worker, ExitReason.RESIZE)

    def ready(self, worker_id: WorkerId) -> None:
        """A worker can take work."""
        worker = self.workers[worker_id]
        worker.ready_at = time.monotonic_ns()
        self._failures = self.slots[worker_id.slot].failures = 0
        self._recorder.observe("worker_startup", worker.ready_at - worker.started_at)
        if worker.state is WorkerState.STARTING:
            self._set_state(worker, WorkerState.IDLE)

    def start_failed(
        self, worker_id: WorkerId, error: BaseException, *, killed: bool = False
    ) -> None:
        """A process could not be made, its initializer raised, or it was killed while it started.

        What kills several at a time may be over: so `killed` ones count by slot.
        """
        slot = worker_id.slot
        self.slots[slot].failures += 1
        self._failures = (
            max(self._failures, self.slots[slot].failures) if killed else self._failures + 1
        )
        self._recorder.event(
            EventKind.TROUBLE, f"could not start: {type(error).__name__}", worker_id
        )
        alive = any(worker.ready_at for worker in self.workers.values())
        if self._failures >= START_FAILURES and not alive and self.broken is None:
            self.broken = PoolBrokenError(
                f"{self._failures} workers in a row could not be started (the last one for slot "
                f"{slot}): {error!r}; the pool runs nothing any more"
            )
            self.broken.__cause__ = error

    def hook_failed(self, worker_id: WorkerId) -> bool:
        """A worker's initializer raised, and it is on its way out; or its finalizer.

        Returns:
            Whether it was the initializer: `start_failed` will say why.
        """
        worker = self.workers[worker_id]
        if worker.ready_at:
            self._recorder.event(EventKind.TROUBLE, "its finalizer raised", worker_id, worker.pid)
            return False
        self._set_state(worker, WorkerState.DRAINING)
        return True

    def gone(self, worker_id: WorkerId) -> None:
        """Forget a worker whose process was never made."""
        worker = self.workers.pop(worker_id)
        slot = self.slots[worker_id.slot]
        self._vacate(slot, worker)
        self._recorder.worker_state(worker_id, WorkerState.GONE)
        self._retry.append(slot)

    def exited(self, event: Exited) -> Worker:
        """A process is gone: note why, and see that its slot is filled."""
        worker = self.workers.pop(event.worker)
        slot = self.slots[worker.id.slot]
        ended_well = event.code == 0 or (event.code is None and not worker.outstanding)
        planned = worker.reason is not None and ended_well
        meant = worker.condemned or (self.ending and worker.reason is not None)
        if not planned and not meant:
            worker.reason = ExitReason.LOST
        reason = worker.reason or ExitReason.LOST
        if worker.state is WorkerState.STARTING and not self.ending:
            killed = event.code is not None and event.code < 0
            self.start_failed(worker.id, _StartupDeathError(how(event.code)), killed=killed)
        worker.state = WorkerState.GONE
        self._recorder.worker_exited(worker.id, reason)
        text = reason.value
        if reason is ExitReason.LOST:
            cause = how(event.code) + (", probably out of memory" if event.out_of_memory else "")
            text = f"lost: {cause}"
            _log.error("the worker in slot %d (pid %d) died: %s", worker.id.slot, worker.pid, cause)
        self._recorder.event(EventKind.WORKER_EXITED, text, worker.id, worker.pid)
        self._vacate(slot, worker)
        if worker.ready_at:
            self._fill(slot)
        else:
            self._retry.append(slot)
        return worker

    def distrust(self, worker_id: WorkerId) -> None:
        """End a worker that broke the protocol: whatever else it says is not believed."""
        self.workers[worker_id].distrusted = True
        self._engine.kill(worker_id, hard=True)

    def retry(self) -> None:
        """Start again what could not be started: not at once, as the trouble may pass."""
        slots, self._retry = self._retry, []
        for slot in slots:
            self._fill(slot)

    def _vacate(self, slot: Slot, worker: Worker) -> None:
        if slot.leaving is worker:
            slot.leaving = None
        if slot.current is worker:
            slot.current = None
        if slot.successor is worker:
            slot.successor = None
            self._ahead -= 1

    # -- what the scheduler wants

    def drain(self, worker: Worker, reason: ExitReason) -> None:
        """Let a worker end after what it was sent; its successor may start now."""
        worker.reason = reason
        self._stop(worker)
        self._fill(self.slots[worker.id.slot])

    def may_drain(self) -> bool:
        """Tell whether one more worker may be replaced now: the others do its work meanwhile."""
        served = sum(
            1
            for slot in self.slots[: self.size]
            if slot.current and slot.current.state is WorkerState.IDLE
        )
        return self.size - served < self._most_ahead()

    def _most_ahead(self) -> int:
        return max(1, self.size // 8)

    def resize(self, size: int) -> list[Worker]:
        """Have more slots, or fewer; return the workers that are to end after what they run."""
        self.size = size
        self.slots += [Slot(index) for index in range(len(self.slots), size)]
        for slot in self.slots[:size]:
            self._fill(slot)
        superfluous = []
        for slot in self.slots[size:]:
            for worker in (slot.current, slot.successor):
                if worker is None or worker.state is WorkerState.DRAINING:
                    continue
                if worker.state is WorkerState.IDLE:
                    superfluous.append(worker)
                elif worker.handle is not None:
                    self.stop(worker, ExitReason.RESIZE)
        return superfluous

    def set_max_tasks(self, limit: int | None) -> list[Worker]:
        """Change how many tasks a worker may run; return those that have run as many already."""
        more = (limit or NO_LIMIT) - (self.max_tasks or NO_LIMIT)
        self.max_tasks = limit
        going_on = {WorkerState.STARTING, WorkerState.IDLE}
        workers = [worker for worker in self.workers.values() if worker.state in going_on]
        for worker in workers:
            worker.tasks_left += more
        return [worker for worker in workers if worker.tasks_left <= 0]

    def finished(self, worker: Worker) -> None:
        """A draining worker has run its last task: the slot is its successor's."""
        slot = self.slots[worker.id.slot]
        if slot.current is worker and slot.leaving is None:
            slot.current = None
            slot.leaving = worker
            self._fill(slot)

    def stop(self, worker: Worker, reason: ExitReason) -> None:
        """End an idle worker politely."""
        worker.reason = worker.reason or reason
        if worker.state is not WorkerState.DRAINING:
            self._stop(worker)

    def _stop(self, worker: Worker) -> None:
        worker.stopped_at = time.monotonic_ns()
        self._set_state(worker, WorkerState.DRAINING)
        self._engine.stop(worker.id)

    def shut_down(self) -> None:
        """End all workers when they have run what they have; none is started again."""
        self.ending = True
        for worker in list(self.workers.values()):
            if worker.state is not WorkerState.STARTING or worker.handle is not None:
                self.stop(worker, ExitReason.SHUTDOWN)

    def kill_all(self, *, hard: bool, reason: ExitReason = ExitReason.SHUTDOWN) -> None:
        """End all workers now."""
        self.ending = True
        for worker in list(self.workers.values()):
            worker.reason = worker.reason or reason
            self._engine.kill(worker.id, hard=hard)

    def overdue(self, now: int) -> list[Worker]:
        """Return the workers that have not become ready, or have not ended, in time."""
        limit = now - round(HOOK_TIMEOUT * 1_000_000_000)
        return [
            worker
            for worker in self.workers.values()
            if (not worker.ready_at and worker.started_at < limit)
            or (
                worker.stopped_at
                and not worker.outstanding
                and max(worker.stopped_at, worker.progress_at) < limit
            )
        ]

    def _set_state(self, worker: Worker, state: WorkerState) -> None:
        worker.state = state
        self._recorder.worker_state(worker.id, state)


class _StartupDeathError(RuntimeError):
    """A worker died before it was ready."""


def how(code: int | None) -> str:
    """Say in words how a process ended."""
    if code is None:
        return "its exit code is not known"
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
