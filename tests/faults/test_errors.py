"""What user code raises, wherever it runs, is the affair of its item or call alone."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from obspool import Pool
from tests.faults import deeds
from tests.pool import work
from tests.pool.ending import ended

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.context import BaseContext

GET = 20.0


@pytest.fixture(name="pool")
def _pool_of_two(mp_context: BaseContext) -> Iterator[Pool]:
    """A pool that loses no worker, and whose counts add up."""
    with Pool(2, context=mp_context) as made:
        pids = {process.pid for process in made._pool}
        yield made
        assert made.map(work.double, range(5), 1) == [0, 2, 4, 6, 8]
        assert {process.pid for process in made._pool} == pids
        ended(made)


def _taken(iterator: Any, count: int) -> list[Any]:
    """Return what so many calls of `next` gave: values, and the names of what was raised."""
    found: list[Any] = []
    for _ in range(count):
        try:
            found.append(iterator.next(GET))
        except BaseException as error:
            found.append(type(error).__name__)
    return found


@pytest.mark.parametrize("name", deeds.RAISED)
def test_whatever_an_item_raises_is_its_error(pool: Pool, name: str) -> None:
    error = type(deeds.RAISED[name])
    with pytest.raises(error):
        pool.apply_async(deeds.raise_named, (name,)).get(GET)
    with pytest.raises(error):
        pool.map_async(deeds.raise_named, [1, name, 3], 1).get(GET)


@pytest.mark.parametrize("chunk", [1, 3])
@pytest.mark.parametrize("name", deeds.RAISED)
def test_an_imap_raises_it_once_and_goes_on(pool: Pool, name: str, chunk: int) -> None:
    items = [1, name, 3, 4, name, 6]
    found = _taken(pool.imap(deeds.raise_named, items, chunk), len(items))
    assert found == items
    unordered = _taken(pool.imap_unordered(deeds.raise_named, items, chunk), len(items))
    assert sorted(map(str, unordered)) == sorted(map(str, items))


@pytest.mark.parametrize("chunk", [1, 3])
def test_stop_iteration_from_an_item_hides_no_other(pool: Pool, chunk: int) -> None:
    results = pool.imap(deeds.stop_iteration, range(6), chunk)
    assert _taken(results, 6) == [0, 1, "RuntimeError", 3, 4, 5]
    with pytest.raises(StopIteration):
        pool.map_async(deeds.stop_iteration, range(6), chunk).get(GET)


@pytest.mark.parametrize("which", ["odd", "locked", "silent"])
def test_an_error_that_cannot_travel_is_an_error_of_its_item(pool: Pool, which: str) -> None:
    """Whether it can't be pickled, unpickled or shown."""
    for chunk in (1, 4):
        found = pool.map_async(
            deeds.raise_odd, [1, 2, which, 4, 5], chunk, return_exceptions=True
        ).get(GET)
        assert isinstance(found.pop(2), Exception)
        assert found == [1, 2, 4, 5]
    result = pool.apply_async(deeds.raise_odd, (which,))
    result.wait(GET)
    assert not result.successful()


@pytest.mark.parametrize("which", ["unloadable", "unpicklable"])
def test_a_result_that_cannot_travel_is_an_error_of_its_item(pool: Pool, which: str) -> None:
    items = [1, 2, which, 4, 5]
    found = work.drain(pool.imap(deeds.return_odd, items))
    assert [value for kind, value in found if kind == "value"] == [1, 2, 4, 5]
    assert found[2][0] == "error"
    with pytest.raises(Exception, match=r"loaded|pickle"):
        pool.map_async(deeds.return_odd, items, 1).get(GET)


def test_a_result_whose_pickling_exits_ends_no_other(mp_context: BaseContext) -> None:
    """The worker may go, as if the item had called sys.exit; the call has an error."""
    with Pool(1, context=mp_context) as pool:
        found = work.drain(pool.imap(deeds.return_odd, [1, "leaving", 3, 4]))
        assert [kind for kind, _ in found] == ["value", "error", "value", "value"]
        assert pool.apply_async(work.double, (4,)).get(GET) == 8


