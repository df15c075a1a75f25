from __future__ import annotations

import os
import pickle
import re
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from obspool import Pool, PoolBrokenError, ThreadPool, WorkerLostError
from obspool.words import ExitReason, Outcome
from tests.helpers import poll, process_gone
from tests.pool import work

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import BaseContext

DEATHS = {"_exit": "exit code 7", "exit": "exit code 9", "kill": "killed by SIGKILL"}

# From a death to the error, on a loaded machine.
AT_ONCE = 3.0


def _slow_then_die(item: Any) -> Any:
    work.work(2)  # results of slow items go back at once
    return work.die_at(item)


@pytest.mark.parametrize("how", DEATHS)
def test_the_error_names_slot_pid_death_and_item(mp_context: BaseContext, how: str) -> None:
    """A worker that dies is an error at once, which says who died of what in which item."""
    with Pool(1, context=mp_context) as pool:
        (process,) = pool._pool
        began = time.monotonic()
        with pytest.raises(WorkerLostError) as caught:
            pool.map(work.die_at, [0, 1, how, 3], 1)
        assert time.monotonic() - began < AT_ONCE
        said = str(caught.value)
        assert f"slot 0 (pid {process.pid})" in said
        assert DEATHS[how] in said
        assert "item 2 of die_at" in said
        assert isinstance(caught.value, RuntimeError)
        assert pool.map(work.double, [1, 2]) == [2, 4]


@pytest.mark.parametrize("how", DEATHS)
@pytest.mark.parametrize("chunk", [1, 3, 12])
def test_only_the_item_that_killed_its_worker_is_lost(
    mp_context: BaseContext, how: str, chunk: int
) -> None:
    """All others of its chunk and of its batch have their results; imap raises once and goes on."""
    items: list[Any] = list(range(12))
    items[5] = how
    with Pool(2, context=mp_context) as pool:
        found = work.drain(pool.imap(work.die_at, items, chunk))
        values = [value for kind, value in found if kind == "value"]
        lost = [value for kind, value in found if kind == "error"]
        assert lost, found
        assert {name for name, _ in lost} == {"WorkerLostError"}
        assert len(found) == 12
        # Those that had been run and not been sent yet may be lost with their worker.
        said = [arguments[0] for _, arguments in lost]
        assert any("while it ran item 5 of die_at" in text for text in said)
        assert all("lost with it" in text for text in said[:-1])
        assert set(items[6:]) <= set(values)
        poll(lambda: len(pool._pool) == 2)
        pool.close()
        pool.join()
        stats = pool.stats()
    assert stats.items_completed[Outcome.LOST] == len(lost)
    assert stats.worker_exits[ExitReason.LOST] == 1


@pytest.mark.parametrize("chunk", [1, 4, 8])
def test_slow_items_lose_nothing_but_the_one_that_died(chunk: int) -> None:
    """A slow item's result has left before the next item begins."""
    items: list[Any] = [0, 1, 2, "kill", 4, 5, 6, 7]
    with Pool(1) as pool:
        found = work.drain(pool.imap(_slow_then_die, items, chunk))
    assert [value for kind, value in found if kind == "value"] == [0, 1, 2, 4, 5, 6, 7]
    assert found[3][1][0] == "WorkerLostError"


def test_an_unordered_imap_goes_on_too() -> None:
    """One error among the results, and every other item's result."""
    items: list[Any] = [*range(30), "_exit"]
    with Pool(2) as pool:
        found = work.drain(pool.imap_unordered(_slow_then_die, items))
    assert sorted(value for kind, value in found if kind == "value") == list(range(30))
    assert len(found) == 31


def test_other_calls_are_not_touched() -> None:
    """A death is the affair of its item's call alone."""
    with Pool(2) as pool:
        others = [pool.apply_async(_slow_then_die, (n,)) for n in range(20)]
        dying = [pool.apply_async(_slow_then_die, ("kill",)) for _ in range(5)]
        others += [pool.apply_async(_slow_then_die, (n,)) for n in range(20)]
        assert [r.get(20) for r in others] == [*range(20), *range(20)]
        for result in dying:
            with pytest.raises(WorkerLostError):
                result.get(20)


def test_a_worker_lost_while_it_sends_a_large_result(mp_context: BaseContext) -> None:
    """Half a result is no result: the item is lost, and the others are there."""
    with Pool(1, context=mp_context) as pool:
        found = work.drain(pool.imap(work.die_while_sending, range(5)))
    assert [value for kind, value in found if kind == "value"] == [0, 1, 3, 4]
    assert found[2][1][0] == "WorkerLostError"


def test_all_workers_killed_at_once_under_load(mp_context: BaseContext) -> None:
    """The pool comes back to its size, every item has an outcome, and few of them are losses."""
    with Pool(2, context=mp_context) as pool:
        iterator = pool.imap_unordered(work.work, [1.0] * 300)
        for _ in range(20):
            iterator.next(20)
        for process in pool._pool:
            os.kill(process.pid, signal.SIGKILL)
        found = work.drain(iterator)
        errors = [value for kind, value in found if kind == "error"]
        assert len(found) == 280
        assert {name for name, _ in errors} <= {"WorkerLostError"}
        assert len(errors) <= 2 * 3
        poll(lambda: len(pool._pool) == 2)
        assert pool.map(work.double, range(5)) == [0, 2, 4, 6, 8]


