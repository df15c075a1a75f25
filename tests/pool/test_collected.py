"""`apply_async` sends a call at once where each is waited for; `get` reads the answer itself."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing import TimeoutError as MpTimeoutError
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from obspool import Pool, loans, loop
from obspool.engines.line import ChannelLine
from obspool.errors import CancelledError, PoolTerminatedError, WorkerLostError
from obspool.words import ExitReason, JobKind, Outcome
from tests.helpers import poll
from tests.pool import work
from tests.pool.ending import ended
from tests.pool.lending import count, counts, only_loan, ready, sends, write_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.context import BaseContext

    from obspool.results import AsyncResult


def _one_by_one(pool: Pool, func: Callable[..., Any] = work.identity, *arguments: Any) -> None:
    """Wait for each call of a function before the next, until one is sent at once."""

    def collected() -> bool:
        result = pool.apply_async(func, arguments or (0,))
        loan = result._loan
        result.get(10)
        return loan is not None

    poll(collected)


@pytest.fixture(autouse=True)
def _lent_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a test may not come to its next call within a second."""
    monkeypatch.setattr(loans, "DEMAND_LASTS", 60 * 10**9)


@pytest.fixture(name="_kept")
def _not_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheduler leaves a call alone that nobody collects."""
    monkeypatch.setattr(loans, "_LATE", 60 * 10**9)


@pytest.fixture(name="pool")
def _pool_of_one(mp_context: BaseContext) -> Iterator[Pool]:
    """A pool of one worker, whose next call of `work.identity` is sent at once."""
    with Pool(1, context=mp_context) as made:
        ready(made)
        _one_by_one(made)
        yield made
        stats = ended(made)
        assert sum(stats.jobs_submitted.values()) == sum(stats.jobs_completed.values())
        assert stats.tasks.queued + stats.tasks.dispatched + stats.tasks.running == 0


def _is_lent(pool: Pool) -> bool:
    return bool(pool._live()._loop.loans._open)


def _has_answered(pool: Pool) -> bool:
    line: Any = only_loan(pool).line
    return bool(line._waiting.poll(0))


def _sent(pool: Pool, func: Callable[..., Any], *arguments: Any) -> AsyncResult:
    """Call; the call is sent at once."""
    result = pool.apply_async(func, arguments)
    assert result._loan is not None
    return result


def test_calls_one_by_one_need_no_send_of_the_scheduler(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = pool.stats()  # takes all workers back
    _one_by_one(pool)
    sent = sends(pool, monkeypatch)
    for number in range(20):
        assert pool.apply_async(work.identity, (number,)).get(10) == number
    assert not sent
    after = pool.stats()
    calls = sum(after.tasks_completed.values()) - sum(before.tasks_completed.values())
    assert calls >= 20
    assert sum(after.jobs_completed.values()) - sum(before.jobs_completed.values()) == calls
    durations = after.job_duration[JobKind.APPLY].count - before.job_duration[JobKind.APPLY].count
    assert durations == calls


def test_calls_that_nobody_waits_for_go_by_the_hundred(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is sent at once, as those before it were."""
    sent = sends(pool, monkeypatch)
    results = [pool.apply_async(work.identity, (number,)) for number in range(1000)]
    assert [result.get(10) for result in results] == list(range(1000))
    assert len(sent) < 100


@pytest.mark.usefixtures("_kept")
@pytest.mark.parametrize("ask", ["ready", "successful", "wait"])
def test_the_answer_is_there_for_whoever_asks(pool: Pool, ask: str) -> None:
    result = _sent(pool, work.identity, 3)
    poll(lambda: _has_answered(pool))
    if ask == "wait":
        result.wait(0)
        assert result._told
    else:
        assert getattr(result, ask)()
    assert result._loan is None
    assert result.get(0) == 3


def test_what_it_raises_is_raised(pool: Pool) -> None:
    _one_by_one(pool, work.double, 1)
    result = _sent(pool, work.double, -1)
    result.wait()
    assert not result.successful()
    with pytest.raises(work.CustomError):
        result.get()


def test_nobody_needs_to_ask(pool: Pool, tmp_path: Path) -> None:
    """The scheduler looks after what is not collected."""
    _one_by_one(pool, write_line, os.devnull)
    gone = weakref.ref(_sent(pool, write_line, str(tmp_path / "ran")))
    poll((tmp_path / "ran").exists)
    poll(lambda: gone() is None, interval=0.01)
    gc.collect()
    assert pool.apply(work.identity, (1,)) == 1


def test_a_timeout_leaves_the_call_alone(pool: Pool, tmp_path: Path) -> None:
    _one_by_one(pool, work.until_there, os.devnull)
    result = _sent(pool, work.until_there, str(tmp_path / "go"))
    for timeout in (0, 0.001, -1, 0.05):
        began = time.monotonic()
        with pytest.raises(MpTimeoutError):
            result.get(timeout)
        assert max(0, timeout) <= time.monotonic() - began < 5
    assert not result.ready()
    (tmp_path / "go").touch()
    assert result.get(10)


