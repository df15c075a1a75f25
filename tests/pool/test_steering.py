"""`pause`, `resume`, `resize`, and that `_processes` follows: a pool is steered while it works."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from obspool import Pool, ThreadPool
from obspool.telemetry.layout import MOST_SLOTS
from obspool.words import ExitReason, Outcome, PoolState, WorkerState
from tests.helpers import poll, process_gone
from tests.pool import work
from tests.pool.ending import ended

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext

SOON = 8.0  # seconds, on a loaded machine


def _live(pool: Pool) -> int:
    return sum(worker.state is not WorkerState.GONE for worker in pool.stats().workers)


def _begin(path: str) -> None:
    Path(path).touch()


def _hold(paths: tuple[str, str]) -> int:
    Path(paths[0]).touch()
    return work.until_there(paths[1])


# -- pause


@pytest.mark.parametrize("chunk", [1, 5])
def test_nothing_begins_in_a_paused_pool(
    mp_context: BaseContext, tmp_path: Path, chunk: int
) -> None:
    """Neither of calls that come then, nor of what was sent before; and nothing is lost."""
    go = tmp_path / "go"
    items = [(str(tmp_path / f"item-{number}"), str(go)) for number in range(20)]
    with Pool(2, context=mp_context) as pool:
        held = pool.map_async(_hold, items, chunk)
        poll(lambda: len(list(tmp_path.glob("item-*"))) == 2)
        pool.pause()
        poll(lambda: pool.stats().state is PoolState.PAUSED)
        poll(lambda: not pool.stats().tasks.dispatched)
        go.touch()
        later = pool.map_async(work.double, range(10))
        poll(lambda: not pool.stats().tasks.running)
        stats = pool.stats()
        assert sum(stats.items_completed.values()) == 2
        assert len(list(tmp_path.glob("item-*"))) == 2
        assert not later.ready()
        pool.resume()
        assert len(held.get(SOON)) == 20
        assert later.get(SOON) == [2 * item for item in range(10)]
        assert pool.stats().state is PoolState.RUNNING
        assert ended(pool).items_completed[Outcome.OK] == 30


def test_blocking_apply_waits_for_the_resume() -> None:
    """Also where its caller would have sent it to an idle worker by itself."""
    with Pool(1) as pool:
        assert [pool.apply(work.double, (1,)) for _ in range(3)] == [2, 2, 2]
        pool.pause()
        poll(lambda: pool.stats().state is PoolState.PAUSED)
        answers: list[int] = []
        caller = threading.Thread(target=lambda: answers.append(pool.apply(work.double, (2,))))
        caller.start()
        poll(lambda: pool.stats().tasks.queued == 1)
        assert not answers
        pool.resume()
        caller.join(SOON)
        assert answers == [4]


def test_a_closed_pool_stays_paused_until_it_is_resumed() -> None:
    """Whoever paused it wants it to wait; join returns when all is done."""
    pool = Pool(1)
    pool.pause()
    result = pool.map_async(work.double, range(5))
    pool.close()
    assert pool.stats().state is PoolState.PAUSED
    pool.resume()
    pool.join()
    assert result.get(0) == [0, 2, 4, 6, 8]


def test_a_paused_pool_can_be_terminated() -> None:
    """At once; `with` does so."""
    with Pool(1) as pool:
        pool.pause()
        pool.apply_async(work.double, (1,))
    pool.join()
    assert pool.stats().state is PoolState.ENDED


def test_pausing_twice_and_resuming_without_need_are_no_trouble() -> None:
    """One event each time that something changed."""
    with Pool(1) as pool:
        pool.resume()
        pool.pause()
        pool.pause()
        pool.resume()
        assert pool.apply(work.double, (1,)) == 2
        said = [event.text for event in pool.stats().events if "by the program" in event.text]
    assert said == ["pause by the program", "resume by the program"]


# -- resize


def test_more_workers(mp_context: BaseContext, tmp_path: Path) -> None:
    """They work at once, on what waits, and have rows of their own."""
    go = tmp_path / "go"
    items = [(str(tmp_path / f"item-{number}"), str(go)) for number in range(8)]
    with Pool(1, context=mp_context) as pool:
        result = pool.map_async(_hold, items, 1)
        pool.resize(4)
        poll(lambda: len(list(tmp_path.glob("item-*"))) == 4)
        assert pool._processes == 4
        go.touch()
        assert len(set(result.get(SOON))) == 4
        stats = ended(pool)
        assert stats.workers_configured == 4
        assert [worker.slot for worker in stats.workers] == [0, 1, 2, 3]
        assert sum(worker.items[Outcome.OK] for worker in stats.workers) == 8


def test_fewer_workers_end_what_they_run(mp_context: BaseContext, tmp_path: Path) -> None:
    """And nothing more; what they had not begun others run, and nothing is lost."""
    go = tmp_path / "go"
    items = [(str(tmp_path / f"item-{number}"), str(go)) for number in range(40)]
    with Pool(4, context=mp_context) as pool:
        result = pool.map_async(_hold, items, 2)
        poll(lambda: len(list(tmp_path.glob("item-*"))) == 4)
        pool.resize(1)
        poll(lambda: _states(pool)[1:] == [WorkerState.DRAINING] * 3)
        go.touch()
        assert len(result.get(SOON)) == 40
        poll(lambda: _live(pool) == 1)
        assert pool.apply(work.double, (1,)) == 2
        stats = ended(pool)
    assert stats.worker_exits[ExitReason.RESIZE] == 3
    assert stats.items_completed[Outcome.OK] == 41
    assert sum(worker.items[Outcome.OK] for worker in stats.workers) == 41
    assert all(worker.items[Outcome.OK] == 1 for worker in stats.workers[1:])


def _states(pool: Pool) -> list[WorkerState]:
    return [worker.state for worker in pool.stats().workers]


def test_a_slot_that_comes_back_goes_on_with_its_counts() -> None:
    """Down and up again, many times, under load: every item once, no process too many."""
    with Pool(2) as pool:
        results = []
        for number in range(30):
            results.append(pool.map_async(work.double, range(200), 3))
            pool.resize(number % 5 + 1)
        assert all(result.get(SOON) == [2 * item for item in range(200)] for result in results)
        pool.resize(2)
        poll(lambda: _live(pool) == 2)
        assert pool.apply(work.double, (1,)) == 2
        stats = ended(pool)
    assert stats.items_completed[Outcome.OK] == 30 * 200 + 1
    assert sum(worker.items[Outcome.OK] for worker in stats.workers) == 30 * 200 + 1
    assert not stats.worker_exits[ExitReason.LOST]
    assert all(process_gone(worker.pid) for worker in stats.workers)


def test_workers_that_start_while_they_become_superfluous_end(mp_context: BaseContext) -> None:
    """Whatever state they are in."""
    with Pool(1, context=mp_context) as pool:
        pool.resize(6)
        pool.resize(1)
        assert pool.apply(work.double, (2,)) == 4
        poll(lambda: _live(pool) == 1)
        assert not ended(pool).worker_exits[ExitReason.LOST]


def test_a_large_pool_that_forks_by_a_template_grows() -> None:
    """The template inherited the segment when it was smaller."""
    with Pool(9, maxtasksperchild=1) as pool:
        assert pool.map(work.double, range(20), 1) == [2 * item for item in range(20)]
        pool.resize(14)
        pids = pool.map(_pid_after_a_moment, range(60), 1)
        assert len(pids) == 60
        poll(lambda: _live(pool) >= 14)
        stats = ended(pool)
    assert len(stats.workers) == 14
    assert sum(worker.items[Outcome.OK] for worker in stats.workers) == 80


def _pid_after_a_moment(_: Any) -> int:
    return work.work(5)


def test_threads_are_resized_too() -> None:
    """A ThreadPool's as well."""
    with ThreadPool(1) as pool:
        gate = threading.Barrier(3)
        pool.resize(3)
        assert pool.map(lambda _: gate.wait(SOON) >= 0, range(3), 1) == [True] * 3
        pool.resize(1)
        poll(lambda: _live(pool) == 1)
        assert pool.map(work.double, range(5)) == [0, 2, 4, 6, 8]
        assert len(ended(pool).workers) == 3


