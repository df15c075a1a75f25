"""What stats() counts, against what is known to have happened."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obspool import Pool, Snapshot, ThreadPool, WorkerLostError
from obspool.words import ExitReason, JobKind, Outcome, PoolOutcome, PoolState
from tests.helpers import poll
from tests.pool import work

if TYPE_CHECKING:
    from collections.abc import Iterable
    from multiprocessing.context import BaseContext
    from pathlib import Path


def assert_law(stats: Snapshot) -> None:
    """Law: submitted = queued + outstanding + completed, over the parent's own counts."""
    submitted = sum(stats.tasks_submitted.values())
    there = stats.tasks.queued + stats.tasks.dispatched + stats.tasks.running
    assert submitted == there + sum(stats.tasks_completed.values())


def counts(**values: int) -> dict[Outcome, int]:
    return {outcome: values.get(outcome.value, 0) for outcome in Outcome}


def added(rows: Iterable[Any]) -> dict[Outcome, int]:
    found = list(rows)
    return {outcome: sum(row[outcome] for row in found) for outcome in Outcome}


def ended(pool: Pool) -> Snapshot:
    pool.close()
    pool.join()
    stats = pool.stats()
    assert_law(stats)
    return stats


def test_what_items_raised_last(mp_context: BaseContext) -> None:
    """Of each worker, with the function and the item; also results that can't be sent."""
    with Pool(1, context=mp_context, describe="number {}".format) as pool:
        work.outcome(lambda: pool.apply(work.double, (-1,)))
        pool.map(work.double, [3, -4, 5], 3, return_exceptions=True)
        work.outcome(lambda: pool.map(work.unsendable, [6], 1))
        (worker,) = ended(pool).workers
    told = [(error.function, error.item) for error in worker.errors]
    assert told == [
        ("double", "number -1"), ("double", "number -4"), ("unsendable", "number 6")
    ]  # fmt: skip
    assert [error.text for error in worker.errors[:2]] == ["CustomError: -1", "CustomError: -4"]
    assert worker.errors[2].text.startswith("MaybeEncodingError: Error sending result")


def test_what_items_of_threads_raised_last() -> None:
    """The same words in the segment."""
    with ThreadPool(1) as pool:
        work.outcome(lambda: pool.apply(work.double, (-1,)))
        (worker,) = ended(pool).workers
    assert [error.text for error in worker.errors] == ["CustomError: -1"]


def test_counts_after_the_end_are_exact(mp_context: BaseContext) -> None:
    """Jobs, tasks and items by kind and outcome; the workers' own counts add up to the same."""
    with Pool(2, context=mp_context, balance=False) as pool:
        pool.map(work.double, range(100), 10)
        pool.map(work.double, range(7), 1)
        pool.starmap(work.add, [(1, 2)] * 9, 2)
        work.outcome(lambda: pool.map(work.double, [1, 2, -1, 4, 5, 6], 6))
        work.drain(pool.imap(work.double, [1, -1, 2], 1))
        work.drain(pool.imap_unordered(work.double, [1, -1, 2, -2], 4))
        pool.apply(work.double, (1,))
        work.outcome(lambda: pool.apply(work.double, (-1,)))
        stats = ended(pool)
    assert stats.state is PoolState.ENDED
    assert stats.outcome is PoolOutcome.FINISHED
    assert stats.jobs_submitted == {
        JobKind.MAP: 3,
        JobKind.STARMAP: 1,
        JobKind.IMAP: 1,
        JobKind.IMAP_UNORDERED: 1,
        JobKind.APPLY: 2,
    }
    assert stats.jobs_completed == counts(ok=4, error=4)
    assert stats.jobs_in_progress == 0
    assert stats.tasks_submitted == {
        JobKind.MAP: 10 + 7 + 1,
        JobKind.STARMAP: 5,
        JobKind.IMAP: 3,
        JobKind.IMAP_UNORDERED: 1,
        JobKind.APPLY: 2,
    }
    assert stats.tasks_completed == counts(ok=10 + 7 + 5 + 2 + 1, error=1 + 1 + 1 + 1)
    items = counts(ok=100 + 7 + 9 + 2 + 2 + 2 + 1, error=1 + 1 + 2 + 1, skipped=3)
    assert stats.items_completed == items
    assert stats.items_submitted == sum(items.values())
    assert added(worker.items for worker in stats.workers) == items
    assert added(worker.tasks for worker in stats.workers) == stats.tasks_completed
    assert stats.worker_exits == {**dict.fromkeys(ExitReason, 0), ExitReason.SHUTDOWN: 2}
    assert [worker.restarts for worker in stats.workers] == [0, 0]
    assert {job.kind for job in stats.jobs} == set(JobKind) - {JobKind.APPLY}
    assert set(stats.item_run) >= {"double", "add"}
    assert stats.item_run["add"].count == 9