def test_a_loss_is_logged_once_as_an_error(caplog: pytest.LogCaptureFixture) -> None:
    """An operator finds one ERROR line for a lost worker, and none for a planned exit."""
    with Pool(1, maxtasksperchild=1) as pool:
        pool.map(work.double, range(3), 1)
        with pytest.raises(WorkerLostError):
            pool.apply(work.die, ("kill",))
        pool.close()
        pool.join()
    lines = [r for r in caplog.records if r.name == "obspool" and r.levelname == "ERROR"]
    assert len(lines) == 1
    assert "SIGKILL" in lines[0].getMessage()


def _grandchild(path: str) -> None:
    """Leave a process behind that holds this worker's descriptors, and die."""
    if not os.fork():
        with open(path, "w") as stream:  # noqa: PTH123
            stream.write(str(os.getpid()))
        time.sleep(30)
        os._exit(0)
    poll(lambda: os.path.exists(path) and os.path.getsize(path))  # noqa: PTH110, PTH202
    work.die("kill")


def test_a_grandchild_that_holds_the_channel_hides_no_death(tmp_path: Path) -> None:
    """A process that a task left behind keeps no loss from being seen."""
    path = tmp_path / "pid"
    with Pool(1) as pool:
        try:
            with pytest.raises(WorkerLostError):
                pool.apply_async(_grandchild, (str(path),)).get(20)
            assert pool.map(work.double, [4]) == [8]
        finally:
            pid = int(path.read_text())
            os.kill(pid, signal.SIGKILL)
            poll(lambda: process_gone(pid))


def _stop_self(_: Any) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    work.signal_less_wait()


def test_a_worker_ended_by_another_signal() -> None:
    """The error names the signal, as from `kill` on the command line."""
    with Pool(1) as pool, pytest.raises(WorkerLostError, match="SIGTERM"):
        pool.apply(_stop_self, (1,))


@pytest.mark.parametrize("call", ["map", "apply", "imap"])
def test_sys_exit_in_a_thread_is_a_loss_too(call: str) -> None:
    """In a ThreadPool as well an item that calls sys.exit ends its worker, and no call hangs."""
    calls: dict[str, Callable[[Any], Any]] = {
        "map": lambda pool: pool.map(work.die_at, ["exit"]),
        "apply": lambda pool: pool.apply(work.die, ("exit",)),
        "imap": lambda pool: next(pool.imap(work.die_at, ["exit"])),
    }
    with ThreadPool(1) as pool:
        with pytest.raises(WorkerLostError):
            calls[call](pool)
        assert pool.map(work.double, [1]) == [2]


def test_the_message_is_for_people() -> None:
    """One line, with the index in the caller's iterable, also within a later chunk."""
    items: list[Any] = [*range(25), "_exit", *range(10)]
    with Pool(1) as pool:
        found = work.drain(pool.imap(_slow_then_die, items, 10))
    (said,) = (value[1][0] for kind, value in found if kind == "error")
    assert re.search(r"item 25 of _slow_then_die\b", said)
    assert "\n" not in said


def test_the_error_can_be_asked_and_pickled() -> None:
    """What its text says is there for programs too, also where it travels on."""
    with Pool(1) as pool:
        (process,) = pool._pool
        with pytest.raises(WorkerLostError) as caught:
            pool.map(_sleep_then_die, [0, 1, "kill", 3], 4)
    for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):
        assert (error.slot, error.pid, error.exitcode) == (0, process.pid, -signal.SIGKILL)
        assert (error.function, error.item) == ("_sleep_then_die", 2)
        assert set(error.finished) <= {0, 1}
        assert error.seconds is not None
        assert 0.05 < error.seconds < 5.0
        assert error.out_of_memory is False
    assert re.search(r"item 2 of _sleep_then_die \(for 0\.\d+ s\)", str(caught.value))


def _sleep_then_die(item: Any) -> Any:
    if item == "kill":
        time.sleep(0.1)
    return work.die_at(item)


def _wait_in_start(path: str) -> None:
    Path(path, str(os.getpid())).touch()
    work.until_there(str(Path(path, "go")))


def test_killing_all_workers_once_while_they_start_breaks_no_pool(
    mp_context: BaseContext, tmp_path: Path
) -> None:
    """That is one trouble, which may be over, not three in a row."""
    with Pool(4, _wait_in_start, (str(tmp_path),), context=mp_context) as pool:
        poll(lambda: len(list(tmp_path.iterdir())) == 4)
        for process in pool._pool:
            os.kill(process.pid, signal.SIGKILL)
        (tmp_path / "go").touch()
        assert pool.apply(work.double, (2,)) == 4
        poll(lambda: len(pool._pool) == 4)


def test_workers_that_are_always_killed_while_they_start_break_the_pool() -> None:
    with Pool(2, work.die, ("kill",)) as pool, pytest.raises(PoolBrokenError, match="SIGKILL"):
        pool.apply_async(work.double, (2,)).get(20)
