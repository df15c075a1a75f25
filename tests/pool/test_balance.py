from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from obspool import Pool, ThreadPool
from obspool.words import ExitReason, Outcome
from tests.helpers import poll
from tests.pool import work

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext
    from pathlib import Path


def _stored(item: tuple[str, int]) -> int:
    """Hold the first item of each chunk's worker until all the others have run."""
    path, number = item
    if number == 0:
        return work.until_there(path)
    return number


def test_no_item_waits_behind_a_slow_one_in_its_chunk(
    mp_context: BaseContext, tmp_path: Path
) -> None:
    """The rest of a chunk whose first item never ends is taken over by an idle worker."""
    go = tmp_path / "go"
    items = [(str(go), number) for number in range(20)]
    with Pool(2, context=mp_context) as pool:
        iterator = pool.imap_unordered(_stored, items, 20)
        others = sorted(iterator.next(20) for _ in range(19))
        assert others == list(range(1, 20))
        go.touch()
        assert iterator.next(20) > 0
        assert pool.stats().tasks_stolen > 0


def test_no_task_waits_behind_a_slow_one_in_its_batch(
    mp_context: BaseContext, tmp_path: Path
) -> None:
    """Quick tasks sent to a worker together with a slow one run elsewhere."""
    go = tmp_path / "go"
    with Pool(2, context=mp_context) as pool:
        pool.map(work.identity, range(2000), 1)  # so that tasks are known to be quick
        items = [(str(go), number) for number in range(300)]
        iterator = pool.imap_unordered(_stored, items)
        assert sorted(iterator.next(20) for _ in range(299)) == list(range(1, 300))
        go.touch()
        assert iterator.next(20) > 0


def test_what_waits_behind_a_slow_item_is_not_begun_last(tmp_path: Path) -> None:
    """Others take it over while they still have enough to do: else it would end last, too."""
    go = tmp_path / "go"
    items = [(str(go), number) for number in range(400)]
    with Pool(2) as pool:
        iterator = pool.imap_unordered(_stored_slowly, items, 10)
        order = [iterator.next(20) for _ in range(399)]
        go.touch()
        assert iterator.next(20) > 0
    assert max(map(order.index, range(1, 10))) < 300


def _stored_slowly(item: tuple[str, int]) -> int:
    work.work(2)
    return _stored(item)


@pytest.mark.parametrize("chunk", [None, 1, 10])
def test_skewed_work_gives_every_result_once_and_in_order(
    mp_context: BaseContext, chunk: int | None
) -> None:
    """Whatever is taken from whom, a map's results are complete and in order."""
    items = [20.0 if n % 40 == 0 else 0.1 for n in range(120)]
    with Pool(2, context=mp_context) as pool:
        assert len(pool.map(work.work, items, chunk)) == 120
        assert pool.map(_skewed, range(120), chunk) == list(range(120))
        pool.close()
        pool.join()
        stats = pool.stats()
    assert stats.items_completed[Outcome.OK] == stats.items_submitted == 240
    assert sum(w.items[Outcome.OK] for w in stats.workers) == 240


def _skewed(item: int) -> int:
    work.work(15 if item % 40 == 0 else 0.1)
    return item


def test_without_balance_a_chunk_stays_whole_in_one_worker(mp_context: BaseContext) -> None:
    """balance=False: each chunk runs in one process, in order, as in the stdlib."""
    with Pool(2, context=mp_context, balance=False) as pool:
        found = pool.map(_where_skewed, range(40), 10)
    for chunk in (found[n : n + 10] for n in range(0, 40, 10)):
        assert len({pid for pid, _, _ in chunk}) == 1
        starts = [start for _, start, _ in chunk]
        assert starts == sorted(starts)
    assert [item for _, _, item in found] == list(range(40))


def _where_skewed(item: int) -> tuple[int, int, int]:
    import os  # noqa: PLC0415 - in a worker
    import time  # noqa: PLC0415

    start = time.monotonic_ns()
    work.work(20 if item < 5 else 0.1)
    return os.getpid(), start, item


