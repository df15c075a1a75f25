"""Calls of `apply_async` that share a job: each is a call of its own to whoever looks."""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from obspool import CancelledError, Pool, PoolTerminatedError, TaskTimeoutError, WorkerLostError
from obspool.streams import Stream
from obspool.words import JobKind, Outcome
from tests.helpers import poll
from tests.pool import work
from tests.pool.ending import ended

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from obspool.telemetry.snapshot import Snapshot


@pytest.fixture(name="pool")
def _pool() -> Iterator[Pool]:
    with Pool(2) as made:
        made.map(work.identity, range(8), 1)
        yield made
        stats = ended(made)
        assert sum(stats.jobs_submitted.values()) == sum(stats.jobs_completed.values())
        assert stats.jobs_in_progress == 0


def _streams(pool: Pool) -> list[Stream]:
    jobs = list(pool._live()._loop._ledger.jobs.values())
    return [job for job in jobs if isinstance(job, Stream)]


def _jobs(before: Snapshot, after: Snapshot) -> dict[Outcome, int]:
    """Return how many jobs have ended between, by outcome."""
    ended = {o: after.jobs_completed[o] - before.jobs_completed[o] for o in Outcome}
    return {outcome: number for outcome, number in ended.items() if number}


def test_calls_of_one_function_share_a_job_and_are_counted_each(pool: Pool) -> None:
    before = pool.stats()
    results = [pool.apply_async(work.identity, (number,)) for number in range(500)]
    poll(lambda: _streams(pool))
    (stream,) = _streams(pool)
    assert {result._job for result in results} <= {stream, None}
    assert [result.get(10) for result in results] == list(range(500))
    after = pool.stats()
    assert _jobs(before, after) == {Outcome.OK: 500}
    apply = JobKind.APPLY
    assert after.jobs_submitted[apply] - before.jobs_submitted[apply] == 500
    assert after.job_duration[apply].count - before.job_duration[apply].count == 500
    assert after.task_bytes != before.task_bytes
    assert _streams(pool) == [stream]  # and waits for more


