"""`finalizer=` at a worker's planned exit, and `describe=`: the name of the item that runs."""

from __future__ import annotations

import logging
import os
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from obspool import CancelledError, Pool, PoolBrokenError, ThreadPool, WorkerLostError, supervisor
from obspool.words import EventKind, ExitReason, Outcome
from tests.helpers import poll
from tests.pool import work
from tests.pool.ending import ended

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext

    from obspool import AsyncResult

_resource: list[int] = []


def _acquire() -> None:
    _resource.append(os.getpid())


def _release(folder: str) -> None:
    Path(folder, f"{_resource.pop()}-{os.getpid()}").touch()


def _fail() -> None:
    raise work.CustomError("no good end")


def _name(path: str, *_: Any, **named: Any) -> str:
    return f"<{Path(path).name}{named or ''}>"


def _name_or_fail(item: Any) -> str:
    if item == 2:
        raise work.CustomError(item)
    return str(item)


def _die_or_wait(path: str, **_: Any) -> None:
    Path(path).touch()
    work.until_there(path + "-go")
    os._exit(3)


def _is_named(pool: Pool, name: str) -> bool:
    return pool.stats().workers[0].description == name


def _runs_or_is_over(pool: Pool, result: AsyncResult) -> bool:
    return pool.stats().tasks.running > 0 or result.ready()


# -- finalizer


def test_the_finalizer_runs_where_the_initializer_has(
    mp_context: BaseContext, tmp_path: Path
) -> None:
    """In each worker, once, at the end of a pool that is closed."""
    with Pool(2, _acquire, context=mp_context, finalizer=partial(_release, str(tmp_path))) as pool:
        pids = {worker.pid for worker in pool.stats().workers}
        pool.map(work.double, range(10), 1)
        assert not list(tmp_path.iterdir())
        ended(pool)
    assert {path.name for path in tmp_path.iterdir()} == {f"{pid}-{pid}" for pid in pids}


def test_the_finalizer_runs_at_each_planned_exit(mp_context: BaseContext, tmp_path: Path) -> None:
    """Of workers that are recycled, by a limit or a command, and of those too many."""
    with Pool(
        2,
        _acquire,
        maxtasksperchild=2,
        context=mp_context,
        finalizer=partial(_release, str(tmp_path)),
    ) as pool:
        pool.map(work.double, range(8), 1)
        pool.recycle(0)
        pool.resize(1)
        stats = ended(pool)
    planned = {ExitReason.TASKS, ExitReason.COMMAND, ExitReason.RESIZE, ExitReason.SHUTDOWN}
    exits = {reason: count for reason, count in stats.worker_exits.items() if count}
    assert exits.keys() <= planned
    assert len(list(tmp_path.iterdir())) == sum(exits.values())


def test_no_finalizer_at_an_unplanned_end(tmp_path: Path) -> None:
    """Neither of a worker that is killed, nor in a pool that is terminated."""
    with Pool(1, _acquire, finalizer=partial(_release, str(tmp_path))) as pool:
        with pytest.raises(WorkerLostError):
            pool.apply(work.die, ("kill",))
        pool.apply(work.double, (1,))
    pool.join()
    assert not list(tmp_path.iterdir())


def test_a_finalizer_that_raises_is_told_and_loses_nothing(
    mp_context: BaseContext, caplog: pytest.LogCaptureFixture
) -> None:
    """One error in the log, one event; the exit is planned all the same."""
    with (
        caplog.at_level(logging.ERROR, "obspool"),
        Pool(1, context=mp_context, finalizer=_fail) as pool,
    ):
        assert pool.map(work.double, range(5)) == [0, 2, 4, 6, 8]
        stats = ended(pool)
    assert stats.worker_exits[ExitReason.SHUTDOWN] == 1
    assert not stats.worker_exits[ExitReason.LOST]
    told = [event.text for event in stats.events if event.kind is EventKind.TROUBLE]
    assert told == ["its finalizer raised"]
    assert [record.message for record in caplog.records] == [
        "the finalizer of the worker in slot 0 raised CustomError('no good end')"
    ]


