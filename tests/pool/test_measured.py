"""Each metric of time, size and memory against the truth, which is known from the work done."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import psutil
import pytest

from obspool import Pool, ThreadPool
from obspool.words import Direction, ExitReason, IdleReason, JobKind, Outcome
from tests.helpers import poll
from tests.pool import measured, work

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.context import BaseContext
    from pathlib import Path

    from obspool import Snapshot
    from obspool.telemetry.snapshot import Histogram

# More than the scheduler's rounds and a loaded machine need to notice what happened.
SOON = 0.4


def buckets(histogram: Histogram) -> dict[float, int]:
    """Return the counts of the buckets that have any, by upper bound."""
    bounds = (*histogram.bounds, float("inf"))
    return {bound: n for bound, n in zip(bounds, histogram.counts, strict=True) if n}


def ended(pool: Pool) -> Snapshot:
    pool.close()
    pool.join()
    return pool.stats()


def test_a_mixed_load_is_counted_to_the_last(mp_context: BaseContext) -> None:
    """With workers recycled, killed and resized, and work stolen, lost and run again."""
    with Pool(2, maxtasksperchild=30, context=mp_context) as pool:
        skewed = [50_000] * 3 + [1] * 117  # microseconds: what is behind the slow ones is stolen
        first = pool.map_async(measured.count_or_die, skewed, 40)
        pool.resize(3)
        second = pool.imap_unordered(measured.count_or_die, range(100))
        work.drain(second)
        first.get(30)
        deadly = [*range(10), "kill", *range(10)]
        third = work.drain(pool.imap(measured.count_or_die, deadly, retries=1))
        assert [kind for kind, _ in third].count("error") == 1
        failed = work.outcome(lambda: pool.map(measured.count_or_die, [1, -1, 2], 3))
        assert failed[0] == "error"
        pool.resize(1)
        assert pool.apply(measured.count_or_die, (4,)) == 8
        stats = ended(pool)
    ran = {o: n for o, n in stats.items_completed.items() if o is not Outcome.SKIPPED}
    lost = stats.items_completed[Outcome.LOST]
    assert sum(stats.items_completed.values()) == 120 + 100 + 21 + 3 + 1
    # Each item counts as it begins; what was lost with a worker ran once more.
    assert stats.user_counters["calls"] == sum(ran.values()) + stats.items_retried
    assert {kind: histogram.count for kind, histogram in stats.job_duration.items()} == {
        JobKind.APPLY: 1,
        JobKind.MAP: 2,
        JobKind.STARMAP: 0,
        JobKind.IMAP: 1,
        JobKind.IMAP_UNORDERED: 1,
    }
    # As they were asked for: 3 chunks of 40, one of 3, and single ones.
    assert buckets(stats.task_items) == {64: 3, 4: 1, 1: 100 + 21 + 1}
    assert stats.task_items.sum == stats.items_submitted == 120 + 100 + 21 + 3 + 1
    assert stats.worker_lifetime_tasks.count == sum(stats.worker_exits.values())
    assert stats.worker_lifetime_tasks.sum == sum(stats.tasks_completed.values()) - lost
    assert stats.worker_exits[ExitReason.LOST] == 2
    assert stats.worker_exits[ExitReason.TASKS] >= 3
    # Fewer than 30, where some of a worker's last ones were stolen.
    assert all(bound <= 32 for bound in buckets(stats.worker_lifetime_tasks))


def test_each_chunk_is_counted_with_the_items_it_had(mp_context: BaseContext) -> None:
    """The last one of a job has fewer."""
    with Pool(2, context=mp_context) as pool:
        pool.map(work.double, range(1000), 100)
        pool.map(work.double, range(10), 4)
        list(pool.imap(work.double, range(50), 20))
        work.drain(pool.imap(work.identity, [1, 2, open, 4, 5], 5))
        stats = ended(pool)
    expected = Counter([100] * 10 + [4, 4, 2] + [20, 20, 10] + [5])
    assert stats.task_items.count == expected.total()
    assert stats.task_items.sum == sum(size * n for size, n in expected.items())


def test_an_item_that_cannot_be_pickled_is_a_task_of_one() -> None:
    """The others of its chunk run one by one."""
    with Pool(1) as pool:
        work.drain(pool.imap(work.identity, [1, 2, threading.Lock(), 4, 5, 6], 4))
        stats = ended(pool)
    assert buckets(stats.task_items) == {1: 4, 2: 1}


def test_bytes_are_those_of_the_pickles(mp_context: BaseContext) -> None:
    """Each way, of each item of its own; large buffers are counted too."""
    items = [b"x" * (7 * number) for number in range(300)]
    large = bytearray(1 << 20)
    with Pool(2, context=mp_context, maxtasksperchild=100) as pool:
        pool.map(len, items, 1)
        list(pool.imap(work.identity, items))
        size = pool.apply(len, (pickle.PickleBuffer(large),))
        stats = ended(pool)
    plain = sum(len(pickle.dumps(item, 5)) for item in items)
    lengths = sum(len(pickle.dumps(len(item), 5)) for item in items)
    found = stats.task_bytes
    assert size == 1 << 20
    assert plain * 2 + (1 << 20) <= found[Direction.IN] < plain * 2 + (1 << 20) + 500
    assert found[Direction.OUT] == plain + lengths + len(pickle.dumps(size, 5))


@pytest.mark.parametrize("chunksize", [1, 5])
def test_pickling_is_timed_on_both_sides(chunksize: int) -> None:
    """Items and results that take 3 ms each way: 40 of them, in single tasks and in chunks."""
    with Pool(2) as pool:
        # The upper bound is for a loaded machine: one that is timed may stand for sixteen.
        results = pool.map_async(work.identity, [measured.Slow() for _ in range(40)], chunksize)
        results.get(30)
        seconds = ended(pool).serialize_seconds
    least = 40 * measured.MILLISECONDS
    for taken in (seconds.parent_dump, seconds.parent_load):
        assert least <= taken < 15 * least
    for taken in (seconds.worker_dump, seconds.worker_load):
        assert least <= taken < 15 * least


def test_unpickling_after_the_end_is_timed_too() -> None:
    """A program may ask for its results when the pool is gone."""
    with Pool(1) as pool:
        result = pool.apply_async(work.identity, (measured.Slow(),))
        iterator = pool.imap(work.identity, [measured.Slow() for _ in range(3)])
        assert ended(pool).serialize_seconds.parent_load == 0
        result.get(20)
        assert pool.stats().serialize_seconds.parent_load >= measured.MILLISECONDS
        assert len(list(iterator)) == 3
        assert pool.stats().serialize_seconds.parent_load >= 4 * measured.MILLISECONDS


def test_threads_pickle_nothing() -> None:
    """Neither bytes nor time; all else is counted as with processes."""
    with ThreadPool(2) as pool:
        pool.map(work.double, range(100), 1)
        pool.map(work.double, range(100), 10)
        stats = ended(pool)
    seconds = stats.serialize_seconds
    assert not any((seconds.parent_dump, seconds.parent_load))
    assert not any((seconds.worker_dump, seconds.worker_load))
    assert not any(stats.task_bytes.values())
    assert buckets(stats.task_items) == {1: 100, 16: 10}
    assert stats.worker_lifetime_tasks.count == 2
    assert stats.worker_memory_growth == 0


def passed(pool: Pool, reason: IdleReason, seconds: float) -> float:
    """Wait until so much idle time has come for the reason; return how long that took."""
    before, began = pool.stats().idle_seconds[reason], time.monotonic()
    poll(lambda: pool.stats().idle_seconds[reason] - before >= seconds)
    return time.monotonic() - began


def test_idle_time_is_told_by_reason(tmp_path: Path) -> None:
    """Three workers: with nothing to do, with one task left, paused, without enough to read."""
    go = tmp_path / "go"
    with Pool(3, balance=False) as pool:
        pool.map(work.double, range(30), 1)
        # With nothing to do, three worker-seconds pass a second.
        assert passed(pool, IdleReason.NO_WORK, 0.9) == pytest.approx(0.3, abs=SOON)
        result = pool.map_async(work.until_there, [str(go)], 1)
        poll(lambda: pool.stats().tasks.running == 1)
        assert passed(pool, IdleReason.TAIL, 0.6) == pytest.approx(0.3, abs=SOON)
        pool.pause()
        poll(lambda: pool.stats().state.value == "paused")
        assert passed(pool, IdleReason.PAUSED, 0.6) == pytest.approx(0.3, abs=SOON)
        pool.resume()
        go.touch()
        result.get(20)

        def slowly() -> Iterator[int]:
            poll((tmp_path / "more").exists, deadline=20)
            yield 1

        iterator = pool.imap(work.double, slowly())
        assert passed(pool, IdleReason.STARVED, 0.9) == pytest.approx(0.3, abs=SOON)
        (tmp_path / "more").touch()
        assert list(iterator) == [2]
        assert ended(pool).idle_seconds[IdleReason.RECYCLING] > 0


def test_idle_and_busy_time_make_up_all_there_is() -> None:
    """Over a load with recycling: each slot's time is idle for one reason, or busy."""
    with Pool(2, maxtasksperchild=20) as pool:
        began = time.monotonic()
        first = sum(pool.stats().idle_seconds.values())
        for _ in range(10):
            pool.map(work.work, [2] * 40, 1)
            pool.apply(work.work, (2,))
        stats = pool.stats()
        taken = 2 * (time.monotonic() - began)
    idle = sum(stats.idle_seconds.values()) - first
    busy = sum(worker.busy_seconds for worker in stats.workers)
    assert busy >= 410 * 0.002
    # What travels is neither; and a call may have been sent before the parent's thread knew.
    assert 0.3 * taken < idle + busy < 1.1 * taken
    assert stats.idle_seconds[IdleReason.RECYCLING] > 0
    assert stats.idle_seconds[IdleReason.PAUSED] == 0


