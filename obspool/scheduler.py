"""Which task goes where, and when.

    jobs' pending payloads ──┐
    taken back, not begun ───┴─> batch ──> worker.outstanding ──> results ──> job ──> sink
                                              │        ▲
                                              └ Revoked ┘  (an idle worker takes from a busy one)

Everything here runs in the scheduler's thread, and nothing of it is user code.
"""

from __future__ import annotations

from operator import attrgetter
from time import monotonic_ns
from typing import TYPE_CHECKING

from obspool.balancer import Balancer
from obspool.idleness import NO_WORK, PAUSED, STARVED, TAIL, Idleness, without_worker
from obspool.messages import Batch, FunctionMessage, Piece
from obspool.telemetry.recorder import OUT
from obspool.words import ExitReason, WorkerState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from obspool.engines.protocol import Engine, Exited, Results, Revoked, WorkerId
    from obspool.interrupts import Interrupts
    from obspool.jobs import Job, Sent
    from obspool.ledger import Ledger
    from obspool.loans import Loan, Loans
    from obspool.recycling import Recycling
    from obspool.results import AsyncResult
    from obspool.streams import Stream
    from obspool.supervisor import Supervisor, Worker
    from obspool.task_queue import Queue
    from obspool.telemetry.recorder import Recorder

# How much work (ns) a worker has before it: long enough that it isn't idle until the scheduler's
# next turn of the GIL, short enough that results come in a steady stream. Slower tasks go one by
# one.
AHEAD_TIME = 20_000_000
PREFETCH_TIME = 10_000_000

# Work (ns) that isn't divided among workers: a message costs more than the others' help is worth.
SHARE_TIME = 500_000

# While a pool is paused, workers that would not give back are asked again after this (ns).
HOLD_AFTER = 5_000_000

# A batch's most: more makes no task cheaper, and delays what is written after it.
BATCH_TASKS = 2048
BATCH_BYTES = 1 << 20

# Idle workers first, and of those not the one that was asked to give back what is given now: it may
# still be receiving it.
_tasks = attrgetter("tasks", "asked_at")


