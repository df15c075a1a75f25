"""What a call may ask for: retries, exceptions as results, a bounded read-ahead."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from obspool import Pool, PoolTerminatedError, ThreadPool, WorkerLostError
from obspool.words import ExitReason, JobKind, Outcome
from tests.helpers import poll
from tests.pool import work
from tests.pool.ending import ended

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.context import BaseContext


def _die_until(argument: tuple[str, int, int]) -> int:
    """Kill the worker as often as the folder says, for the item that it is about."""
    folder, item, deaths = argument
    if item == 5:
        marks = Path(folder)
        if len(list(marks.iterdir())) < deaths:
            (marks / str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return item


# -- retries


@pytest.mark.parametrize("chunk", [1, 4, 12])
def test_an_item_lost_with_its_worker_runs_again(
    mp_context: BaseContext, tmp_path: Path, chunk: int
) -> None:
    items = [(str(tmp_path), item, 1) for item in range(12)]
    with Pool(2, context=mp_context) as pool:
        assert pool.map(_die_until, items, chunk, retries=1) == list(range(12))
        stats = ended(pool)
    assert stats.items_retried >= 1
    assert stats.items_completed == {**stats.items_completed, Outcome.OK: 12, Outcome.LOST: 0}
    assert stats.worker_exits[ExitReason.LOST] == 1


@pytest.mark.parametrize("chunk", [1, 4, 12])
def test_a_poison_item_is_given_up_and_takes_nothing_with_it(tmp_path: Path, chunk: int) -> None:
    """It runs by itself when it runs again: so its neighbours' results are safe."""
    items = [(str(tmp_path), item, 99) for item in range(12)]
    with Pool(2) as pool:
        found = work.drain(pool.imap(_die_until, items, chunk, retries=2))
        assert [value for kind, value in found if kind == "value"] == [
            item for item in range(12) if item != 5
        ]
        ((name, (text,)),) = [value for kind, value in found if kind == "error"]
        assert name == "WorkerLostError"
        assert "while it ran item 5" in text
        assert "had been lost 2 times before" in text
        stats = ended(pool)
    assert len(list(tmp_path.iterdir())) == 3
    assert stats.items_completed[Outcome.LOST] == 1
    assert stats.worker_exits[ExitReason.LOST] == 3


def test_apply_is_retried_too(tmp_path: Path) -> None:
    with Pool(1) as pool:
        pool.map(_die_until, [(str(tmp_path), 0, 0)] * 4, 1)  # so that apply is sent directly
        assert pool.apply(_die_until, ((str(tmp_path), 0, 0),)) == 0
        poll(pool._live()._loop.loans.lent)
        assert pool.apply(_die_until, ((str(tmp_path), 5, 2),), retries=2) == 5
        result = pool.apply_async(_die_until, ((str(tmp_path), 5, 99),), retries=1)
        with pytest.raises(WorkerLostError, match="lost once before"):
            result.get(10)


def test_without_retries_nothing_runs_twice(tmp_path: Path) -> None:
    with Pool(2) as pool:
        with pytest.raises(WorkerLostError):
            pool.map(_die_until, [(str(tmp_path), item, 1) for item in range(12)], 1)
        assert pool.stats().items_retried == 0


def test_an_error_of_an_item_is_not_retried(tmp_path: Path) -> None:
    with Pool(1) as pool:
        with pytest.raises(work.CustomError):
            pool.map(work.double, [-1], retries=5)
        assert pool.stats().items_retried == 0
    assert not list(tmp_path.iterdir())


_WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"retries": -1}, ValueError, "retries must be at least 0, not -1"),
    ({"retries": "3"}, TypeError, "retries must be an int, not str"),
    ({"retries": True}, TypeError, "retries must be an int, not bool"),
]
_WRONG_SIZES: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"buffersize": 0}, ValueError, "buffersize must be at least 1, not 0"),
    ({"buffersize": 1.5}, TypeError, "buffersize must be an int, not float"),
]


@pytest.mark.parametrize(("terms", "error", "text"), _WRONG)
def test_what_cannot_be_asked_for(terms: dict[str, Any], error: type[Exception], text: str) -> None:
    with ThreadPool(1) as pool:
        calls: list[Callable[[], Any]] = [
            lambda: pool.apply(work.identity, (1,), **terms),
            lambda: pool.apply_async(work.identity, (1,), **terms),
            lambda: pool.map(work.identity, [1], **terms),
            lambda: pool.starmap_async(work.identity, [(1,)], **terms),
            lambda: pool.imap(work.identity, [1], **terms),
        ]
        for call in calls:
            with pytest.raises(error, match=text):
                call()


@pytest.mark.parametrize(("terms", "error", "text"), _WRONG_SIZES)
def test_sizes_that_cannot_be(terms: dict[str, Any], error: type[Exception], text: str) -> None:
    with ThreadPool(1) as pool:
        for call in (pool.imap, pool.imap_unordered):
            with pytest.raises(error, match=text):
                call(work.identity, [1], **terms)


# -- exceptions as results


def _shown(values: list[Any]) -> list[Any]:
    return [type(value).__name__ if isinstance(value, Exception) else value for value in values]


def _trouble(item: Any) -> Any:
    if item == "lambda":
        return threading.Lock()
    if item == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    return work.double(item)