def test_the_old_way_of_resizing_works() -> None:
    """Programs set `_processes`, which the stdlib's handler thread reads."""
    with Pool(1) as pool:
        pool._processes = 3
        pool._repopulate_pool()
        assert pool._processes == 3
        poll(lambda: _live(pool) == 3)
        poll(lambda: len(pool._pool) == 3)


@pytest.mark.parametrize(
    ("size", "error", "text"),
    [
        (0, ValueError, "processes must be at least 1, not 0"),
        ("3", TypeError, "processes must be an int, not str"),
        (True, TypeError, "processes must be an int, not bool"),
        (MOST_SLOTS + 1, ValueError, f"at most {MOST_SLOTS} workers, not {MOST_SLOTS + 1}"),
    ],
)
def test_sizes_that_cannot_be(size: Any, error: type[Exception], text: str) -> None:
    """Refused, and the pool is as it was."""
    with Pool(1) as pool:
        with pytest.raises(error, match=text):
            pool.resize(size)
        assert pool._processes == 1
        assert pool.apply(os.getpid) == pool.stats().workers[0].pid


def test_a_pool_that_does_not_run_is_not_steered() -> None:
    """As its other methods; but a closed one may still be resumed."""
    pool = Pool(1)
    pool.close()
    pool.join()
    for call in (pool.pause, lambda: pool.resize(2), pool.recycle):
        with pytest.raises(ValueError, match="Pool not running"):
            call()
    pool.resume()


