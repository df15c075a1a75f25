from __future__ import annotations

import multiprocessing
import multiprocessing.pool as mp_pool
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obspool import Pool, ThreadPool
from tests.helpers import poll
from tests.pool import work

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.context import BaseContext
    from pathlib import Path

GET = 20.0

KINDS = ("map", "starmap", "imap", "imap_unordered", "apply", "map_async", "apply_async")

# A program is some calls: which, with what (negative items raise), in chunks of how many.
CALLS = st.tuples(
    st.sampled_from(KINDS),
    st.one_of(
        st.lists(st.integers(0, 50), max_size=40),
        st.lists(st.integers(-2, 50), max_size=40),
    ),
    st.sampled_from([None, 1, 2, 3, 7, 50]),
)


def _run(pool: Any, kind: str, items: list[int], chunk: int | None) -> Any:
    """Return the call's outcome in a form that doesn't depend on which of two errors came first."""
    if kind in {"imap", "imap_unordered"}:
        found = work.drain(_iterator(getattr(pool, kind)(work.double, items, chunk or 1)))
        return sorted(found, key=repr) if kind == "imap_unordered" else found
    if kind in {"apply", "apply_async"}:
        if kind == "apply":
            return [work.outcome(lambda i=i: pool.apply(work.double, (i,))) for i in items[:5]]
        results = [pool.apply_async(work.double, (i,)) for i in items]
        return [work.outcome(lambda r=r: r.get(GET)) for r in results]
    if kind == "starmap":
        pairs = [(i, i) for i in items]
        return work.outcome(lambda: pool.starmap(work.add_positive, pairs, chunk))
    if kind == "map_async":
        return work.outcome(lambda: pool.map_async(work.double, items, chunk).get(GET))
    return work.outcome(lambda: pool.map(work.double, items, chunk))


class _Generator:
    """Gives the stdlib's generator (an imap with chunks) the face of an iterator."""

    def __init__(self, generator: Any) -> None:
        self._generator = generator

    def next(self, _: float) -> Any:
        return next(self._generator)


def _iterator(found: Any) -> Any:
    return found if hasattr(found, "next") else _Generator(found)


def _truth(kind: str, items: list[int]) -> Any:
    """Return what each item gives, whatever pool runs it."""
    single = [work.outcome(lambda i=i: work.double(i)) for i in items]
    if kind == "imap":
        return single
    if kind == "imap_unordered":
        return sorted(single, key=repr)
    if kind == "apply":
        return single[:5]
    if kind == "apply_async":
        return single
    factor = 2 if kind == "starmap" else 1
    return ("value", [value * factor for _, value in single])


def _check(kind: str, items: list[int], chunk: int | None, found: Any, *, stdlib: bool) -> None:
    failing = [i for i in items if i < 0]
    if kind in {"map", "starmap", "map_async"}:
        if failing:  # one of its errors: which, is a matter of which chunk came first
            assert found[0] == "error"
            assert found[1] in [("CustomError", (i,)) for i in failing]
        else:
            assert found == _truth(kind, items)
    elif stdlib and kind.startswith("imap") and (chunk or 1) > 1 and failing:
        # The stdlib's imap in chunks gives one error for a whole chunk, and ends there.
        assert found != _truth(kind, items) or len(items) == 1 or items[-1] < 0
    else:
        assert found == _truth(kind, items)


def test_random_programs_have_the_same_outcome_in_every_pool() -> None:
    """Any sequence of calls gives each item what it gives, in obspool's pools and the stdlib's.

    Except, on purpose: an imap with chunks goes on after an error, where the stdlib's ends.
    """
    context = multiprocessing.get_context("fork")
    with context.Pool(2) as theirs, Pool(2, context=context) as ours, ThreadPool(2) as threads:

        @given(st.lists(CALLS, min_size=1, max_size=4))
        @settings(max_examples=40, deadline=None)
        def check(program: list[tuple[str, list[int], int | None]]) -> None:
            for kind, items, chunk in program:
                for pool in (ours, threads, theirs):
                    found = _run(pool, kind, items, chunk)
                    _check(kind, items, chunk, found, stdlib=pool is theirs)

        check()


def test_the_stdlibs_imap_in_chunks_ends_at_an_error_and_this_one_does_not() -> None:
    """The difference that the property test allows, by example."""
    items = [1, -1, 2, 3]
    context = multiprocessing.get_context("fork")
    failed = ("error", ("CustomError", (-1,)))
    with context.Pool(1) as theirs, Pool(1, context=context) as ours:
        assert work.drain(_Generator(theirs.imap(work.double, items, 2))) == [failed]
        assert work.drain(ours.imap(work.double, items, 2)) == [
            ("value", 2),
            failed,
            ("value", 4),
            ("value", 6),
        ]