def test_a_worker_that_a_caller_gave_work_itself_is_not_idle(tmp_path: Path) -> None:
    """The parent's thread hears of it later, and then knows since when."""
    go = tmp_path / "go"
    with Pool(1) as pool:
        for _ in range(5):
            pool.apply(work.double, (1,))
            pool.apply(work.until_there, (str(tmp_path),))
        before = pool.stats().idle_seconds
        result = pool.apply_async(work.until_there, (str(go),))
        began = time.monotonic()
        poll(lambda: time.monotonic() - began > 0.5)
        go.touch()
        result.get(20)
        after = pool.stats().idle_seconds
    assert sum(after.values()) - sum(before.values()) < 0.3


def test_a_slot_without_a_ready_worker_is_recycling(tmp_path: Path) -> None:
    """From a worker's death until its successor is ready, here after a slow initializer."""
    with Pool(1, work.until_there, (str(tmp_path / "go"),)) as pool:
        assert passed(pool, IdleReason.RECYCLING, 0.3) == pytest.approx(0.3, abs=SOON)
        (tmp_path / "go").touch()
        pool.apply(work.double, (1,))
        before = pool.stats().idle_seconds
        (tmp_path / "go").unlink()
        os.kill(pool._pool[0].pid, signal.SIGKILL)
        assert passed(pool, IdleReason.RECYCLING, 0.3) == pytest.approx(0.3, abs=SOON)
        (tmp_path / "go").touch()
        pool.apply(work.double, (1,))
        assert pool.stats().idle_seconds[IdleReason.STARVED] - before[IdleReason.STARVED] < SOON