# -- set


def test_a_lower_limit_of_tasks_is_heeded_at_once(mp_context: BaseContext, tmp_path: Path) -> None:
    """Workers that have run as many already are replaced, idle as they are; later ones as well."""
    with Pool(2, context=mp_context) as pool:
        items = [(str(tmp_path / f"item-{number}"), str(tmp_path / "go")) for number in range(2)]
        both = pool.map_async(_hold, items, 1)
        poll(lambda: len(list(tmp_path.glob("item-*"))) == 2)
        (tmp_path / "go").touch()
        both.get(SOON)
        before = {worker.pid for worker in pool.stats().workers}
        pool.set(maxtasksperchild=1)
        poll(lambda: not before & {worker.pid for worker in pool.stats().workers})
        assert len(set(pool.map(work.where, range(4), 1))) == 4
        stats = pool.stats()
        assert stats.max_tasks_per_child == 1
        assert ended(pool).worker_exits[ExitReason.TASKS] >= 2 + 2


def test_without_the_limit_workers_live_on() -> None:
    """Also those that were made with one."""
    with Pool(1, maxtasksperchild=3) as pool:
        pool.apply(work.double, (1,))
        pool.set(maxtasksperchild=None)
        pids = {pid for pid, _ in pool.map(work.where, range(50), 1)}
        assert len(pids) == 1
        stats = ended(pool)
        assert stats.max_tasks_per_child is None
        assert not stats.worker_exits[ExitReason.TASKS]


@pytest.mark.parametrize("limit", [0, -1, "3", 1.5])
def test_limits_that_cannot_be(limit: Any) -> None:
    """Refused as by the constructor."""
    with Pool(1) as pool, pytest.raises(ValueError, match="maxtasksperchild must be a positive"):
        pool.set(maxtasksperchild=limit)


def test_a_slot_that_is_still_to_come_is_recycled_without_trouble() -> None:
    """Between a resize's two halves, in the caller's thread and in the scheduler's."""
    with Pool(1) as pool:
        pool._core.supervisor.wanted = 9  # type: ignore[union-attr]
        pool.recycle(5)
        assert pool.apply(work.double, (1,)) == 2
        pool.resize(2)
        assert pool._processes == 2
        assert pool.map(work.double, range(3)) == [0, 2, 4]
