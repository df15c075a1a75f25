"""Idle workers, lent to callers, who send a call to one and read the answer themselves.

    scheduler ── lend ──> open loans ── claim ──> caller's thread ── ask ──────> worker
        ▲                     ▲                         │ ▲                         │
        ├── settle: counts <──┴──── serve, release <────┘ └──────── answer <────────┘
        └── recall: the worker, and a call that its caller has left

The scheduler's thread has no part in such a call: two thread switches less. It counts what was
served a little later, all at once. A call that takes longer it takes over, with its worker.

`apply` keeps its claim until it has the answer. `apply_async` lets go when it has sent the call,
and `get` claims the worker again to read the answer, unless the scheduler was faster.

One operation of a dict is the claim, and says who has it: so whatever interrupts a caller behind
it, the scheduler can tell. An interrupted caller may or may not have sent its call: then it is sent
again, and a worker passes over numbers that it has seen. What was read is never lost (see `Line`).
"""

from __future__ import annotations

from collections import deque
from operator import sub
from threading import get_ident
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from obspool.frames import is_running
from obspool.ledger import FAILURES
from obspool.telemetry.bank import OK
from obspool.telemetry.recorder import APPLY, IN, OUT
from obspool.waiting import hold, let_go, unhold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, KeysView

    from obspool.engines.protocol import Engine, Line, WorkerId
    from obspool.results import AsyncResult
    from obspool.streams import Stream
    from obspool.supervisor import Worker
    from obspool.telemetry.recorder import Recorder

    # The kind of the answer; when it was submitted, had run, was there; bytes there and back; how
    # long its arguments took to pickle. Times in ns.
    Served = tuple[int, int, int, int, int, int, int]

    # A number, and what has it.
    Call = tuple[int, Stream, AsyncResult]

# More of them at a time would only cost the scheduler a look at each.
MOST = 8

# How long a caller waits for an answer (seconds) until the scheduler takes over.
PATIENCE = 0.01

# When a call is late whose answer nobody waits for (ns).
_LATE = round(PATIENCE * 1e9)

# How soon calls that were served are counted (ns): each time one call in the row waits for it.
COUNT_AFTER = 50_000_000

# Workers are lent as long as the last call that would have liked one isn't older than this (ns):
# to lend one costs 20 µs.
DEMAND_LASTS = 1_000_000_000