def test_every_call_in_every_start_method(mp_context: BaseContext) -> None:
    """The whole interface works however workers are started."""
    with Pool(2, context=mp_context) as pool:
        items = list(range(30))
        doubled = [2 * i for i in items]
        assert pool.map(work.double, items) == doubled
        assert pool.map(work.double, iter(items), 4) == doubled
        assert pool.starmap(work.add, [(1, 2), (3, 4)]) == [3, 7]
        assert pool.starmap_async(work.add, [(1, 2), (3, 4)], 2).get(GET) == [3, 7]
        assert list(pool.imap(work.double, items)) == doubled
        assert list(pool.imap(work.double, items, 7)) == doubled
        assert sorted(pool.imap_unordered(work.double, items, 7)) == doubled
        assert pool.apply(work.add, (1,), {"b": 2}) == 3
        assert pool.apply_async(work.add, (1, 2)).get(GET) == 3


@pytest.mark.parametrize("kind", ["imap", "imap_unordered"])
@pytest.mark.parametrize("chunk", [1, 5])
def test_a_result_that_cannot_be_loaded_fails_alone_in_an_imap(kind: str, chunk: int) -> None:
    """An imap gives every item an outcome, also in a chunk where one result can't be unpickled."""
    items = [0, 1, 2, -1, 4, 5, 6, 7, 8, 9]
    with Pool(1) as pool:
        found = work.drain(getattr(pool, kind)(work.unloadable, items, chunk))
    values = [value for kind, value in found if kind == "value"]
    assert values == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert [value[0] for kind, value in found if kind == "error"] == ["CustomError"]


def test_a_result_that_cannot_be_loaded_is_the_error_of_a_map() -> None:
    """The error that unpickling raised is raised by get(), and the pool works on."""
    with Pool(1) as pool:
        with pytest.raises(work.CustomError):
            pool.map(work.unloadable, [1, -1, 2])
        with pytest.raises(work.CustomError):
            pool.apply(work.unloadable, (-1,))
        assert pool.map(work.double, [1]) == [2]


@pytest.mark.parametrize("chunk", [1, 4])
def test_a_result_that_cannot_be_pickled_is_that_items_error(chunk: int) -> None:
    """MaybeEncodingError says so, and the other items of the chunk have their results."""
    with Pool(1) as pool:
        found = work.drain(pool.imap(work.unpicklable, [1, -1, 2, 3], chunk))
    assert [value for kind, value in found if kind == "value"] == [1, 2, 3]
    assert found[1][1][0] == "MaybeEncodingError"


@pytest.mark.parametrize("chunk", [1, 3])
def test_an_argument_that_cannot_be_pickled_is_that_items_error(chunk: int) -> None:
    """The items around it run."""
    items: list[Any] = [1, 2, threading.Lock(), 4, 5]
    with Pool(1) as pool:
        found = work.drain(pool.imap(work.identity, items, chunk))
        assert [value for kind, value in found if kind == "value"] == [1, 2, 4, 5]
        assert found[2][0] == "error"
        with pytest.raises(TypeError, match="pickle"):
            pool.map(work.identity, items, chunk)


def test_an_imap_may_wait_for_its_own_results() -> None:
    """A generator that needs an earlier result to make the next item does not block the pool."""
    results: list[int] = []
    called = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        called.wait(GET)
        while len(results) < 5:
            got = iterator.next(GET)
            results.append(got)
            yield got

    with Pool(2) as pool:
        iterator = pool.imap(work.double, items())
        called.set()
        poll(lambda: len(results) == 5, message=lambda: f"it got {results}")
        last = iterator.next(GET)
    assert results == [2, 4, 8, 16, 32]
    assert last == 64


def test_an_iterable_that_raises_is_an_error_at_its_place() -> None:
    """What came before it is there; nothing follows."""

    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("the disk is gone")

    with Pool(2) as pool:
        for chunk in (1, 5):
            assert work.drain(pool.imap(work.double, items(), chunk))[-1] == (
                "error",
                ("OSError", ("the disk is gone",)),
            )
        with pytest.raises(OSError, match="the disk is gone"):
            pool.map(work.double, items())


def test_errors_carry_the_workers_traceback(mp_context: BaseContext) -> None:
    """The cause of an error is the stdlib's RemoteTraceback, with the worker's lines."""
    with Pool(1, context=mp_context) as pool:
        for call in (
            lambda: pool.map(work.double, [-1]),
            lambda: pool.apply(work.double, (-1,)),
            lambda: next(pool.imap(work.double, [-1], 3)),
        ):
            with pytest.raises(work.CustomError) as caught:
                call()
            cause = caught.value.__cause__
            assert type(cause) is mp_pool.RemoteTraceback  # type: ignore[attr-defined]
            assert "in double" in str(cause)


def test_large_arguments_and_results_at_the_same_time(mp_context: BaseContext) -> None:
    """A worker that sends much while the parent sends it much: no deadlock."""
    arrays = [np.full(1 << 20, n, "f8") for n in range(6)]
    with Pool(2, context=mp_context) as pool:
        for n, array in enumerate(pool.imap(work.identity, arrays)):
            assert array[0] == array[-1] == n
            assert array.flags.writeable
        data = [bytes([n]) * (3 << 20) for n in range(4)]
        assert pool.map(work.identity, data, 2) == data


