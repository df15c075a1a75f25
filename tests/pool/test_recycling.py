"""Workers that are replaced for their memory, their age, or because somebody asks for it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from obspool import Pool, ThreadPool, memory
from obspool.words import ExitReason, Outcome, WorkerState
from tests.helpers import poll
from tests.pool import work
from tests.pool.ending import ended

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext

    from obspool import Snapshot

_kept: list[bytearray] = []


def _keep(megabytes: int) -> int:
    """Leak, as a real function would."""
    _kept.append(bytearray(megabytes << 20))
    return os.getpid()


def _leak_until_there(path: str) -> int:
    _keep(64)
    Path(path, "leaked").touch()
    return work.until_there(str(Path(path, "go")))


def _where_until_there(path: str) -> int:
    Path(path, f"begun-{os.getpid()}").touch()
    return work.until_there(str(Path(path, "go")))


def _own_memory(_: Any = None) -> int:
    return memory.resident_bytes(os.getpid())


def _pids(pool: Pool) -> set[int]:
    return {process.pid for process in pool._pool}


def _ended(pool: Pool) -> Snapshot:
    """Close the pool; return its last snapshot: nothing was lost."""
    stats = ended(pool)
    assert not stats.items_completed[Outcome.LOST]
    assert not stats.worker_exits[ExitReason.LOST]
    return stats


# -- somebody's wish


def test_one_worker_is_replaced_when_asked_for(mp_context: BaseContext) -> None:
    with Pool(3, context=mp_context) as pool:
        before = {worker.slot: worker.pid for worker in pool.stats().workers}
        pool.recycle(1)
        poll(lambda: pool.stats().worker_exits[ExitReason.COMMAND] == 1)
        poll(lambda: len(pool._pool) == 3)
        after = {worker.slot: worker.pid for worker in pool.stats().workers}
        assert {slot for slot in before if before[slot] != after[slot]} == {1}
        assert pool.map(work.double, range(9), 1) == list(range(0, 18, 2))
        assert any("recycle slot 1 by the program" in event.text for event in pool.stats().events)
        _ended(pool)


def test_all_are_replaced_one_after_the_other(tmp_path: Path) -> None:
    """All but one of four work on, also when a successor takes long to get ready."""
    go = tmp_path / "go"
    go.touch()
    with Pool(4, work.until_there, (str(go),)) as pool:
        poll(lambda: all(w.state is WorkerState.IDLE for w in pool.stats().workers))
        before = _pids(pool)
        go.unlink()
        pool.recycle()
        poll(lambda: pool.stats().worker_exits[ExitReason.COMMAND] == 1)
        assert pool.map(work.double, range(8), 1) == list(range(0, 16, 2))
        assert len(before & _pids(pool)) == 3
        assert pool.stats().worker_exits[ExitReason.COMMAND] == 1
        go.touch()
        poll(lambda: pool.stats().worker_exits[ExitReason.COMMAND] == 4)
        poll(lambda: len(pool._pool) == 4)
        assert not before & _pids(pool)
        _ended(pool)


def test_a_worker_that_is_to_go_ends_what_it_runs_and_others_do_the_rest(tmp_path: Path) -> None:
    with Pool(1) as pool:
        result = pool.map_async(_where_until_there, [str(tmp_path)] * 4, 4)
        (first,) = poll(lambda: list(tmp_path.iterdir()))
        pool.recycle(0)
        poll(lambda: len(pool._pool) == 2)
        (tmp_path / "go").touch()
        ran_in = result.get(20)
        assert first.name == f"begun-{ran_in[0]}"
        assert ran_in[0] not in ran_in[1:]
        assert _ended(pool).worker_exits[ExitReason.COMMAND] == 1


def test_threads_are_replaced_too() -> None:
    with ThreadPool(2) as pool:
        before = _pids(pool)
        pool.recycle()
        poll(lambda: pool.stats().worker_exits[ExitReason.COMMAND] == 2)
        assert pool.map(work.double, range(4), 1) == [0, 2, 4, 6]
        poll(lambda: not before & _pids(pool))
        _ended(pool)


@pytest.mark.parametrize("slot", [-1, 2])
def test_a_slot_that_is_not_there(slot: int) -> None:
    with Pool(2) as pool:
        with pytest.raises(ValueError, match="slot must be from 0 to 1"):
            pool.recycle(slot)
        pool.close()
        with pytest.raises(ValueError, match="not running"):
            pool.recycle(0)


# -- memory


def test_a_worker_that_has_grown_is_replaced_between_items(mp_context: BaseContext) -> None:
    with Pool(1, context=mp_context) as pool:
        usual = pool.apply(_own_memory)
    with Pool(2, context=mp_context, max_memory_per_child=usual + (100 << 20)) as pool:
        pids = pool.map(_keep, [20] * 40, 1)
        assert pool.map(work.double, range(9), 1) == list(range(0, 18, 2))
        exits = _ended(pool).worker_exits[ExitReason.MEMORY]
    # Each worker holds some 5 of them; a few more may run until it is looked at.
    assert exits >= 2
    assert len(set(pids)) >= 4


def test_memory_is_looked_at_while_a_long_item_runs(tmp_path: Path) -> None:
    """It isn't ended: its successor is made ready, and takes its place."""
    with Pool(1) as pool:
        usual = pool.apply(_own_memory)
    with Pool(1, max_memory_per_child=usual + (30 << 20)) as pool:
        result = pool.apply_async(_leak_until_there, (str(tmp_path),))
        poll((tmp_path / "leaked").exists)
        poll(lambda: len(pool._pool) == 2)
        (tmp_path / "go").touch()
        assert result.get(10) > 0
        assert pool.apply(work.double, (4,)) == 8
        assert _ended(pool).worker_exits[ExitReason.MEMORY] == 1


def test_without_room_the_successor_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the memory would be taken twice; the pool keeps its size all the same."""
    monkeypatch.setattr(memory, "available", lambda: 0)
    with Pool(1) as pool:
        usual = pool.apply(_own_memory)
    with Pool(1, max_memory_per_child=usual + (30 << 20)) as pool:
        first = pool.apply(_keep, (64,))
        poll(lambda: pool.stats().worker_exits[ExitReason.MEMORY] == 1)
        assert pool.apply(work.where, (1,))[0] != first
        _ended(pool)


def test_auto_is_a_share_of_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "total", lambda: 100 << 30)
    with Pool(2, max_memory_per_child="auto") as pool:
        assert pool._live()._loop._recycling._max_memory == 40 << 30
    monkeypatch.setattr(memory, "total", lambda: 0)
    with Pool(2, max_memory_per_child="auto") as pool:
        assert pool._live()._loop._recycling._max_memory is None


# -- age


def test_workers_that_are_too_old_are_replaced() -> None:
    with Pool(2, max_age_per_child=0.2) as pool:
        first = _pids(pool)
        poll(lambda: pool.stats().worker_exits[ExitReason.AGE] >= 4)
        assert not first & _pids(pool)
        assert pool.map(work.double, range(9), 1) == list(range(0, 18, 2))
        _ended(pool)


@pytest.mark.parametrize(
    ("terms", "error"),
    [
        ({"max_memory_per_child": 0}, ValueError),
        ({"max_memory_per_child": "1G"}, TypeError),
        ({"max_memory_per_child": 1.5}, TypeError),
        ({"max_age_per_child": 0}, ValueError),
        ({"max_age_per_child": "1h"}, TypeError),
    ],
)
def test_limits_that_cannot_be(terms: dict[str, Any], error: type[Exception]) -> None:
    (name,) = terms
    with pytest.raises(error, match=f"{name} must be"):
        Pool(1, **terms)
