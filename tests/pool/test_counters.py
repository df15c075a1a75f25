"""A program's own counters: exact, wherever they are added to, and bounded."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import pytest

import obspool
from obspool import Pool, ThreadPool, WorkerLostError, counter
from tests.helpers import poll
from tests.pool import measured, work

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext


def test_all_workers_count_through_all_generations(mp_context: BaseContext) -> None:
    """The sum over workers that were recycled, one that died, the hooks, and the parent."""
    with Pool(
        2,
        measured.start_counting,
        maxtasksperchild=40,
        context=mp_context,
        finalizer=measured.start_counting,
    ) as pool:
        pool.map(measured.count, range(100), 1)
        pool.map(measured.count, range(300), 25)
        list(pool.imap_unordered(measured.count, range(50)))
        assert pool.apply(measured.count, (7,)) == 7
        with pytest.raises(WorkerLostError):
            pool.apply(measured.count_or_die, ("_exit",))
        counter("calls").add(1000)
        pool.close()
        pool.join()
        stats = pool.stats()
    assert stats.user_counters["calls"] == 100 + 300 + 50 + 1 + 1 + 1000
    assert stats.user_counters["sum"] == sum(range(100)) + sum(range(300)) + sum(range(50)) + 7
    ready = sum(worker.generation for worker in stats.workers)
    finalized = ready - 1  # the one that died
    assert stats.user_counters["hooks"] == ready + finalized


def test_threads_count_on_their_own_pool() -> None:
    """Two ThreadPools at work, and the program's own threads: the newest pool's."""
    with ThreadPool(2) as first, ThreadPool(2) as second:
        first.map(measured.count, range(200), 1)
        second.map(measured.count, range(100), 7)
        thread = threading.Thread(target=counter("calls").add, args=(5,))
        thread.start()
        thread.join()
        assert first.stats().user_counters == {"calls": 200, "sum": sum(range(200))}
        assert second.stats().user_counters == {"calls": 105, "sum": sum(range(100))}


def test_a_counter_in_use_keeps_no_pool_waiting() -> None:
    """A signal's handler may interrupt an addition, and wait for the pool."""
    with Pool(1) as pool:
        counter("ours").add()
        book = pool._core._loop._book  # type: ignore[union-attr]
        with book._lock:
            assert pool.apply_async(measured.count, (7,)).get(10) == 7
            assert pool.stats().user_counters == {"ours": 1}
        assert pool.stats().user_counters == {"ours": 1, "calls": 1, "sum": 7}


def test_a_callback_counts_on_the_pool_that_calls_it() -> None:
    """Not on the newest one."""
    with Pool(1) as first, Pool(1) as second:
        first.apply_async(work.double, (1,), callback=counter("called").add).get(20)
        counter("called").inc(10)
        assert first.stats().user_counters == {"called": 2}
        assert second.stats().user_counters == {"called": 10}


def test_what_a_running_item_counts_is_seen_before_it_ends() -> None:
    """A counter is for looking at long work: its words are written at once."""
    with Pool(1) as pool:
        pool.map_async(count_and_wait, [0])
        poll(lambda: pool.stats().user_counters.get("rows") == 12)


def count_and_wait(_: object) -> None:
    counter("rows").add(12)
    work.signal_less_wait()


def test_a_child_of_a_worker_counts_nothing() -> None:
    """It has a copy of the worker's words, but one writer is enough."""
    with Pool(1) as pool:
        pool.map(measured.count_in_a_child, range(3), 1)
        assert pool.stats().user_counters == {"calls": 3, "sum": 3}


def test_a_name_told_while_results_are_encoded_arrives() -> None:
    """The lock of the outbox is held then: the name goes with the results."""
    with Pool(1) as pool:
        assert pool.map(measured.counts_when_pickled, range(4), 4) == [0] * 4
        assert pool.stats().user_counters == {"pickled": 4}


def test_without_a_pool_nothing_happens() -> None:
    """Before, after, and outside of any."""
    counter("rows").add(3)
    with Pool(1) as pool:
        counter("rows").add(4)
        pool.close()
        pool.join()
        counter("rows").add(5)
        assert pool.stats().user_counters == {"rows": 4}


@pytest.mark.parametrize("make", [Pool, ThreadPool])
def test_there_is_room_for_sixteen_names(
    make: type[Pool], caplog: pytest.LogCaptureFixture
) -> None:
    """The others are counted nowhere, which is said once; the sixteen stay exact."""
    with make(2) as pool, caplog.at_level(logging.WARNING, "obspool"):
        pool.map(measured.count_names, [20] * 10, 1)
        pool.map(measured.count_names, [16] * 10, 1)
        poll(lambda: len(pool.stats().user_counters) == 16)
        found = pool.stats().user_counters
    expected = {f"name_{index}": index * 20 for index in range(16)}
    assert found == expected
    (warning,) = [r.getMessage() for r in caplog.records if "counters" in r.getMessage()]
    assert "room for 16 counters" in warning


@pytest.mark.parametrize("name", ["", "1st", "a-b", "rows_total", "größe", "x" * 65, "a b"])
def test_what_is_no_name_is_refused(name: str) -> None:
    """At once, where it is made, with what would be one."""
    with pytest.raises(ValueError, match="not a counter's name"):
        counter(name)


def test_what_is_no_amount_is_refused() -> None:
    """A counter never falls, and counts whole things."""
    for wrong in (1.5, "1", True, None):
        with pytest.raises(TypeError, match="whole number"):
            counter("rows").add(wrong)  # type: ignore[arg-type]
    for wrong in (-1, 1 << 63):
        with pytest.raises(ValueError, match="never falls"):
            counter("rows").add(wrong)
    assert repr(counter("rows")) == "obspool.counter('rows')"
    assert isinstance(counter("rows"), obspool.Counter)