def test_counts_of_threads_are_exact_too() -> None:
    """The thread engine's workers write the same rows."""
    with ThreadPool(2) as pool:
        pool.map(work.double, range(50), 5)
        work.drain(pool.imap(work.double, [1, -1, 2]))
        stats = ended(pool)
    assert stats.facts.engine == "threads"
    assert stats.items_completed == counts(ok=52, error=1)
    assert added(worker.items for worker in stats.workers) == counts(ok=52, error=1)
    assert stats.worker_exits[ExitReason.SHUTDOWN] == 2


CALLS = st.tuples(
    st.sampled_from(["map", "imap", "imap_unordered"]),
    st.lists(st.integers(-1, 9), max_size=25),
    st.integers(1, 8),
)


@given(st.lists(CALLS, max_size=4), st.sampled_from([None, 1, 3]), st.booleans())
@settings(max_examples=12, deadline=None)
def test_counts_of_random_programs_add_up(
    program: list[tuple[str, list[int], int]], limit: int | None, balance: bool
) -> None:
    """Whatever was stolen and recycled: parent and workers agree on every count, to the last."""
    with Pool(2, maxtasksperchild=limit, balance=balance) as pool:
        for kind, items, chunk in program:
            if kind == "map":
                work.outcome(lambda i=items, c=chunk: pool.map(work.double, i, c))
            else:
                work.drain(getattr(pool, kind)(work.double, items, chunk))
        stats = ended(pool)
    assert stats.items_submitted == sum(len(items) for _, items, _ in program)
    assert sum(stats.items_completed.values()) == stats.items_submitted
    assert added(worker.items for worker in stats.workers) == stats.items_completed
    assert added(worker.tasks for worker in stats.workers) == stats.tasks_completed
    assert stats.worker_exits[ExitReason.LOST] == 0
    jobs = {job.id: job for job in stats.jobs}
    assert sum(job.items_done for job in jobs.values()) == stats.items_submitted


@pytest.mark.parametrize("chunk", [1, 4])
def test_workers_and_parent_agree_on_results_that_could_not_be_pickled(chunk: int) -> None:
    """Such an item is an error in the parent's counts and in its worker's."""
    with Pool(1) as pool:
        work.drain(pool.imap(work.unpicklable, [1, -1, 2, 3], chunk))
        stats = ended(pool)
    assert stats.items_completed == counts(ok=3, error=1)
    assert added(worker.items for worker in stats.workers) == stats.items_completed
    assert added(worker.tasks for worker in stats.workers) == stats.tasks_completed


def test_a_pool_at_work_shows_what_it_does(tmp_path: Path) -> None:
    """Four numbers that never overlap say where tasks are; a busy worker names its function."""
    go = tmp_path / "go"
    with Pool(2, name="at work", maxtasksperchild=50) as pool:
        result = pool.map_async(work.until_there, [str(go)] * 10, 1)
        poll(lambda: pool.stats().tasks.running == 2)
        stats = pool.stats()
        assert_law(stats)
        assert stats.alive
        assert stats.state is PoolState.RUNNING
        assert stats.outcome is None
        assert stats.jobs_in_progress == 1
        assert stats.max_tasks_per_child == 50
        assert stats.tasks.queued + stats.tasks.dispatched == 8
        assert stats.queue_oldest_time is not None
        assert [worker.function for worker in stats.workers] == ["until_there"] * 2
        assert {worker.pid for worker in stats.workers} == {p.pid for p in pool._pool}
        go.touch()
        result.get(20)
        stats = ended(pool)
    assert stats.tasks.queued == stats.tasks.running == stats.tasks.dispatched == 0
    assert stats.queue_oldest_time is None
    json.dumps(stats.as_dict())