class Loan:
    """One worker that is lent; what a caller changes, it changes with the claim.

    Attributes:
        worker: the scheduler's; but for `known`, callers don't look at it.
        line: to the worker.
        number: sequence number of the next call.
        last: the number with which the worker is given back.
        claim: under 0 who has it: the ident of the thread, or None for the scheduler.
        wanted: the scheduler is to have it back.
        call: the call under way; whoever claims it next may read its answer.
        sent: number of the last one that was sent for sure.
        left: its caller was interrupted, and gave up the worker and this call, if it had one.
        served: what to count of calls.
    """

    __slots__ = (
        "_loans",
        "call",
        "claim",
        "last",
        "left",
        "line",
        "number",
        "sent",
        "served",
        "wanted",
        "worker",
    )

    def __init__(self, worker: Worker, line: Line, loans: Loans) -> None:
        self._loans = loans
        self.worker = worker
        self.line = line
        self.number = worker.next_seq
        self.last = worker.next_seq + worker.tasks_left - 1  # its very last task isn't lent
        self.claim: dict[int, tuple[int] | None] = {}
        self.wanted = False
        self.call: Call | None = None
        self.sent = -1
        self.left: list[Call | None] = []
        self.served: deque[Served] = deque()

    def is_held(self) -> bool:
        """Tell whether somebody has the worker, or a call is under way."""
        return bool(self.claim) or self.call is not None

    def is_late(self, now: int) -> bool:
        """Tell whether the answer of a call has not been collected for a while."""
        call = self.call
        return call is not None and now - call[2].asked()[1] > _LATE

    def use(self, act: Callable[..., bool | None], *arguments: Any) -> bool | None:
        """Have the worker to this thread while `act` runs.

        Args:
            act: returns False if the scheduler is to take over from here, the worker and its call.
            arguments: its own.

        Returns:
            What `act` does; None: it did nothing, or somebody else has the worker.
        """
        let_go()
        mine = (get_ident(),)
        done: bool | None = False
        hold(self.let_go)  # first: a signal handler may come right behind the claim
        try:
            if self.claim.setdefault(0, mine) is not mine or self.wanted:
                done = None
            else:
                done = act(*arguments)
        finally:
            if done is False or self.number >= self.last:
                self.wanted = True
            if self.claim.get(0) is mine:
                self.claim.clear()
            unhold()
            self._loans.look_at_released(self)
        return done

    def let_go(self) -> None:
        """Give up the worker, and the call that is under way: this thread runs something else now.

        When it comes back to the call, it can't use the line any more.
        """
        holder = self.claim.get(0)
        if holder is not None and holder[0] == get_ident():
            self.line.stop()
            self.left.append(self.call)
            self.wanted = True
            self.claim.clear()

    def serve(self, stream: Stream, result: AsyncResult) -> bool | None:
        """Send a call and wait for its answer.

        Returns:
            Whether it came in time; None: it was neither sent nor left to the scheduler.
        """
        call = self.number, stream, result
        sent = self._ask(call)
        return sent and self._receive(call, PATIENCE)

    def send(self, stream: Stream, result: AsyncResult) -> bool | None:
        """Send a call, whose answer is for `collect`; return as `serve` does."""
        result.expect(self)  # first: who takes the call over from here on says otherwise
        sent = self._ask((self.number, stream, result))
        if sent is None:
            result.expect(None)
        return sent

    def collect(self, result: AsyncResult, timeout: float | None) -> None:
        """Wait so long (seconds) for the answer of a call that was sent, but not for long."""
        self.use(self._collect, result, timeout)

    def _collect(self, result: AsyncResult, timeout: float | None) -> bool | None:
        call = self.call
        if call is None or call[2] is not result:
            return None
        patience = PATIENCE if timeout is None else max(0.0, min(timeout, PATIENCE))
        if self._receive(call, patience, monotonic_ns()):
            return True
        # What isn't an answer is for the engine; and another thread would wait for this one.
        late = patience == PATIENCE or self.line.read or result.is_waited_for()
        return False if late else None

    def _ask(self, call: Call) -> bool | None:
        if self.call is not None:  # nobody has collected it yet
            return None
        self.call = call
        number, stream, result = call
        payload, submitted = result.asked()
        if self.line.ask(stream.function.number, stream.call, number, submitted, payload):
            self.sent = number
            return True
        return None if self.left and self.left[0] is not call else False

    def _receive(self, call: Call, patience: float, since: int = 0) -> bool:
        """Wait so long (seconds) for the answer; return whether it is there.

        Args:
            call: what was sent.
            patience: how long.
            since: somebody waits for the answer since then (ns); one that is older was there.
        """
        number, stream, result = call
        answer = self.line.answer(number, patience)
        if answer is None or self.left:
            return False
        kind, _, ended, found = answer
        payload, submitted = result.asked()
        told = monotonic_ns() if ended >= since else ended
        sizes = len(payload), len(found)
        self.served.append((kind, submitted, ended, told, *sizes, stream.encode_time))
        self.deliver(call, kind, found)
        return True

    def deliver(self, call: Call, kind: int, found: Any) -> None:
        """Give a call its answer; it counts as served. Once more, should that be interrupted."""
        number, _, result = call
        result.receive(0, 1, kind, [found])
        result.tell()
        self.number = number + 1
        self.call = None  # and so nothing here keeps arguments and results
        self.line.forget()