def test_a_finalizer_that_hangs_is_ended(
    mp_context: BaseContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After so long that none that works takes; else join would wait for ever."""
    with Pool(1, context=mp_context, finalizer=work.signal_less_wait) as pool:
        assert pool.map(work.double, range(5)) == [0, 2, 4, 6, 8]
        monkeypatch.setattr(supervisor, "HOOK_TIMEOUT", 0.3)
        stats = ended(pool)
    assert stats.worker_exits[ExitReason.SHUTDOWN] == 1
    assert stats.items_completed[Outcome.OK] == 5


def test_a_lambda_may_finalize_a_spawned_worker(tmp_path: Path, mp_context: BaseContext) -> None:
    """It travels as the initializer does."""
    with Pool(1, context=mp_context, finalizer=lambda: (tmp_path / "there").touch()) as pool:  # noqa: PLW0108 - a method of a path can be pickled
        ended(pool)
    assert (tmp_path / "there").exists()


def test_threads_are_finalized_in_their_thread() -> None:
    """Where their initializer ran."""
    begun, over = [], []
    with ThreadPool(
        2,
        lambda: begun.append(threading.get_ident()),
        finalizer=lambda: over.append(threading.get_ident()),
    ) as pool:
        pool.map(work.double, range(5))
        ended(pool)
    assert sorted(begun) == sorted(over)


# -- describe


@pytest.mark.parametrize("call", ["apply_async", "map_async", "starmap_async", "imap"])
def test_the_running_item_is_named(mp_context: BaseContext, tmp_path: Path, call: str) -> None:
    """By what `describe` makes of the arguments, in each kind of call; afterwards no more."""
    go = tmp_path / "go"
    arguments = {"apply_async": (str(go),), "starmap_async": [(str(go),)]}.get(call, [str(go)])
    with Pool(1, context=mp_context, describe=_name) as pool:
        result = getattr(pool, call)(work.until_there, arguments)
        poll(lambda: pool.stats().workers[0].description == "<go>")
        go.touch()
        assert result.next(8) if call == "imap" else result.get(8)
        poll(lambda: not pool.stats().workers[0].description)


def test_the_name_follows_the_items_of_a_chunk(tmp_path: Path) -> None:
    """Each item that takes long is shown in its turn; keyword arguments are passed too."""
    paths = [str(tmp_path / f"step-{number}") for number in range(3)]
    with Pool(1, describe=_name) as pool:
        result = pool.map_async(work.until_there, paths, 3)
        for path in paths:
            poll(partial(_is_named, pool, _name(path)))
            Path(path).touch()
        assert len(result.get(8)) == 3
        with pytest.raises(TypeError, match="unexpected keyword"):
            pool.apply(work.until_there, (paths[0],), {"wrong": 1})


def test_names_are_text_of_so_many_bytes(tmp_path: Path) -> None:
    """Cut between characters; whatever it returns is made text."""
    go = tmp_path / "go"
    with Pool(1, describe=lambda _: "ä" * 100) as pool:
        result = pool.apply_async(work.until_there, (str(go),))
        poll(lambda: pool.stats().workers[0].description == "ä" * 64)
        go.touch()
        result.get(8)
    with ThreadPool(1, describe=lambda path: [Path(path).name]) as threads:
        go.unlink()
        result = threads.apply_async(work.until_there, (str(go),))
        poll(lambda: threads.stats().workers[0].description == "['go']")
        go.touch()
        result.get(8)


def test_a_describe_that_raises_ends_no_item() -> None:
    """It says so in place of the name."""
    with Pool(2, describe=_name_or_fail) as pool:
        assert pool.map(work.double, range(20), 3) == [2 * item for item in range(20)]
        assert pool.starmap(work.double, [(1,), (2,)]) == [2, 4]


def test_a_lost_item_is_named(mp_context: BaseContext, tmp_path: Path) -> None:
    """In the error: that is what one wants to know."""
    path = str(tmp_path / "item")
    with Pool(1, context=mp_context, describe=_name) as pool:
        result = pool.apply_async(_die_or_wait, (path,), {"size": 3})
        poll(Path(path).exists)
        Path(path + "-go").touch()
        with pytest.raises(WorkerLostError, match=r"<item\{'size': 3\}>") as lost:
            result.get(8)
    assert lost.value.description == "<item{'size': 3}>"


@pytest.mark.parametrize("name", ["finalizer", "describe"])
def test_what_cannot_be_called_is_refused(name: str) -> None:
    """As the initializer is."""
    with pytest.raises(TypeError, match=f"{name} must be a callable"):
        Pool(1, **{name: 3})  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["cancelled", "out of time"])
def test_describing_may_be_interrupted(mp_context: BaseContext, how: str) -> None:
    """Never while it writes the name, with the claim lock held: the worker would hang."""
    with Pool(2, context=mp_context, describe=str) as pool:
        for _ in range(25):
            if how == "cancelled":
                result = pool.map_async(work.identity, range(20_000), 5000)
                poll(partial(_runs_or_is_over, pool, result), interval=0.0)
                result.cancel(running=True)
                with suppress(CancelledError):
                    result.get(8)
            else:
                pool.map(work.identity, range(50), 10, timeout=0.0005, return_exceptions=True)
        poll(lambda: not pool.stats().tasks.running)
        stats = ended(pool)
    assert not [worker for worker in stats.workers if worker.torn]
    exits = {reason: count for reason, count in stats.worker_exits.items() if count}
    assert exits == {ExitReason.SHUTDOWN: 2}


@pytest.mark.parametrize("error", [work.CustomError, KeyboardInterrupt])
def test_a_threads_hooks_may_raise_anything(error: type[BaseException]) -> None:
    """A finalizer ends no pool, and an initializer breaks it with that as the cause."""

    def fail() -> None:
        raise error("hook")

    with ThreadPool(2, finalizer=fail) as pool:
        assert pool.map(work.double, range(5)) == [0, 2, 4, 6, 8]
        ended(pool)
    with ThreadPool(1, fail) as pool, pytest.raises(PoolBrokenError) as broken:
        pool.apply_async(work.double, (1,)).get(8)
    assert type(broken.value.__cause__) is error


def test_threads_of_a_terminated_pool_are_not_finalized() -> None:
    """As processes are not."""
    over: list[int] = []
    with ThreadPool(2, finalizer=lambda: over.append(1)) as pool:
        pool.map(work.double, range(5))
    pool.join()
    poll(lambda: not [t for t in threading.enumerate() if f"-{pool.name}-" in t.name])
    assert not over