def test_a_long_call_is_seen_and_others_run_meanwhile(tmp_path: Path) -> None:
    with Pool(2) as pool:
        ready(pool)
        _one_by_one(pool, work.until_there, os.devnull)
        result = _sent(pool, work.until_there, str(tmp_path / "go"))
        assert pool.map(work.identity, range(50), 1) == list(range(50))
        assert pool.stats().tasks.running == 1
        (tmp_path / "go").touch()
        assert result.get(10)


@pytest.mark.parametrize("when", ["at once", "while somebody waits", "when the scheduler has it"])
def test_it_can_be_cancelled_while_it_runs(tmp_path: Path, when: str) -> None:
    with Pool(1) as pool:
        ready(pool)
        _one_by_one(pool, work.until_there, os.devnull)
        loan: Any = only_loan(pool)
        result = _sent(pool, work.until_there, str(tmp_path / "never"))
        if when == "while somebody waits":
            answer = loan.line.answer

            def cancelled(*arguments: Any) -> Any:
                assert result.cancel(running=True)
                return answer(*arguments)

            loan.line.answer = cancelled
        elif when == "at once":
            assert result.cancel(running=True)
        else:
            poll(lambda: pool.stats().tasks.running == 1)
            assert result.cancel(running=True)
        with pytest.raises(CancelledError):
            result.get(10)
        assert result.cancelled()
        assert pool.apply(work.identity, (1,)) == 1


def test_a_worker_that_dies_of_it_is_told(mp_context: BaseContext) -> None:
    with Pool(1, context=mp_context) as pool:
        ready(pool)
        _one_by_one(pool, work.die_of, 0)
        result = _sent(pool, work.die_of, 1)
        with pytest.raises(WorkerLostError, match="while it ran item 0 of die_of"):
            result.get(10)
        assert pool.apply(work.identity, (1,)) == 1


def test_a_worker_that_dies_before_it_begins_loses_nothing(pool: Pool) -> None:
    for number in range(5):
        poll(lambda: _is_lent(pool))
        loan = only_loan(pool)
        os.kill(loan.worker.pid, signal.SIGKILL)
        assert pool.apply_async(work.identity, (number,)).get(10) == number
        ready(pool)
        _one_by_one(pool)
    assert pool.stats().items_completed[Outcome.LOST] == 0


@pytest.mark.parametrize("how", ["close", "terminate"])
def test_a_pool_that_ends_before_it_is_collected(how: str, tmp_path: Path) -> None:
    """Close waits for the call; terminate tells of it."""
    pool = Pool(1)
    ready(pool)
    _one_by_one(pool, work.until_there, os.devnull)
    result = _sent(pool, work.until_there, str(tmp_path / "go"))
    getattr(pool, how)()
    (tmp_path / "go").touch()
    pool.join()
    if how == "close":
        assert result.get(0)
    else:
        with pytest.raises(PoolTerminatedError):
            result.get(0)
    assert result._loan is None


def test_results_that_are_kept_hold_no_descriptors(pool: Pool) -> None:
    descriptors, kept, counts = Path("/proc/self/fd"), [], []
    for _ in range(4):
        _one_by_one(pool)
        kept.append(_sent(pool, work.identity, 1))
        workers = pool._live().supervisor.workers
        before = set(workers)
        pool.recycle(0)
        poll(partial(before.isdisjoint, workers))
        ready(pool)
        counts.append(len(list(descriptors.iterdir())))
    assert all(result.get(10) == 1 for result in kept)
    assert counts[-1] <= counts[0]  # the first one brings the template


def test_a_forked_child_does_not_take_the_answer(pool: Pool) -> None:
    result = _sent(pool, work.identity, 5)
    child = os.fork()
    if not child:
        try:
            result.get(0.05)
        except MpTimeoutError:
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert result.get(10) == 5


def test_several_threads_wait_for_one_result(tmp_path: Path) -> None:
    with Pool(1) as pool, ThreadPoolExecutor(8) as threads:
        ready(pool)
        _one_by_one(pool, work.until_there, os.devnull)
        for number in range(20):
            go = tmp_path / str(number)
            result = pool.apply_async(work.until_there, (str(go),))
            answers = [threads.submit(result.get, 10) for _ in range(8)]
            go.touch()
            assert len({answer.result(10) for answer in answers}) == 1


def test_many_threads_call_one_by_one() -> None:
    """Each has its own answers, and all is counted."""

    def calls(thread: int) -> list[tuple[int, int]]:
        return [pool.apply_async(work.identity, ((thread, n),)).get(10) for n in range(200)]

    with Pool(4) as pool, ThreadPoolExecutor(8) as callers:
        ready(pool)
        for thread, answers in enumerate(callers.map(calls, range(8))):
            assert answers == [(thread, number) for number in range(200)]
        stats = pool.stats()
        assert sum(stats.tasks_submitted.values()) == sum(stats.tasks_completed.values())