def test_what_the_caller_does_to_an_array_afterwards_does_not_reach_a_worker() -> None:
    """apply_async takes large arguments by copy: the caller may go on with them at once."""
    with Pool(1) as pool:
        array = np.zeros(4 << 20, "u1")
        results = []
        for n in range(8):
            array[:] = n
            results.append(pool.apply_async(work.identity, (array,)))
        array[:] = 99
        assert [int(r.get(GET)[-1]) for r in results] == list(range(8))


def test_tasks_share_no_argument() -> None:
    """Each item is loaded alone: what one task does to a list no other one sees."""
    shared: list[int] = []
    with Pool(1) as pool:
        results = pool.map(work.identity, [shared] * 3, 1)
    assert len({id(result) for result in results}) == 3


class Counter:
    """Has state that a call changes."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, _: Any) -> int:
        self.calls += 1
        return self.calls

    def method(self, _: Any) -> int:
        return self(_)


def test_state_of_a_callable_leaks_from_no_task_into_another(mp_context: BaseContext) -> None:
    """A callable with state, and a bound method, is loaded anew for each task."""
    counter = Counter()
    with Pool(1, context=mp_context) as pool:
        for function in (counter, counter.method):
            assert pool.map(function, range(3), 1) == [1, 1, 1]
            assert pool.map(function, range(4), 2) == [1, 2, 1, 2]
            counter.calls = 10
            assert pool.map(function, range(2), 1) == [11, 11]
            counter.calls = 0


@pytest.mark.parametrize("method", ["map_async", "apply_async"])
def test_timeouts_and_questions_of_a_result(method: str, tmp_path: Any) -> None:
    """get, wait, ready and successful are the stdlib's, before and after the result is there."""
    go = tmp_path / "go"
    argument = [str(go)] if method == "map_async" else (str(go),)
    with Pool(1) as pool:
        result = getattr(pool, method)(work.until_there, argument)
        assert not result.ready()
        with pytest.raises(multiprocessing.TimeoutError):
            result.get(0.02)
        with pytest.raises(ValueError, match="not ready"):
            result.successful()
        result.wait(0.02)
        assert not result.ready()
        go.touch()
        result.wait(GET)
        assert result.ready()
        assert result.successful()
        assert result.get() == result.get(0)


def test_next_with_a_timeout(tmp_path: Any) -> None:
    """`next` raises TimeoutError while nothing is there, and may be called again."""
    go = tmp_path / "go"
    with Pool(1) as pool:
        iterator = pool.imap(work.until_there, [str(go)])
        for _ in range(2):
            with pytest.raises(multiprocessing.TimeoutError):
                iterator.next(0.02)
        go.touch()
        assert iterator.next(GET) > 0
        with pytest.raises(StopIteration):
            iterator.next(GET)


def test_many_threads_may_call_and_consume_at_once() -> None:
    """Callers in several threads share a pool, and an imap, and lose and double nothing."""
    items = range(2000)
    with Pool(2) as pool, ThreadPool(6) as callers:
        sums = callers.map(lambda n: sum(pool.map(work.double, range(n, n + 50), 3)), items[:60], 1)
        assert sums == [sum(2 * i for i in range(n, n + 50)) for n in range(60)]
        iterator = pool.imap_unordered(work.double, items, 7)
        parts = callers.map(lambda _: [value for _, value in work.drain(iterator)], range(6), 1)
        assert sorted(value for part in parts for value in part) == [2 * i for i in items]


def _needs_the_one_before(item: tuple[str, int]) -> int:
    """Run at once, or wait until the caller has seen the result of the item before."""
    path, number = item
    if number > QUICK:
        work.until_there(f"{path}/{number - 1}")
    return number


QUICK = 100


@pytest.mark.parametrize("kind", ["imap", "imap_unordered"])
def test_an_item_may_wait_for_what_the_caller_does_with_the_one_before(
    kind: str, tmp_path: Path
) -> None:
    """No finished result is held back by an item that runs: also after many quick ones."""
    with Pool(1) as pool:
        items = [(str(tmp_path), n) for n in range(QUICK + 5)]
        iterator = getattr(pool, kind)(_needs_the_one_before, items)
        for number in range(QUICK + 5):
            assert iterator.next(3) == number
            (tmp_path / str(number)).touch()


def test_a_call_may_wait_for_what_the_caller_does_with_an_earlier_one(tmp_path: Path) -> None:
    """The same for calls of their own, which travel in one batch."""
    with Pool(1) as pool:
        items = [(str(tmp_path), n) for n in range(QUICK + 5)]
        results = [pool.apply_async(_needs_the_one_before, (item,)) for item in items]
        for number, result in enumerate(results):
            assert result.get(3) == number
            (tmp_path / str(number)).touch()