def test_a_stream_costs_few_messages(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What piles up while the workers are busy goes in batches, and comes back in lots."""
    core = pool._live()
    sent: list[int] = []
    send = core.engine.send

    def noted(worker: Any, batch: Any) -> None:
        sent.append(1)
        send(worker, batch)

    monkeypatch.setattr(core.engine, "send", noted)
    results = [pool.apply_async(work.identity, (number,)) for number in range(5000)]
    assert [result.get(10) for result in results] == list(range(5000))
    assert len(sent) < 500


def test_what_is_called_first_begins_first() -> None:
    with Pool(1) as pool:
        pool.map(work.identity, range(8), 1)
        pool.pause()
        order = [pool.apply_async(work.counted) for _ in range(5)]
        order.append(pool.apply_async(work.other_counted))
        order += [pool.apply_async(work.counted) for _ in range(5)]
        mapped = pool.map_async(work.counted_item, range(3), 1)
        order += [pool.apply_async(work.counted) for _ in range(5)]
        pool.resume()
        found = [result.get(10) for result in order]
        found[11:11] = mapped.get(10)
    assert found == sorted(found)


@pytest.mark.parametrize("kwds", [{}, {"named": 3}])
def test_calls_with_and_without_keywords(pool: Pool, kwds: dict[str, int]) -> None:
    results = [pool.apply_async(work.add, (number, 1), kwds) for number in range(20)]
    assert [r.get(10) for r in results] == [n + 1 + sum(kwds.values()) for n in range(20)]


def test_progress_is_the_calls_own(pool: Pool, tmp_path: Path) -> None:
    results = [pool.apply_async(work.until_there, (str(tmp_path / "go"),)) for _ in range(4)]
    failing = pool.apply_async(work.double, (-1,))
    assert all(result.progress() == (0, 1, 0) for result in results)
    (tmp_path / "go").touch()
    for result in results:
        result.get(10)
        assert result.progress() == (1, 1, 0)
    with pytest.raises(work.CustomError):
        failing.get(10)
    assert failing.progress() == (1, 1, 1)


@pytest.mark.parametrize("which", [1, 30, 59])
def test_one_call_is_cancelled_and_its_neighbours_run(
    pool: Pool, tmp_path: Path, which: int
) -> None:
    """Whether it runs, is sent, or still waits in the pool."""
    pool.map(work.until_there, [str(tmp_path)] * 64, 1)  # fast, so that several are sent at once
    before = pool.stats()
    go = str(tmp_path / "go")
    results = [pool.apply_async(work.until_there, (go,)) for _ in range(60)]
    poll(lambda: pool.stats().tasks.running == 2)
    assert results[which].cancel(running=True)
    with pytest.raises(CancelledError):
        results[which].get(10)
    assert results[which].cancelled()
    assert not results[which].cancel()
    (tmp_path / "go").touch()
    assert all(result.get(20) for n, result in enumerate(results) if n != which)
    assert _jobs(before, pool.stats()) == {Outcome.OK: 59, Outcome.CANCELLED: 1}


def test_all_calls_are_cancelled_one_by_one(pool: Pool, tmp_path: Path) -> None:
    go = str(tmp_path / "go")
    results = [pool.apply_async(work.until_there, (go,)) for _ in range(2000)]
    poll(lambda: pool.stats().tasks.running == 2)
    for result in results:
        result.cancel()
    (tmp_path / "go").touch()
    ended = [work.outcome(result.get) for result in results]
    assert {kind for kind, _ in ended} == {"value", "error"}
    assert sum(kind == "value" for kind, _ in ended) < 100


def test_a_call_appended_to_a_stream_that_has_ended_runs(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its caller was about to append when another call ended the stream."""
    pool.apply_async(work.identity, (0,)).get(10)
    core, (stream,) = pool._live(), _streams(pool)
    pool.map(work.identity, range(4))
    pool.apply_async(work.double, (0,)).get(10)
    poll(lambda: stream not in _streams(pool))
    assert stream.fed
    monkeypatch.setattr(core.singles, "stream", stream)
    assert pool.apply_async(work.identity, (7,)).get(10) == 7


def test_arguments_that_cant_be_pickled_fail_their_call_alone(pool: Pool) -> None:
    lock: Any = threading.Lock()
    results = [pool.apply_async(work.identity, (n if n != 3 else lock,)) for n in range(6)]
    for number, result in enumerate(results):
        if number == 3:
            with pytest.raises(TypeError, match="pickle"):
                result.get(10)
        else:
            assert result.get(10) == number


def test_large_arguments_and_functions_by_value_go_their_own_way(pool: Pool) -> None:
    results = [pool.apply_async(work.identity, (bytes(n * 3000),)) for n in range(5)]
    lambdas = [pool.apply_async(lambda x, n=n: x + n, (1,)) for n in range(5)]
    assert [len(result.get(10)) for result in results] == [0, 3000, 6000, 9000, 12000]
    assert [result.get(10) for result in lambdas] == [1, 2, 3, 4, 5]


def test_callbacks_come_before_their_results(pool: Pool) -> None:
    told: list[int] = []
    results = [
        pool.apply_async(work.identity, (n,), callback=told.append if n % 2 else None)
        for n in range(100)
    ]
    for number, result in enumerate(results):
        assert result.get(10) == number
        assert not number % 2 or number in told
    assert sorted(told) == list(range(1, 100, 2))


def test_a_worker_that_dies_takes_only_what_ran(pool: Pool) -> None:
    results = [pool.apply_async(work.die_of, (int(n == 40),)) for n in range(80)]
    found = [work.outcome(result.get) for result in results]
    lost = [n for n, (kind, _) in enumerate(found) if kind == "error"]
    assert 40 in lost
    with pytest.raises(WorkerLostError, match="die_of"):
        results[40].get()


def test_terminate_tells_all_of_them() -> None:
    with Pool(1) as pool:
        results = [pool.apply_async(work.work, (50,)) for _ in range(200)]
        poll(lambda: pool.stats().tasks.running == 1)
        pool.terminate()
        found = [work.outcome(result.get) for result in results]
        assert found[-1][0] == "error"
        with pytest.raises(PoolTerminatedError):
            results[-1].get()


def test_an_idle_stream_is_nothing_left_to_do() -> None:
    """A pool that is terminated when it has nothing to do has finished."""
    pool = Pool(1)
    assert pool.apply_async(os.getpid).get(10)
    assert pool.stats().tasks.queued == 0
    pool.terminate()
    pool.join()
    assert pool.stats().outcome == "finished"


def test_many_threads_append_to_one_stream(pool: Pool) -> None:
    start = threading.Barrier(8)

    def calls(thread: int) -> list[Any]:
        start.wait()
        return [pool.apply_async(work.identity, ((thread, n),)) for n in range(500)]

    with ThreadPoolExecutor(8) as callers:
        for thread, results in enumerate(callers.map(calls, range(8))):
            assert [result.get(10) for result in results] == [(thread, n) for n in range(500)]


class _Slow:
    """Arguments that take long to pickle, and say when that begins."""

    def __init__(self, began: threading.Event, go: threading.Event) -> None:
        self.began, self.go = began, go

    def __reduce__(self) -> Any:
        self.began.set()
        assert self.go.wait(10)
        return int, (2,)


def test_a_pool_that_is_closed_while_a_call_is_pickled_takes_it_and_ends() -> None:
    pool = Pool(1)
    began, go = threading.Event(), threading.Event()
    with ThreadPoolExecutor(1) as caller:
        called = caller.submit(pool.apply_async, work.identity, (_Slow(began, go),))
        assert began.wait(10)
        pool.close()
        go.set()
        assert called.result(10).get(10) == 2
        with pytest.raises(ValueError, match="Pool not running"):
            pool.apply_async(work.identity, (1,))
        caller.submit(pool.join).result(10)


def test_a_callable_is_let_go_with_its_calls(pool: Pool) -> None:
    """Also without the garbage collector: it may have a model for its state."""
    gc.disable()
    try:
        owner = work.Owner()
        assert pool.apply_async(owner.method, (1,)).get(10) == 1
        gone = weakref.ref(owner)
        del owner
        poll(lambda: gone() is None)
    finally:
        gc.enable()


def test_a_timeout_is_the_calls_own() -> None:
    """Of two that are sent together."""
    with Pool(1) as pool:
        pool.map(time.sleep, [0.0] * 8, 1)
        pool.pause()
        timed = pool.apply_async(time.sleep, (2.0,), timeout=0.2)
        free = pool.apply_async(time.sleep, (0.6,))
        pool.resume()
        with pytest.raises(TaskTimeoutError):
            timed.get(10)
        assert free.get(10) is None


@pytest.mark.parametrize("step", [1, -1])
def test_thousands_of_calls_are_cancelled_in_either_order(pool: Pool, step: int) -> None:
    pool.pause()
    results = [pool.apply_async(work.identity, (number,)) for number in range(10_000)]
    began = time.monotonic()
    for result in results[::step]:
        result.cancel()
    poll(lambda: pool.stats().jobs_in_progress == 0)  # it doesn't wait for long
    assert time.monotonic() - began < 5
    pool.resume()


def test_progress_of_what_never_ran(pool: Pool) -> None:
    assert pool.map_async(work.identity, []).progress() == (0, 0, 0)
    unsendable = pool.apply_async(work.identity, (threading.Lock(),))
    unsendable.wait(10)
    assert unsendable.progress() == (1, 1, 1)


def test_a_function_that_can_not_be_pickled_any_more_is_the_outcome(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its name has become another's, and by value it can't be sent: `get` says so, as at first."""
    monkeypatch.setattr(work, "guarded", _guarded, raising=False)
    with Pool(1) as pool:
        _guarded.__module__, _guarded.__qualname__ = work.__name__, "guarded"
        assert pool.apply_async(_guarded, (1,)).get(20) == 1
        monkeypatch.setattr(work, "guarded", work.double)
        result = pool.apply_async(_guarded, (1,))
        with pytest.raises(TypeError, match="pickle"):
            result.get(20)


_LOCK = threading.Lock()


def _guarded(item: int, _lock: Any = _LOCK) -> int:
    return item