class Loans:
    """The loans of a pool; all but `serve` is for the scheduler's thread.

    Attributes:
        look_at: when to count though nothing happened, ns.
        refusal: makes the error of calls without an answer, when no scheduler takes them over.
    """

    def __init__(self, engine: Engine, recorder: Recorder) -> None:
        self._engine = engine
        self._recorder = recorder
        self._lent: dict[WorkerId, Loan] = {}
        self._open: tuple[Loan, ...] = ()
        self._noticed = False  # the scheduler will look by itself
        self._asked_at = -DEMAND_LASTS
        self.look_at: int | None = None
        self.refusal: Callable[[], BaseException] | None = None

    def serve(self, stream: Stream, result: AsyncResult, *, wait: bool) -> bool | None:
        """Have a call served by an idle worker that has its function; `wait` for the answer.

        Returns:
            Whether it was served, or sent; False: the scheduler takes it over, with its worker.
            None: there is no such worker.
        """
        function = stream.function.number
        for loan in self._open:
            if loan.is_held() or loan.wanted or function not in loan.worker.known:
                continue
            served = loan.use(loan.serve if wait else loan.send, stream, result)
            if served is not None:
                return served
        self._asked_at = monotonic_ns()
        return None

    def look_at_released(self, loan: Loan) -> None:
        """Have the scheduler look at what a caller has done, if it doesn't by itself."""
        if loan.wanted or not self._noticed:
            self._noticed = True
            self._engine.wake()
        call = loan.call
        if self.refusal is not None and call is not None and not loan.claim:
            call[2].refuse(self.refusal())

    # -- the scheduler's

    def lend(self, worker: Worker, now: int) -> None:
        """Lend a worker that has nothing to do, if somebody would like to have one."""
        if (
            now - self._asked_at < DEMAND_LASTS
            and worker.id not in self._lent
            and len(self._lent) < MOST
        ):
            line = self._engine.lend(worker.id)
            if line is not None:
                self._lent[worker.id] = Loan(worker, line, self)
                self._open = tuple(self._lent.values())

    def lent(self) -> KeysView[WorkerId]:
        """Return the workers that are lent."""
        return self._lent.keys()

    def held(self) -> set[WorkerId]:
        """Return those that a caller has at this moment."""
        return {worker_id for worker_id, loan in self._lent.items() if loan.claim}

    def __bool__(self) -> bool:
        """Tell whether a caller has one, or a call is under way."""
        return any(loan.is_held() for loan in self._lent.values())

    def returned(self, which: Iterable[WorkerId]) -> Iterator[Loan]:
        """Take workers back: yield the loans of those that no caller has.

        The others come back by themselves, when their callers let go.
        """
        for worker_id in which:
            loan = self._lent.get(worker_id)
            if loan is not None:
                loan.wanted = True
                holder = loan.claim.setdefault(0, None)
                if holder is None or not is_running(holder[0], _USE):
                    del self._lent[worker_id]
                    self._open = tuple(self._lent.values())
                    self._count(loan)
                    yield loan

    def wanted(self, now: int) -> list[WorkerId]:
        """Return those that are to come back; all, when nobody has used any for a while."""
        idle = now - self._asked_at > DEMAND_LASTS
        return [
            worker_id
            for worker_id, loan in self._lent.items()
            if idle or loan.wanted or loan.is_late(now)
        ]

    def settle(self, now: int) -> int:
        """Count what was served; return for how long workers were busy with that, ns."""
        busy = self._count_all()
        if not busy:
            self._noticed = False  # before the last look: who serves later wakes the scheduler
            busy = self._count_all()
        if busy:
            self._asked_at = now
        self._noticed = busy > 0 or any(loan.call for loan in self._lent.values())
        self.look_at = now + COUNT_AFTER if self._noticed else None
        return busy

    def _count_all(self) -> int:
        return sum([self._count(loan) for loan in self._lent.values() if loan.served])

    def _count(self, loan: Loan) -> int:
        """Count what one worker has served; return how long that took."""
        number = len(loan.served)
        if not number:
            return 0
        served = [loan.served.popleft() for _ in range(number)]
        kinds, submitted, ended, told, sent, received, encoding = zip(*served, strict=True)
        worker, recorder = loan.worker, self._recorder
        worker.next_seq += number
        worker.tasks_left -= number
        worker.tasks_done += number
        recorder.calls_submitted(number)
        recorder.count_tasks(number, 1)
        recorder.tasks_submitted[APPLY] += number
        recorder.items_submitted += number
        recorder.dump += sum(encoding)
        recorder.task_bytes[IN] += sum(sent)
        recorder.task_bytes[OUT] += sum(received)
        recorder.observe_all("task_result_wait", list(map(sub, told, ended)))
        durations: dict[int, list[int]] = {}
        for kind, duration in zip(kinds, map(sub, told, submitted), strict=True):
            durations.setdefault(FAILURES.get(kind, OK), []).append(duration)
        for outcome, taken in durations.items():
            recorder.calls_completed(outcome, taken)
            recorder.tasks_completed[outcome] += len(taken)
            recorder.items_completed[outcome] += len(taken)
        return sum(map(sum, durations.values()))


_USE = Loan.use.__code__