def test_the_law_holds_all_along() -> None:
    """Every snapshot taken during a busy map obeys it."""
    with Pool(2) as pool:
        result = pool.map_async(work.work, [0.2] * 4000, 1)
        seen = 0
        while not result.ready():
            assert_law(pool.stats())
            seen += 1
        assert seen > 3


def test_results_nobody_has_asked_for_yet_are_counted() -> None:
    """Tasks done whose results wait in an imap are a stage of their own."""
    with Pool(2) as pool:
        iterator = pool.imap(work.double, range(10))
        poll(lambda: pool.stats().tasks.result == 10)
        assert list(iterator) == [2 * i for i in range(10)]
        poll(lambda: pool.stats().tasks.result == 0)


def test_exits_are_counted_by_reason_and_told_as_events() -> None:
    """A loss, planned exits, the end: each by its reason, each an event with pid and slot."""
    with Pool(1, maxtasksperchild=1) as pool:
        pool.map(work.double, range(3), 1)
        with pytest.raises(WorkerLostError):
            pool.apply(work.die, ("_exit",))
        pool.map(work.double, range(2), 1)
        stats = ended(pool)
    assert stats.worker_exits[ExitReason.TASKS] == 5
    assert stats.worker_exits[ExitReason.LOST] == 1
    assert stats.items_completed == counts(ok=5, lost=1)
    assert stats.tasks_completed == counts(ok=5, lost=1)
    exits = [event for event in stats.events if event.kind.value == "worker_exited"]
    assert len(exits) == sum(stats.worker_exits.values())
    (lost,) = (event for event in exits if "lost" in event.text)
    assert "exit code 7" in lost.text
    assert (lost.slot, lost.pid > 0) == (0, True)


def test_terminated_with_work_pending_is_abandoned_and_its_items_are_cancelled(
    tmp_path: Path,
) -> None:
    """What never ran is counted as cancelled; the law holds to the end."""
    with Pool(2) as pool:
        pool.map_async(work.until_there, [str(tmp_path / "never")] * 7, 1)
        poll(lambda: pool.stats().tasks.running == 2)
    pool.join()
    stats = pool.stats()
    assert_law(stats)
    assert stats.outcome is PoolOutcome.ABANDONED
    assert stats.items_completed == counts(cancelled=7)
    assert stats.jobs_completed == counts(cancelled=1)
    assert stats.worker_exits[ExitReason.SHUTDOWN] == 2


def test_a_pool_left_with_nothing_pending_is_finished() -> None:
    """`with Pool()` ends through terminate(), which is a healthy end when all is done."""
    with Pool(1) as pool:
        pool.apply(work.double, (1,))
    pool.join()
    assert pool.stats().outcome is PoolOutcome.FINISHED


def test_a_killed_idle_worker_is_replaced_and_counted(mp_context: BaseContext) -> None:
    """Nobody's item is lost; the slot has its next generation."""
    import os  # noqa: PLC0415

    with Pool(2, context=mp_context) as pool:
        pool.map(work.double, range(4), 1)
        before = {p.pid for p in pool._pool}
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        poll(lambda: len(after := {p.pid for p in pool._pool}) == 2 and victim not in after)
        assert pool.map(work.double, range(10), 1) == [2 * i for i in range(10)]
        stats = ended(pool)
    assert stats.worker_exits[ExitReason.LOST] == 1
    assert stats.items_completed[Outcome.LOST] == 0
    assert sorted(worker.restarts for worker in stats.workers) == [0, 1]