def test_an_item_runs_once_however_often_work_moves(tmp_path: Path) -> None:
    """Each item leaves its own mark in a file: none is missing, none twice."""
    log = tmp_path / "log"
    log.touch()
    with Pool(3) as pool:
        pool.map(_append, [(str(log), n) for n in range(400)])
    ran = sorted(int(line) for line in log.read_text().splitlines())
    assert ran == list(range(400))


def _append(item: tuple[str, int]) -> None:
    path, number = item
    work.work(5 if number % 100 < 3 else 0.05)
    with open(path, "a") as stream:  # noqa: PTH123 - one write, which O_APPEND makes whole
        stream.write(f"{number}\n")


def test_threads_balance_too(tmp_path: Path) -> None:
    """Stealing is above the engine: threads give work back as processes do."""
    go = tmp_path / "go"
    with ThreadPool(2) as pool:
        iterator = pool.imap_unordered(_stored, [(str(go), n) for n in range(20)], 20)
        assert sorted(iterator.next(20) for _ in range(19)) == list(range(1, 20))
        go.touch()
        assert iterator.next(20) > 0


@pytest.mark.parametrize("chunk", [1, 5])
def test_maxtasksperchild_counts_chunks(mp_context: BaseContext, chunk: int) -> None:
    """A worker ends after so many tasks, each of them a chunk, not after so many items."""
    with Pool(1, maxtasksperchild=2, context=mp_context) as pool:
        pids = [pid for pid, _ in pool.map(work.where, range(4 * chunk), chunk)]
        pool.close()
        pool.join()
        stats = pool.stats()
    assert len(set(pids)) == 2
    assert len(set(pids[: 2 * chunk])) == 1
    assert stats.worker_exits[ExitReason.TASKS] == 2
    assert stats.worker_exits[ExitReason.LOST] == 0
    # A successor is started before its predecessor is gone, unless the pool has been closed.
    assert stats.workers[0].restarts in {1, 2}


def test_recycling_under_load_loses_nothing(mp_context: BaseContext) -> None:
    """Workers come and go in the midst of a long imap: every item has one result."""
    count = 300 if mp_context.get_start_method() == "fork" else 40
    limit = 5
    with Pool(2, maxtasksperchild=limit, context=mp_context) as pool:
        found = list(pool.imap_unordered(work.where, range(count)))
        pool.close()
        pool.join()
        stats = pool.stats()
    assert sorted(item for _, item in found) == list(range(count))
    by_worker: dict[int, int] = {}
    for pid, _ in found:
        by_worker[pid] = by_worker.get(pid, 0) + 1
    assert max(by_worker.values()) <= limit
    assert stats.worker_exits[ExitReason.LOST] == 0
    assert stats.items_completed[Outcome.OK] == count


def test_a_planned_exit_is_never_taken_for_a_loss_whoever_else_collects_children() -> None:
    """A program that asks for its children's states in a thread of its own changes no exit."""
    import multiprocessing  # noqa: PLC0415
    import threading  # noqa: PLC0415

    stop = threading.Event()

    def ask() -> Any:
        while not stop.is_set():
            multiprocessing.active_children()

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        with Pool(3, maxtasksperchild=1) as pool:
            for _ in range(5):
                assert pool.map(work.double, range(20), 1) == [2 * i for i in range(20)]
            pool.close()
            pool.join()
            stats = pool.stats()
    finally:
        stop.set()
        thread.join()
    assert stats.worker_exits[ExitReason.LOST] == 0
    assert stats.worker_exits[ExitReason.TASKS] >= 98


def test_what_a_worker_gave_back_goes_to_another() -> None:
    """Who is long in receiving it, or stopped, would get it again and again, for ever."""
    with Pool(2) as pool:
        pool.map(work.identity, range(64), 1)
        slow = pool._pool[0].pid
        try:
            os.kill(slow, signal.SIGSTOP)
            result = pool.map_async(work.identity, ["a", "b"], 2)
            # What it might have begun it keeps; the other item runs elsewhere.
            poll(lambda: sum(pool.stats().items_completed.values()) >= 65)
            os.kill(slow, signal.SIGCONT)
            assert result.get(10) == ["a", "b"]
            os.kill(slow, signal.SIGSTOP)
            assert pool.map_async(work.identity, ["c", "d"], 2).get(10) == ["c", "d"]
        finally:
            os.kill(slow, signal.SIGCONT)