def test_the_schedulers_time_is_that_of_its_thread() -> None:
    """As the kernel tells it of the thread with that number."""
    with Pool(2) as pool:
        for _ in range(10):
            pool.map(work.identity, range(20_000), 1)
        thread = next(t for t in threading.enumerate() if "obspool-scheduler" in t.name)
        busy = pool.stats().scheduler_busy_seconds
        known = {t.id: t.user_time + t.system_time for t in psutil.Process().threads()}
        assert busy > 0.05
        assert busy == pytest.approx(known[thread.native_id or 0], abs=0.1)


def test_jobs_take_as_long_as_their_callers_wait(tmp_path: Path) -> None:
    """By the kind of the call."""
    with Pool(2) as pool:
        result = pool.starmap_async(work.until_there, [(str(tmp_path / "go"),)] * 3)
        began = time.monotonic()
        poll(lambda: time.monotonic() - began > 0.3)
        (tmp_path / "go").touch()
        result.get(20)
        waited = time.monotonic() - began
        stats = ended(pool)
    taken = stats.job_duration[JobKind.STARMAP]
    assert taken.count == 1
    assert 0.3 <= taken.sum <= waited + SOON
    assert stats.job_duration[JobKind.MAP].count == 0


def test_memory_that_planned_exits_leave_behind_is_summed_up(mp_context: BaseContext) -> None:
    """Two workers that leak 4 times 8 MiB each, and are replaced then."""
    with Pool(1, maxtasksperchild=4, context=mp_context) as pool:
        assert len(set(pool.map(measured.keep, [8] * 8, 1))) == 2
        stats = ended(pool)
    assert 64 << 20 <= stats.worker_memory_growth < 110 << 20


def test_memory_of_a_killed_worker_is_the_last_that_was_seen(tmp_path: Path) -> None:
    """It can't say itself what it had."""
    with Pool(1) as pool:
        pool.apply_async(measured.keep_and_wait, (str(tmp_path / "never"),))
        poll(lambda: pool.stats().workers[0].memory_growth >= 48 << 20)
        os.kill(pool._pool[0].pid, signal.SIGKILL)
        poll(lambda: pool.stats().worker_exits[ExitReason.LOST] == 1)
        assert 48 << 20 <= pool.stats().worker_memory_growth < 80 << 20