@pytest.mark.usefixtures("_kept")
def test_a_call_is_over_when_its_answer_is_there_not_when_it_is_asked_for(pool: Pool) -> None:
    """Else a program that has other things to do would look like a slow pool."""
    loan = only_loan(pool)
    result = _sent(pool, work.identity, 3)
    poll(lambda: _has_answered(pool))
    asked = time.monotonic_ns()
    result.get(10)
    _, _, ended, told, *_ = loan.served[-1]
    assert told == ended < asked


def test_interrupts_anywhere() -> None:
    """An interrupted `get` loses nothing: the next one has the answer; nothing runs twice."""

    class Interrupt(BaseException):
        """As a Ctrl-C, but nobody else's."""

    def interrupt(*_: object) -> None:
        raise Interrupt

    random = Random(5)  # noqa: S311 - to be the same each time
    before = signal.signal(signal.SIGALRM, interrupt)
    interrupted = number = 0
    try:
        with Pool(1) as pool:
            ready(pool)
            _one_by_one(pool, count, -1)
            end = time.monotonic() + 1.5
            while time.monotonic() < end:
                result: Any = None
                try:
                    signal.setitimer(signal.ITIMER_REAL, random.uniform(5e-6, 3e-4))
                    for _ in range(50):
                        number += 1
                        result = None
                        result = pool.apply_async(count, (number,))
                        assert result.get() == number
                except Interrupt:
                    interrupted += 1
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    if result is not None:
                        assert result.get(10) == number
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
            runs = pool.apply(counts)
            pool.close()
            ThreadPoolExecutor(1).submit(pool.join).result(10)
            stats = pool.stats()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert interrupted > 100
    assert max(count for item, count in runs.items() if item != -1) == 1
    assert sum(stats.tasks_submitted.values()) == sum(stats.tasks_completed.values())
    assert not stats.worker_exits[ExitReason.LOST]


def test_a_signal_handler_that_calls_the_pool_behind_the_send(pool: Pool, tmp_path: Path) -> None:
    """The scheduler has the call then, and can cancel it."""
    _one_by_one(pool, work.until_there, os.devnull)
    line: Any = only_loan(pool).line
    ask = line.ask

    def interrupted(*what: Any) -> Any:
        sent = ask(*what)
        pool.stats()
        return sent

    line.ask = interrupted
    result = pool.apply_async(work.until_there, (str(tmp_path / "never"),))
    assert result.cancel(running=True)
    with pytest.raises(CancelledError):
        result.get(10)
    assert result._loan is None


class _Interrupted(dict[int, Any]):
    """A claim behind which a signal handler runs, once."""

    handler: Callable[[], object] | None = None

    def setdefault(self, key: int, default: Any = None) -> Any:
        found = super().setdefault(key, default)
        handler, self.handler = self.handler, None
        if handler is not None:
            handler()
        return found


@pytest.mark.parametrize("method", ["apply", "apply_async", "get"])
def test_a_signal_handler_that_waits_for_the_pool_behind_the_claim(pool: Pool, method: str) -> None:
    loan: Any = only_loan(pool)
    result = _sent(pool, work.identity, 1) if method == "get" else None
    loan.claim = claim = _Interrupted()
    claim.handler = lambda: pool.apply_async(work.identity, (7,)).get(10)
    if result is not None:
        assert result.get(10) == 1
    elif method == "apply":
        assert pool.apply(work.identity, (2,)) == 2
    else:
        assert pool.apply_async(work.identity, (2,)).get(10) == 2
    assert claim.handler is None


def test_a_claim_that_an_interrupted_thread_could_not_give_back(pool: Pool) -> None:
    result = _sent(pool, work.identity, 3)
    only_loan(pool).claim[0] = (threading.get_ident(),)
    began = time.monotonic()
    assert result.get(10) == 3
    assert time.monotonic() - began < 0.9  # before idle workers come back


def test_a_pool_that_ends_while_somebody_collects(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(loop, "GIVE_UP_AFTER", 0.1)
    _one_by_one(pool, work.until_there, os.devnull)
    line: Any = only_loan(pool).line
    core = pool._live()

    def late(*_: Any) -> None:
        pool.terminate()
        core.ended.wait(10)

    result = _sent(pool, work.until_there, str(tmp_path / "never"))
    line.answer = late
    with pytest.raises(PoolTerminatedError):
        result.get(10)


@pytest.mark.usefixtures("_kept")
def test_what_is_not_a_whole_answer_is_the_engines_at_once(pool: Pool) -> None:
    loan = only_loan(pool)
    result = _sent(pool, work.identity, "x" * 3000)
    poll(lambda: _has_answered(pool))
    loan.line.__class__ = _ReadsLittle
    result.ready()  # the scheduler may have it by now
    assert loan.wanted
    assert result.get(10) == "x" * 3000


class _ReadsLittle(ChannelLine):
    """Its caller gets an answer in parts."""

    def answer(self, first: int, patience: float) -> Any:
        self._sizes[:] = [100]
        return super().answer(first, patience)
