"""What a given work costs, as far as it can be counted: messages, pickles, copies, wake-ups."""

from __future__ import annotations

import gc
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from obspool import Pool, wire
from obspool.engines.processes import ProcessEngine
from obspool.loop import Loop
from obspool.results import MapResult
from obspool.words import Direction
from tests.pool import work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Counts:
    """How often the parent does something, and with what."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.calls: Counter[str] = Counter()
        self.arguments: dict[str, list[tuple[Any, ...]]] = {}

    def count(self, owner: type, name: str, *, static: bool = False) -> None:
        """Count the calls of a method from now on."""
        method: Callable[..., Any] = getattr(owner, name)
        kept = self.arguments[name] = []

        def counted(*arguments: Any, **named: Any) -> Any:
            self.calls[name] += 1
            kept.append(arguments)
            return method(*arguments, **named)

        self._monkeypatch.setattr(owner, name, staticmethod(counted) if static else counted)


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    found = Counts(monkeypatch)
    found.count(ProcessEngine, "encode", static=True)
    found.count(ProcessEngine, "decode", static=True)
    found.count(ProcessEngine, "send")
    found.count(Loop, "_round")
    found.count(MapResult, "receive")
    return found


@pytest.fixture
def pool(counts: Counts) -> Iterator[Any]:
    """A pool that knows how long `work.identity` takes, and has nothing to do."""
    with Pool(2) as pool:
        pool.map(work.identity, range(2000), 1)
        counts.calls.clear()
        for kept in counts.arguments.values():
            kept.clear()
        yield pool


def test_items_of_their_own_travel_by_the_hundred(counts: Counts, pool: Any) -> None:
    """20,000 tasks of one item: a pickle each way for each, but few messages and few wake-ups."""
    assert pool.map(work.identity, range(20_000), 1) == list(range(20_000))
    assert counts.calls["encode"] == 20_000
    assert counts.calls["decode"] == 20_000
    assert counts.calls["send"] < 400
    assert counts.calls["receive"] < 1000
    assert counts.calls["_round"] < 1500


def test_calls_travel_by_the_hundred(counts: Counts, pool: Any) -> None:
    """20,000 calls of a function: a pickle each way for each, but few messages and few wake-ups."""
    counts.count(ProcessEngine, "wake")
    pool.pause()
    results = [pool.apply_async(work.identity, (number,)) for number in range(20_000)]
    assert counts.calls["wake"] < 100
    pool.resume()
    assert [result.get() for result in results] == list(range(20_000))
    assert counts.calls["encode"] == 20_000
    assert counts.calls["decode"] == 20_000
    assert counts.calls["send"] < 200
    assert counts.calls["_round"] < 1000


def test_a_call_is_one_object_to_the_collector(pool: Any) -> None:
    """Its result: beside it, and in it, there is nothing to look at."""
    pool.apply_async(work.identity, (0,)).get()
    pool.pause()
    gc.collect()
    before = len(gc.get_objects())
    results = [pool.apply_async(work.identity, (number,)) for number in range(2000)]
    gc.collect()
    assert len(gc.get_objects()) - before < 2200
    pool.resume()
    assert [result.get() for result in results] == list(range(2000))
    gc.collect()
    assert len(gc.get_objects()) - before < 2200


def test_a_default_map_takes_a_pickle_for_each_chunk(counts: Counts, pool: Any) -> None:
    """Eight chunks: results come back as lists, a few more when work is moved at the end."""
    items = list(range(200_000))
    assert pool.map(work.identity, items) == items
    assert counts.calls["encode"] == 8
    assert counts.calls["decode"] < 60
    assert counts.calls["send"] < 40
    assert counts.calls["_round"] < 300


def test_a_range_travels_as_a_range(counts: Counts) -> None:
    """Of a million numbers not one is pickled; what else has them is cut up as ever."""
    with Pool(2) as pool:
        assert pool.map(work.identity, range(3, 1_000_003, 2)) == list(range(3, 1_000_003, 2))
        assert pool.stats().task_bytes[Direction.IN] < 1000
        assert pool.map(work.identity, range(10, 0, -1), 4) == list(range(10, 0, -1))
        iterator = pool.imap(work.identity, range(100), 7)
        assert list(iterator) == list(range(100))
        bounded = pool.imap(work.identity, range(100), 7, buffersize=14)
        assert list(bounded) == list(range(100))


def test_large_bytes_are_sent_from_where_they_are(
    counts: Counts, pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a copy is made between the caller's object and the socket."""
    counts.count(wire.Sender, "add")
    data = bytes(1_000_000)
    assert pool.apply(len, (data,)) == len(data)
    ((_, parts),) = counts.arguments["add"]
    assert sum(part is data for part in parts) == 1
    assert counts.calls["encode"] == counts.calls["decode"] == 1


def test_an_array_that_its_caller_waits_for_is_not_copied(counts: Counts, pool: Any) -> None:
    """It is sent from its own memory."""
    import numpy as np  # noqa: PLC0415 - not in the workers of the others

    counts.count(wire.Sender, "add")
    array = np.zeros(1_000_000, "u1")
    assert pool.apply(len, (array,)) == len(array)
    ((_, parts),) = counts.arguments["add"]
    (sent,) = (part for part in parts if isinstance(part, memoryview))
    assert np.shares_memory(np.frombuffer(sent, "u1"), array)