class Scheduler:
    """Gives work to workers."""

    def __init__(
        self,
        engine: Engine,
        recorder: Recorder,
        supervisor: Supervisor,
        ledger: Ledger,
        queue: Queue,
        loans: Loans,
        recycling: Recycling,
        interrupts: Interrupts,
        *,
        balance: bool,
    ) -> None:
        self._engine = engine
        self._recorder = recorder
        self._supervisor = supervisor
        self._ledger = ledger
        self._queue = queue
        self._balancer = Balancer(engine, balance=balance)
        self._loans = loans
        self._recycling = recycling
        self._interrupts = interrupts
        self._idleness = Idleness(recorder.idle, monotonic_ns())
        self.paused = False
        self._hold_at: int | None = None
        self._pace: dict[int, float] = {}  # mean time of a task by function, ns

    def submit(self, job: Job) -> None:
        """Take a job's tasks into the queue."""
        self._interrupts.watch(job)
        self._ledger.submit(job)
        self._queue.submit(job)

    def measure(self, now: int) -> None:
        """Give the recorder the depth and the age of the queue, and the time workers were idle."""
        self._recorder.tasks_queued = self._queue.tasks()
        self._recorder.queue_oldest = self._queue.oldest()
        self._idleness.show(now)

    @property
    def look_at(self) -> int | None:
        """When to dispatch again though nothing happened (ns), to balance or to end an item."""
        ats = (
            *(self._balancer.look_at, self._interrupts.look_at),
            *(self._hold_at, self._loans.look_at),
        )
        return min((at for at in ats if at is not None), default=None)

    def dispatch(self, now: int) -> None:
        """Give work to whoever can take it; from the busy, when there is no other."""
        loans = self._loans
        for worker, reason in self._recycling.due():  # first: they get nothing more
            self.retire(worker, reason)
        if self.paused:
            self._hold(now)
        self._queue.see_streams()
        wanted = bool(self._queue) and not self.paused
        if wanted:
            self.recall()
        # A caller may let go of its worker at any time: what counts is what has come back.
        held = loans.held()
        away = loans.lent() if wanted else held
        able = [
            slot.current
            for slot in self._supervisor.slots
            if slot.current is not None
            and slot.current.state is WorkerState.IDLE
            and slot.current.id not in away
            # It has kept what it was asked for: it runs that, or is stopped, with its claim lock.
            and not (slot.current.unanswered and slot.current.outstanding)
        ]
        if wanted:
            if len(able) > 1:
                able.sort(key=_tasks)  # the idle ones first
            for worker in able:
                if not self._give(worker, len(able), now):
                    break
        self._queue.see_fed()
        self._interrupts.look(now)
        idle = [worker for worker in able if not worker.tasks]
        # What callers have is idle until they say for how long it wasn't: that is known exactly.
        self._count_idle(len(idle) + len(held), len(able) + len(held), now)
        if self.paused:
            return
        if not self._queue:  # what came first goes first
            for worker in idle:
                if worker.tasks_left > 1 and not worker.forget:
                    loans.lend(worker, now)
        if not self._recorder.tasks_outstanding:
            self._balancer.rest()
            return
        queued = self._ledger.queued + len(self._ledger.again)
        self._balancer.look(self._supervisor.workers.values(), len(idle), now, self._pace, queued)

    def _count_idle(self, idle: int, able: int, now: int) -> None:
        """Say why how many slots run nothing, from now on."""
        supervisor = self._supervisor
        recycling = 0
        if supervisor.ending:
            idle = 0
        elif able < supervisor.size:
            recycling = without_worker(supervisor.slots[: supervisor.size])
        reason = NO_WORK
        if self.paused:
            reason = PAUSED
        elif self._queue:
            reason = STARVED
        elif self._ledger.wide:
            reason = TAIL
        self._idleness.change(now, reason, idle, recycling)

    def rest(self, now: int) -> None:
        """Say that nothing is to be run any more: no worker is idle from now on."""
        self._idleness.change(now, NO_WORK, 0, 0)

    def pause(self) -> None:
        """Begin nothing more: workers end what they run, and give back the rest."""
        self.paused = True
        self._balancer.rest()
        self.recall()

    def resume(self) -> None:
        """Go on."""
        self.paused = False
        self._hold_at = None

    def _hold(self, now: int) -> None:
        """Take back what was sent and has not begun, as long as there is any."""
        self._hold_at = None
        for worker in self._supervisor.workers.values():
            if sum(sent.count - sent.received for sent in worker.outstanding) > 1:
                self._hold_at = now + HOLD_AFTER
                self._balancer.empty(worker)

    def cancel(self, job: Job, error: BaseException, now: int, *, running: bool) -> None:
        """Have what has not begun of a job never begin; interrupt what runs, if that is asked."""
        self._ledger.drop(job, error)
        self._queue.drop(job)
        if running:
            job.interrupted_at = now
        if job.id in self._ledger.jobs:
            self._interrupts.cancel(job)

    def cancel_call(
        self, stream: Stream, result: AsyncResult, error: BaseException, now: int, *, running: bool
    ) -> None:
        """Cancel one call of a stream."""
        job = self._ledger.single_out(stream, result, self._supervisor.workers.values())
        if job is not None:
            self.cancel(job, error, now, running=running)

    def retire(self, worker: Worker, reason: ExitReason) -> None:
        """Have a worker end after what it runs; what it has not begun others run."""
        if not self.recall([worker.id]):  # a caller has it
            self._recycling.want(worker, reason)
            return
        self._supervisor.drain(worker, reason)
        self._balancer.empty(worker)
        self._leave(worker)

    # -- what callers do themselves

    def settle(self, now: int) -> bool:
        """Count what callers have served, take back what they left; tell whether there was any."""
        busy = self._loans.settle(now)
        if busy:
            self._idleness.was_busy(busy, now)
        self.recall(self._loans.wanted(now))
        return busy > 0

    def recall(self, which: Iterable[WorkerId] | None = None) -> bool:
        """Take workers back from callers, or all; tell whether no caller has one of them still."""
        which = tuple(self._loans.lent() if which is None else which)
        for loan in self._loans.returned(which):
            self._take_over(loan)
            if loan.worker.tasks_left <= 0 and loan.worker.reason is None:  # by a new limit
                self._supervisor.drain(loan.worker, ExitReason.TASKS)
                self._leave(loan.worker)
        return self._loans.lent().isdisjoint(which)

    def _take_over(self, loan: Loan) -> None:
        """Take over a worker, and the call that its caller has left without an answer."""
        worker, line, call = loan.worker, loan.line, loan.call
        if call is None or call[0] < worker.next_seq:
            if call is not None and (answer := line.answer(call[0], 0.0)):
                loan.deliver(call, answer[0], answer[3])  # who read it was interrupted there
            self._engine.reclaim(worker.id, [])
            return
        read = line.take()
        _, stream, result = call
        now = monotonic_ns()
        self._idleness.was_busy(now - result.asked()[1], now)
        stream.not_collected()
        job = stream.apart(stream.size)
        result.attach(job)  # first: who cancels it from now on means this
        result.expect(None)
        job.pending.append(result)
        job.fed = True
        self._ledger.submit(job)
        sent = self._ledger.take(job, 1)
        if sent is None:
            return
        worker.progress_at = sent.submitted
        worker.tasks = 1
        worker.tasks_left -= 1
        self._recorder.tasks_outstanding += 1
        pieces: list[Piece] = []
        self._add(worker, sent, pieces, [])
        self._engine.reclaim(worker.id, read)
        if loan.sent != sent.first:  # else it would come twice, to be passed over
            self._engine.send(worker.id, Batch([], [], pieces))

    @staticmethod
    def _enter_sent(worker: Worker, sent: Sent) -> None:
        sent.first = worker.next_seq
        worker.next_seq += sent.count
        worker.outstanding.append(sent)

    # -- what the scheduler sends

    def _give(self, worker: Worker, workers: int, now: int) -> bool:
        """Send a worker a batch if it wants one; return whether there may be work for others."""
        pieces: list[Piece] = []
        functions: list[FunctionMessage] = []
        room = size = tasks = 0
        while (job := self._queue.head()) is not None:
            if not tasks:
                room = self._room(worker, job, workers)
                if room <= 0:
                    return True
            again = self._ledger.again
            if again and again[0].losses and worker.tasks + tasks:
                if not tasks:
                    return True  # for an idle worker: it may be what kills them
                break
            sent = self._take(job, room - tasks)
            if sent is None:
                continue
            if not worker.tasks and not tasks:
                worker.progress_at = now
            self._add(worker, sent, pieces, functions)
            tasks += sent.tasks
            size += job.task_bytes() * len(sent.payloads)
            if tasks >= room or size >= BATCH_BYTES or sent.losses:
                break
        if not tasks:
            return False
        worker.tasks += tasks
        worker.tasks_left -= tasks
        self._recorder.tasks_outstanding += tasks
        self._recorder.worker(worker.id, queue_tasks=worker.tasks - 1)
        forget, worker.forget = worker.forget, []
        self._engine.send(worker.id, Batch(functions, forget, pieces))
        if worker.tasks_left <= 0:
            self._supervisor.drain(worker, ExitReason.TASKS)
        return True

    def _room(self, worker: Worker, job: Job, workers: int) -> int:
        """Return how many tasks of the job to send to the worker now."""
        pace = self._pace.get(job.function.number)
        goal = 1
        if pace is None and job.listed:
            goal = 2  # should the first be slow, the second is taken back
        elif pace is not None and pace <= PREFETCH_TIME:
            goal = min(round(AHEAD_TIME / (pace + 1)), 2 * BATCH_TASKS)
        if worker.tasks > goal // 2:
            return 0
        waiting = len(job.pending) + len(self._queue)
        share = max(1, -(-waiting // workers))
        if pace is not None:
            share = max(share, round(SHARE_TIME / (pace + 1)))
        return int(min(goal - worker.tasks, BATCH_TASKS, worker.tasks_left, share))

    def _take(self, job: Job, room: int) -> Sent | None:
        """Take up to `room` tasks of the job that `_head` gave."""
        again = self._ledger.again
        if not again:
            return self._ledger.take(job, min(room, BATCH_BYTES // job.task_bytes() + 1))
        sent = again.popleft()
        if sent.tasks > room:
            again.appendleft(sent.tail(room))
        return sent

    def _add(
        self, worker: Worker, sent: Sent, pieces: list[Piece], functions: list[FunctionMessage]
    ) -> None:
        """Put a run into a batch, and note where it is."""
        job, function = sent.job, sent.job.function
        if function.number not in worker.known:
            worker.known.add(function.number)
            label = self._recorder.label(function.name)
            functions.append(
                FunctionMessage(
                    function.number, kept=function.kept, label=label, payload=function.payload
                )
            )
            if not function.kept:
                job.holders.append(worker)
        self._enter_sent(worker, sent)
        if pieces and not job.listed:
            last = pieces[-1]
            alike = last.function == function.number and last.call == job.call
            if alike and last.timeout == job.timeout and not last.chunk:
                last.payloads += sent.payloads
                last.count += sent.count
                return
        pieces.append(
            Piece(
                function.number,
                job.call,
                chunk=job.listed,
                skip=sent.skip,
                stop_on_error=job.stop_on_error,
                first=sent.first,
                count=sent.count,
                submitted=sent.submitted,
                payloads=list(sent.payloads),
                timeout=job.timeout,
            )
        )

    # -- what the engine tells

    def results(self, event: Results, now: int) -> None:
        """Take results.

        Raises:
            LookupError: the worker answered for an item that it wasn't asked for.
        """
        worker = self._supervisor.workers.get(event.worker)
        if worker is None or worker.distrusted or self._ledger.given_up:
            return
        worker.progress_at, worker.unanswered = now, False
        self._recycling.look_at(worker, now)
        worker.busy += event.busy
        self._recorder.task_bytes[OUT] += event.size
        function = worker.outstanding[0].job.function  # without any: an answer to no question
        done = self._ledger.accept(worker, event.parts)
        if done:
            # The mean of these and of one before: many count for more than one that was disturbed.
            before = self._pace.get(function.number, worker.busy / done)
            self._pace[function.number] = (before + worker.busy) / (1 + done)
            worker.busy = 0
            self._recorder.observe("task_result_wait", now - event.ended, done)
            if not function.kept and len(self._pace) > KNOWN_PACES:
                self._pace.clear()
        self._recorder.worker(worker.id, queue_tasks=max(0, worker.tasks - 1))
        self._leave(worker)

    def _leave(self, worker: Worker) -> None:
        """Let a draining worker that has done its last task leave its slot."""
        if worker.state is WorkerState.DRAINING and not worker.outstanding:
            self._supervisor.finished(worker)

    def revoked(self, event: Revoked) -> None:
        """Queue again what a worker gave back."""
        worker = self._supervisor.workers.get(event.worker)
        if worker is not None:
            worker.unanswered = False
            parts = self._balancer.gained()
            self._ledger.take_back(worker, event.first, event.until, parts)
            self._leave(worker)

    def exited(self, event: Exited) -> None:
        """Settle what a worker had."""
        worker = self._supervisor.exited(event)
        if worker.outstanding:
            self._ledger.lose(worker, event)
        if worker.ready_at:
            self._recorder.lived(worker.tasks_done)


# Paces of functions that are pickled for each job are of no use afterwards.
KNOWN_PACES = 1024