@pytest.mark.parametrize("chunk", [1, 3, 9])
@pytest.mark.parametrize("method", ["map", "map_async", "imap", "imap_unordered"])
def test_exceptions_take_their_items_places(
    mp_context: BaseContext, method: str, chunk: int
) -> None:
    """One bad item doesn't discard the others, also those behind it in its chunk."""
    items = [1, -1, 2, 3, "lambda", 4, 5, -2, 6]
    expected = [2, "CustomError", 4, 6, "MaybeEncodingError", 8, 10, "CustomError", 12]
    with Pool(2, context=mp_context) as pool:
        called = getattr(pool, method)(_trouble, items, chunk, return_exceptions=True)
        found = called.get(10) if method == "map_async" else list(called)
        stats = ended(pool)
    if method == "imap_unordered":
        assert sorted(map(str, _shown(found))) == sorted(map(str, expected))
    else:
        assert _shown(found) == expected
        assert "in double" in str(found[1].__cause__)
    assert stats.items_completed[Outcome.SKIPPED] == 0
    assert stats.items_completed[Outcome.ERROR] == 3


def test_a_lost_worker_is_such_an_exception_too() -> None:
    with Pool(2) as pool:
        found = pool.map(_trouble, [1, "kill", 2, 3], 1, return_exceptions=True)
    assert isinstance(found[1], WorkerLostError)
    assert [value for value in found if isinstance(value, int)] == [2, 4, 6]


def test_what_cannot_be_loaded_or_sent_is_one_item(mp_context: BaseContext) -> None:
    items = [work.Unloadable(), 1, threading.Lock(), 2]
    with Pool(1, context=mp_context) as pool:
        found = pool.map(work.identity, items, 1, return_exceptions=True)
    assert [isinstance(value, Exception) for value in found] == [True, False, True, False]
    assert found[1::2] == [1, 2]


def test_a_callback_gets_the_list_and_the_call_succeeds() -> None:
    got: list[Any] = []
    with Pool(1) as pool:
        result = pool.starmap_async(
            work.add_positive, [(1, 2), (1, -2)], callback=got.append, return_exceptions=True
        )
        values = result.get(10)
        assert result.successful()
    assert got == [values]
    assert _shown(values) == [6, "CustomError"]


def test_the_pools_end_is_nobodys_result(tmp_path: Path) -> None:
    with Pool(1) as pool:
        result = pool.map_async(
            work.until_there, [str(tmp_path / "never")] * 3, 1, return_exceptions=True
        )
        lazy = pool.imap(work.identity, [1], return_exceptions=True)
        poll(lambda: pool.stats().tasks.running == 1)
        pool.terminate()
        with pytest.raises(PoolTerminatedError):
            result.get(10)
        with pytest.raises(PoolTerminatedError):
            next(lazy)


def test_threads_return_exceptions_as_well() -> None:
    with ThreadPool(2) as pool:
        assert _shown(pool.map(work.double, [1, -1, 2], 3, return_exceptions=True)) == [
            2,
            "CustomError",
            4,
        ]


# -- a bounded read-ahead


def _feeders() -> set[threading.Thread]:
    return {t for t in threading.enumerate() if t.name.startswith("obspool-feeder")}


class _Counted:
    """An endless iterable that knows how much was read of it."""

    def __init__(self) -> None:
        self.read = 0

    def __iter__(self) -> Iterator[int]:
        for number in itertools.count():
            self.read += 1
            yield number


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
@pytest.mark.parametrize(("chunk", "size"), [(1, 1), (1, 10), (5, 10), (7, 3), (4, 9)])
def test_no_more_is_read_than_was_asked_for(method: str, chunk: int, size: int) -> None:
    """And all that is read is run, also when a task doesn't fit the rest of the buffer."""
    source = _Counted()
    with Pool(2) as pool:
        results = getattr(pool, method)(work.identity, source, chunk, buffersize=size)
        found = []
        for taken in range(200):
            found.append(next(results))
            assert source.read <= taken + 1 + max(size, chunk)
        if method == "imap":
            assert found == list(range(200))
        else:
            assert len(set(found)) == 200


def test_a_dropped_iterator_ends_the_reading() -> None:
    """So an endless iterable doesn't keep a pool from ending."""
    before = _feeders()
    source = _Counted()
    with Pool(2) as pool:
        results = pool.imap(work.identity, source, buffersize=10)
        assert next(results) == 0
        del results
        assert ended(pool).jobs_submitted[JobKind.IMAP] == 1
    assert source.read <= 21
    assert not _feeders() - before


def test_terminate_ends_a_reading_that_waits_for_room() -> None:
    before = _feeders()
    with Pool(1) as pool:
        results = pool.imap_unordered(work.identity, _Counted(), buffersize=3)
        assert next(results) >= 0
        pool.terminate()
        pool.join()
        poll(lambda: not _feeders() - before)
        assert all(isinstance(v, int | PoolTerminatedError) for v in _values(results))


def _values(results: Any) -> Iterator[Any]:
    while True:
        try:
            yield next(results)
        except StopIteration:
            return
        except PoolTerminatedError as error:
            yield error


def test_several_threads_may_take_from_a_bounded_iterator() -> None:
    """Each item that is taken makes room once: else the reading would stop before its end."""
    with Pool(2) as pool, ThreadPoolExecutor(4) as consumers:
        results = pool.imap(work.identity, range(3000), buffersize=5)
        found = [
            value for values in consumers.map(lambda _: list(results), range(4)) for value in values
        ]
    assert sorted(found) == list(range(3000))