def test_one_argument_of_many_that_cannot_be_pickled(pool: Pool) -> None:
    items: list[Any] = [*range(100), threading.Lock(), *range(100)]
    for chunk in (1, 30):
        found = pool.map_async(work.identity, items, chunk, return_exceptions=True).get(GET)
        assert isinstance(found.pop(100), TypeError)
        assert found == [*range(100), *range(100)]
        taken = work.drain(pool.imap(work.identity, items, chunk))
        assert taken.pop(100)[0] == "error"
        assert [value for _, value in taken] == [*range(100), *range(100)]
    with pytest.raises(TypeError, match="pickle"):
        pool.map_async(work.identity, items, 1).get(GET)


def test_an_argument_whose_pickling_exits(pool: Pool) -> None:
    """The exit is the caller's where it pickles itself, and an outcome where it doesn't."""
    with pytest.raises(SystemExit):
        pool.map(work.identity, [1, deeds.Leaving()], 1)
    with pytest.raises(SystemExit):
        pool.apply(work.identity, (deeds.Leaving(),))
    taken = _taken(pool.imap(work.identity, [1, deeds.Leaving()]), 2)
    assert taken == [1, "SystemExit"]


@pytest.mark.parametrize("error", [work.CustomError("callback"), SystemExit(3), deeds.AnyError()])
def test_a_callback_that_raises_is_its_calls_error_and_counted(
    mp_context: BaseContext, error: BaseException
) -> None:
    def fail(_: Any) -> None:
        raise error

    with Pool(1, context=mp_context) as pool:
        for result in (
            pool.apply_async(work.double, (1,), callback=fail),
            pool.map_async(work.double, [1, -1], error_callback=fail),
        ):
            with pytest.raises(type(error)):
                result.get(GET)
        seen: list[int] = []
        assert pool.apply_async(work.double, (2,), callback=seen.append).get(GET) == 4
        assert seen == [4]
        assert ended(pool).callback_errors == 2


class Iterables:
    """Iterables that a call may be given."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.results: Any = None
        self.has_results = threading.Event()
        self.got: list[int] = []

    def raises(self) -> Iterator[int]:
        yield from range(5)
        raise work.CustomError("the disk is gone")

    def blocks(self) -> Iterator[int]:
        yield 0
        self.go.wait(GET)
        yield 1

    def needs_earlier_results(self) -> Iterator[int]:
        yield 1
        self.has_results.wait(GET)
        for _ in range(4):
            self.got.append(self.results.next(GET))
            yield self.got[-1]
        self.go.set()


@pytest.mark.parametrize("chunk", [1, 3])
def test_an_iterable_that_raises_is_one_error_behind_what_it_gave(pool: Pool, chunk: int) -> None:
    for call in (pool.imap, pool.imap_unordered):
        found = work.drain(call(work.double, Iterables().raises(), chunk))
        # As in the stdlib, a chunk that wasn't complete isn't run.
        values = sorted(v for kind, v in found if kind == "value")
        assert values == [0, 2, 4, 6, 8][: 5 // chunk * chunk]
        assert [v for kind, v in found if kind == "error"] == [
            ("CustomError", ("the disk is gone",))
        ]
    with pytest.raises(work.CustomError, match="disk"):
        pool.map(work.double, Iterables().raises(), chunk)


def test_an_iterable_that_blocks_delays_nobody_else(pool: Pool) -> None:
    source = Iterables()
    results = pool.imap(work.identity, source.blocks())
    assert results.next(GET) == 0
    assert pool.map_async(work.double, range(20), 1).get(GET) == [2 * n for n in range(20)]
    source.go.set()
    assert results.next(GET) == 1


@pytest.mark.parametrize("size", [None, 2])
def test_an_iterable_may_wait_for_its_calls_earlier_results(pool: Pool, size: int | None) -> None:
    """Also where hardly more is read than was taken."""
    source = Iterables()
    source.results = pool.imap(work.double, source.needs_earlier_results(), buffersize=size)
    source.has_results.set()
    assert source.go.wait(GET)
    assert source.got == [2, 4, 8, 16]
    assert work.drain(source.results) == [("value", 32)]
