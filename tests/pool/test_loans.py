"""`apply` asks an idle worker from the caller's own thread; nothing of it may be lost."""

from __future__ import annotations

import os
import signal
import threading
import time
import weakref
from collections.abc import Callable  # noqa: TC003 - of a module's constant
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from obspool import Pool
from obspool.engines.line import ChannelLine
from obspool.errors import PoolTerminatedError, TaskTimeoutError, WorkerLostError
from obspool.single_calls import SMALL_BYTES
from obspool.telemetry.reader import read
from obspool.words import ExitReason, JobKind, Outcome
from tests.helpers import poll
from tests.pool import work
from tests.pool.ending import ended
from tests.pool.lending import count, counts, only_loan, ready, sends, write_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.context import BaseContext
    from pathlib import Path

    from obspool.engines.protocol import Answer


@pytest.fixture(name="pool")
def _pool_of_one(mp_context: BaseContext) -> Iterator[Pool]:
    """A pool of one worker that has everything."""
    with Pool(1, context=mp_context) as made:
        ready(made)
        yield made
        stats = ended(made)
        assert stats.items_completed[Outcome.LOST] == 0


def test_an_apply_to_an_idle_worker_needs_no_send_of_the_scheduler(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = pool.stats()
    poll(pool._live()._loop.loans.lent)
    sent = sends(pool, monkeypatch)
    for number in range(20):
        assert pool.apply(work.identity, (number,)) == number
    assert not sent
    after = pool.stats()
    assert sum(after.tasks_completed.values()) - sum(before.tasks_completed.values()) == 20
    assert sum(after.jobs_completed.values()) - sum(before.jobs_completed.values()) == 20
    assert after.items_completed[Outcome.OK] - before.items_completed[Outcome.OK] == 20
    assert after.job_duration[JobKind.APPLY].count - before.job_duration[JobKind.APPLY].count == 20


def test_what_a_lent_worker_raises_is_raised(pool: Pool) -> None:
    pool.map(work.double, range(64), 1)
    poll(pool._live()._loop.loans.lent)
    with pytest.raises(work.CustomError):
        pool.apply(work.double, (-1,))
    assert pool.apply(work.double, (4,)) == 8
    assert pool.stats().items_completed[Outcome.ERROR] == 1


def test_a_large_item_and_one_for_a_busy_worker_go_the_long_way(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sent = sends(pool, monkeypatch)
    assert pool.apply(work.identity, (bytes(SMALL_BYTES),)) == bytes(SMALL_BYTES)
    assert len(sent) == 1
    held = pool.apply_async(work.until_there, (str(tmp_path / "go"),))
    poll(lambda: pool.stats().tasks.running == 1)
    with ThreadPoolExecutor(1) as caller:
        answer = caller.submit(pool.apply, work.identity, (3,))
        poll(lambda: pool.stats().tasks.queued + pool.stats().tasks.dispatched == 1)
        (tmp_path / "go").touch()
        assert answer.result(10) == 3
    held.get(10)


class _Interrupted(ChannelLine):
    """A line whose caller is interrupted once."""

    where = ""

    def ask(self, *call: Any) -> bool:
        if self.where == "before it was sent":
            raise KeyboardInterrupt
        assert super().ask(*call)
        if self.where == "when it was sent":
            raise KeyboardInterrupt
        return True

    def answer(self, first: int, patience: float) -> Answer | None:  # noqa: ARG002
        if self.where == "while it waits":
            raise KeyboardInterrupt
        answer = super().answer(first, 10.0)
        assert answer is not None
        if self.where == "when it was read":
            raise KeyboardInterrupt
        return answer

    def forget(self) -> None:
        if self.where == "when it was counted":
            self.where = ""
            raise KeyboardInterrupt
        super().forget()


@pytest.mark.parametrize(
    "where",
    [
        "before it was sent",
        "when it was sent",
        "while it waits",
        "when it was read",
        "when it was counted",
    ],
)
def test_a_caller_interrupted_anywhere(pool: Pool, tmp_path: Path, where: str) -> None:
    """Whether the item was sent isn't always known then: it is sent again, and runs once."""
    before = sum(pool.stats().tasks_completed.values())
    poll(pool._live()._loop.loans.lent)
    line: Any = only_loan(pool).line
    line.__class__ = _Interrupted
    line.where = where
    ran = tmp_path / "ran"
    with pytest.raises(KeyboardInterrupt):
        pool.apply(write_line, (str(ran),))
    poll(ran.exists)
    assert pool.map(work.identity, range(100), 1) == list(range(100))
    assert ran.read_text() == "ran\n"
    assert sum(pool.stats().tasks_completed.values()) == before + 101


def test_a_caller_interrupted_with_its_claim_in_hand(pool: Pool) -> None:
    """It can't let go any more: who has the worker is seen from what its thread runs."""
    loan = only_loan(pool)
    assert loan.claim.setdefault(0, (threading.get_ident(),))
    assert pool.map(work.identity, range(10), 1) == list(range(10))
    assert pool.apply(work.identity, (1,)) == 1


def test_nobody_else_uses_a_worker_that_a_caller_has(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its few bytes would land in the middle of a large message."""
    line: Any = only_loan(pool).line
    ask, about_to, go = line.ask, threading.Event(), threading.Event()

    def late(*call: Any) -> bool:
        about_to.set()
        assert go.wait(10)
        return bool(ask(*call))

    line.ask = late
    sent = sends(pool, monkeypatch)
    large = [bytes([number]) * 1_000_000 for number in range(4)]
    with ThreadPoolExecutor(1) as caller:
        answer = caller.submit(pool.apply, work.identity, ("small",))
        assert about_to.wait(10)
        result = pool.map_async(work.identity, large, 1)
        poll(lambda: pool.stats().tasks.queued == 4)
        assert not sent
        go.set()
        assert answer.result(10) == "small"
        assert result.get(10) == large


def test_an_apply_does_not_overtake_an_earlier_call_of_its_thread(pool: Pool) -> None:
    for _ in range(100):
        earlier = pool.apply_async(time.monotonic_ns)
        later = pool.apply(time.monotonic_ns)
        assert earlier.get() < later


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("method", ["apply", "map", "imap"])
def test_interrupts_anywhere_in_a_call(method: str) -> None:
    """Nothing runs twice, no answer is wrong, no worker is lost, and the pool ends."""

    class Interrupt(BaseException):
        """As a Ctrl-C, but nobody else's."""

    def interrupt(*_: object) -> None:
        raise Interrupt

    calls: dict[str, Callable[[Pool, int], list[int]]] = {
        "apply": lambda pool, number: [pool.apply(count, (number,))],
        "map": lambda pool, number: pool.map(count, [number]),
        "imap": lambda pool, number: list(pool.imap(count, [number])),
    }
    call, random = calls[method], Random(3)  # noqa: S311 - to be the same each time
    before = signal.signal(signal.SIGALRM, interrupt)
    interrupted = number = 0
    try:
        with Pool(1) as pool:
            pool.map(count, [-1] * 64, 1)
            end = time.monotonic() + 1.0
            while time.monotonic() < end:
                try:
                    signal.setitimer(signal.ITIMER_REAL, random.uniform(5e-6, 4e-4))
                    for _ in range(50):  # the interpreter ignores what a finalizer raises
                        number += 1
                        assert call(pool, number) == [number]
                except Interrupt:
                    interrupted += 1
                except RuntimeError as error:  # Thread.start, interrupted in its Event's lock
                    if "release unlocked lock" not in str(error):
                        raise
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
            runs = pool.apply(counts)
            pool.close()
            ended = ThreadPoolExecutor(1).submit(pool.join)
            ended.result(10)
            stats = pool.stats()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert interrupted > 100
    assert max(count for item, count in runs.items() if item != -1) == 1
    assert sum(stats.tasks_submitted.values()) == sum(stats.tasks_completed.values())
    assert not stats.worker_exits[ExitReason.LOST]


def test_what_the_channel_refuses_the_schedulersends(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    line: Any = only_loan(pool).line
    line.ask = lambda *_: False
    assert pool.apply(work.identity, (7,)) == 7


def test_a_worker_killed_while_it_is_lent_loses_nothing(mp_context: BaseContext) -> None:
    """Whether the caller writes to a dying worker or to a dead one: the item runs elsewhere."""
    with Pool(2, context=mp_context) as pool:
        for number in range(10):
            core = ready(pool)
            first, *_ = core._loop.loans._open
            os.kill(first.worker.pid, signal.SIGKILL)
            assert [pool.apply(work.identity, (number,)) for _ in range(3)] == [number] * 3
        pool.close()
        pool.join()
        assert pool.stats().items_completed[Outcome.LOST] == 0


def test_a_worker_that_dies_of_a_call_is_told_to_its_caller(mp_context: BaseContext) -> None:
    with Pool(1, context=mp_context) as pool:
        pool.map(work.die_of, [0] * 8, 1)
        pool.apply(work.die_of, (0,))
        poll(pool._live()._loop.loans.lent)
        with pytest.raises(WorkerLostError, match="while it ran item 0 of die_of"):
            pool.apply(work.die_of, (1,))
        assert pool.apply(work.identity, (1,)) == 1
        assert pool.stats().items_completed[Outcome.LOST] == 1


def test_a_held_channel_stays_open_until_its_holder_lets_go(pool: Pool) -> None:
    """Its number must not be somebody else's while a caller is about to use it."""
    (worker,) = pool._live().supervisor.workers.values()
    held: Any = only_loan(pool).line
    number = held._channel.fileno()
    os.kill(worker.pid, signal.SIGKILL)
    poll(lambda: worker.id not in pool._live().supervisor.workers)
    os.fstat(number)
    gone = weakref.ref(held._channel)
    del held
    poll(lambda: gone() is None)


def test_a_worker_that_nobody_asks_for_comes_back(pool: Pool) -> None:
    poll(lambda: not pool._live()._loop.loans.lent(), deadline=10)
    assert pool.apply(work.identity, (5,)) == 5


def test_workers_are_not_lent_where_nobody_calls_apply() -> None:
    with Pool(2) as pool:
        for _ in range(5):
            pool.map(work.identity, range(8), 1)
            pool.apply_async(work.identity, (1,)).get()
            assert not pool._live()._loop.loans.lent()


def test_tasks_of_applies_count_for_maxtasksperchild() -> None:
    with Pool(1, maxtasksperchild=5) as pool:
        pids = [pool.apply(os.getpid) for _ in range(30)]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [5] * 6


def test_many_threads_apply_at_once() -> None:
    """Each claim has one winner; every call has its own answer."""
    start = threading.Barrier(16)

    def calls(thread: int) -> list[tuple[int, int]]:
        start.wait()
        return [pool.apply(work.identity, ((thread, number),)) for number in range(200)]

    with Pool(4) as pool, ThreadPoolExecutor(16) as callers:
        ready(pool)
        for thread, answers in enumerate(callers.map(calls, range(16))):
            assert answers == [(thread, number) for number in range(200)]
        stats = pool.stats()
        assert sum(stats.tasks_submitted.values()) == sum(stats.tasks_completed.values())
        assert stats.tasks.queued + stats.tasks.dispatched + stats.tasks.running == 0


def test_a_long_apply_is_counted_while_it_runs(pool: Pool, tmp_path: Path) -> None:
    """The caller hands it over after a while: the next heartbeat would be late."""
    pool.map(work.until_there, [str(tmp_path)] * 64, 1)
    before = sum(pool.stats().tasks_submitted.values())
    poll(pool._live()._loop.loans.lent)
    with ThreadPoolExecutor(1) as caller:
        answer = caller.submit(pool.apply, work.until_there, (str(tmp_path / "go"),))
        poll(lambda: sum(read(pool._live().segment).tasks_submitted.values()) == before + 1)
        assert pool.stats().tasks.running == 1
        (tmp_path / "go").touch()
        answer.result(10)


@pytest.mark.parametrize("how", ["close", "terminate"])
def test_a_pool_that_ends_while_a_caller_has_a_worker(how: str) -> None:
    """Close waits for the call; terminate has it told within a moment. Nobody waits for ever."""
    pool = Pool(1)
    ready(pool)
    line: Any = only_loan(pool).line
    answer, about_to, go = line.answer, threading.Event(), threading.Event()

    def late(*what: Any) -> Any:
        about_to.set()
        assert go.wait(10)
        return answer(*what)

    line.answer = late
    with ThreadPoolExecutor(1) as caller:
        waiting = caller.submit(pool.apply, work.identity, (3,))
        assert about_to.wait(10)
        getattr(pool, how)()
        go.set()
        found = work.outcome(partial(waiting.result, 10))
        assert found == ("value", 3) or (how == "terminate" and "terminated" in str(found))
        pool.join()


def _close_and_join(pool: Pool) -> None:
    pool.close()
    pool.join()


_HANDLERS: dict[str, Callable[[Pool], Any]] = {
    "apply": lambda pool: pool.apply(work.identity, (5,)),
    "map": lambda pool: pool.map(work.identity, range(4), 1),
    "apply_async": lambda pool: pool.apply_async(work.identity, (5,)).get(10),
    "close and join": _close_and_join,
    "terminate": lambda pool: pool.terminate(),
}


@pytest.mark.parametrize("what", _HANDLERS)
@pytest.mark.parametrize("where", ["ask", "answer"])
def test_a_signal_handler_may_call_the_pool_within_apply(what: str, where: str) -> None:
    """It takes the worker from the call that it interrupted, which the scheduler takes over."""
    pool = Pool(1)
    ready(pool)
    line: Any = only_loan(pool).line
    real = getattr(line, where)

    def interrupted(*arguments: Any) -> Any:
        began = time.monotonic()
        _HANDLERS[what](pool)
        assert time.monotonic() - began < 3
        return real(*arguments)

    setattr(line, where, interrupted)
    if what == "terminate":
        with pytest.raises(PoolTerminatedError):
            pool.apply(work.identity, (9,))
    else:
        assert pool.apply(work.identity, (9,)) == 9
        pool.close()
    pool.join()
    stats = pool.stats()
    assert sum(stats.tasks_submitted.values()) == sum(stats.tasks_completed.values())


def test_a_pools_timeout_holds_for_apply() -> None:
    with Pool(1, timeout=0.2) as pool:
        pool.map(work.until_there, [os.devnull] * 8, 1)
        pool.apply(work.until_there, (os.devnull,))
        began = time.monotonic()
        with pytest.raises(TaskTimeoutError):
            pool.apply(work.until_there, ("/nowhere",))
        assert time.monotonic() - began < 1.5  # before anybody would be killed for it


def test_a_limit_that_is_reached_by_a_call_under_way() -> None:
    with Pool(1) as pool:
        ready(pool)
        pid = pool.apply(os.getpid)
        poll(pool._live()._loop.loans.lent)
        line: Any = only_loan(pool).line
        answer, about_to, go = line.answer, threading.Event(), threading.Event()

        def late(*arguments: Any) -> Any:
            about_to.set()
            assert go.wait(10)
            return answer(*arguments)

        line.answer = late
        with ThreadPoolExecutor(1) as caller:
            called = caller.submit(pool.apply, work.identity, (1,))
            assert about_to.wait(10)
            (worker,) = pool._live().supervisor.workers.values()
            pool.set(maxtasksperchild=worker.tasks_done + 1)
            poll(lambda: worker.tasks_left == 1)
            go.set()
            assert called.result(10) == 1
        assert pool.apply_async(os.getpid).get(10) != pid


def test_terminate_ends_what_a_caller_has_sent(tmp_path: Path) -> None:
    with Pool(1) as pool, ThreadPoolExecutor(1) as caller:
        pool.map(work.until_there, [str(tmp_path)] * 64, 1)  # it is there
        answer = caller.submit(pool.apply, work.until_there, (str(tmp_path / "never"),))
        poll(lambda: pool.stats().tasks.running == 1)
        pool.terminate()
        with pytest.raises(Exception, match="terminated"):
            answer.result(10)
