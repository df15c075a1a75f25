"""The public face: what programs written for multiprocessing.pool.Pool look at and rely on."""

from __future__ import annotations

import inspect
import multiprocessing
import multiprocessing.pool as mp_pool
import os
import pickle
import threading
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from obspool import AsyncResult, IMapIterator, MetricsServerError, Pool, ThreadPool
from obspool.telemetry import registry
from obspool.words import JobKind, Outcome
from tests.exporters import samples
from tests.helpers import poll, process_gone
from tests.pool import work

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import BaseContext
    from pathlib import Path

METHODS = [
    "apply",
    "apply_async",
    "map",
    "map_async",
    "starmap",
    "starmap_async",
    "imap",
    "imap_unordered",
    "close",
    "terminate",
    "join",
]


def test_pools_and_results_are_the_stdlibs() -> None:
    """isinstance, which real clients check, says so; in both directions no more than is true."""
    with Pool(1) as pool, ThreadPool(1) as threads:
        assert isinstance(pool, mp_pool.Pool)
        assert not isinstance(pool, mp_pool.ThreadPool)
        assert isinstance(threads, mp_pool.ThreadPool)
        assert isinstance(threads, Pool)
        result = pool.apply_async(work.double, (1,))
        assert isinstance(result, mp_pool.AsyncResult)
        assert isinstance(result, AsyncResult)
        assert isinstance(pool.map_async(work.double, [1]), mp_pool.MapResult)
        assert isinstance(pool.imap(work.double, [1]), mp_pool.IMapIterator)
        assert isinstance(pool.imap(work.double, [1], 5), IMapIterator)


def _positional(function: Callable[..., Any]) -> list[tuple[str, Any]]:
    return [
        (p.name, p.default)
        for p in inspect.signature(function).parameters.values()
        if p.kind is not inspect.Parameter.KEYWORD_ONLY
    ]


@pytest.mark.parametrize("method", [*METHODS, "__init__"])
def test_signatures_are_the_stdlibs_in_their_positional_part(method: str) -> None:
    """Old calls work unchanged; what is new is by keyword."""
    assert _positional(getattr(Pool, method)) == _positional(getattr(mp_pool.Pool, method))
    theirs = getattr(mp_pool.ThreadPool, method)
    assert _positional(getattr(ThreadPool, method)) == _positional(theirs)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"processes": 0}, ValueError, "Number of processes must be at least 1"),
        ({"processes": -3}, ValueError, "Number of processes must be at least 1"),
        ({"processes": "2"}, TypeError, "not supported between"),
        ({"initializer": 5}, TypeError, "initializer must be a callable"),
        ({"maxtasksperchild": 0}, ValueError, "maxtasksperchild must be a positive int or None"),
        ({"maxtasksperchild": 1.5}, ValueError, "maxtasksperchild must be a positive int or None"),
        ({"initargs": 5}, TypeError, "iterable"),
    ],
)
def test_wrong_arguments_raise_what_the_stdlib_raises(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    """The same type and words, and nothing is left of the attempt."""
    threads = set(threading.enumerate())
    if arguments != {"initargs": 5}:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(error, match=message):
                mp_pool.Pool(**{"processes": 1, **arguments})
    with pytest.raises(error, match=message):
        Pool(**{"processes": 1, **arguments})
    assert set(threading.enumerate()) == threads


def test_wrong_calls_raise_what_the_stdlib_raises() -> None:
    """Chunk sizes, iterables and functions that are none."""
    with Pool(1) as ours, mp_pool.Pool(1) as theirs:
        pools: tuple[Any, Any] = ours, theirs
        for pool in pools:
            for name in ("imap", "imap_unordered"):
                with pytest.raises(ValueError, match=r"Chunksize must be 1\+, not 0"):
                    getattr(pool, name)(work.double, [1], 0)
            with pytest.raises(TypeError, match="not iterable"):
                pool.map(work.double, 5)
            with pytest.raises(TypeError, match="not callable"):
                pool.map(5, [1])
            with pytest.raises(TypeError, match="not callable"):
                pool.apply(None)
            with pytest.raises(NotImplementedError, match="cannot be passed between processes"):
                pickle.dumps(pool)
            assert pool.map(work.double, []) == []


def test_what_clients_look_at(mp_context: BaseContext) -> None:
    """_pool, _processes and _state; the processes are multiprocessing's own objects."""
    with Pool(2, context=mp_context) as pool:
        assert pool._processes == 2
        assert pool._state == mp_pool.RUN
        assert len(pool._pool) == 2
        for process in pool._pool:
            assert isinstance(process, multiprocessing.process.BaseProcess)
            assert process.is_alive()
            assert process.daemon
            assert process.exitcode is None
            assert "PoolWorker" in process.name
        pool._repopulate_pool()
        processes = list(pool._pool)
        pool.close()
        assert pool._state == mp_pool.CLOSE
        pool.join()
        assert pool._pool == []
        assert [process.exitcode for process in processes] == [0, 0]
    assert pool._state == mp_pool.TERMINATE
    assert "state=TERMINATE pool_size=0" in repr(pool)


class _OwnProcess(Pool):
    """As people do it, to have workers that aren't daemonic or are counted."""

    made: list[str]

    @staticmethod
    def Process(ctx: Any, *args: Any, **kwds: Any) -> Any:  # noqa: N802 - the stdlib's name
        process = ctx.Process(*args, **kwds)
        _OwnProcess.made.append(process.name)
        return process


def test_an_overridden_process_makes_the_workers(mp_context: BaseContext) -> None:
    """Also those that replace others."""
    _OwnProcess.made = []
    with _OwnProcess(1, maxtasksperchild=1, context=mp_context) as pool:
        assert pool.map(work.double, range(3), 1) == [0, 2, 4]
    assert len(_OwnProcess.made) >= 3


@pytest.mark.parametrize("base", [Pool, ThreadPool])
def test_a_subclass_with_queue_hooks_gets_the_stdlibs_machinery(base: type[Pool]) -> None:
    """One warning when the class is made; then it works as the stdlib's, with its hook."""
    calls: list[int] = []
    stdlib: Any = mp_pool.ThreadPool if base is ThreadPool else mp_pool.Pool

    with pytest.warns(RuntimeWarning, match="overrides _setup_queues") as caught:

        class Hooked(base):  # type: ignore[valid-type,misc]
            def _setup_queues(self) -> None:
                calls.append(1)
                stdlib._setup_queues(self)

    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Hooked(2) as pool:
            assert calls == [1]
            assert isinstance(pool, base)
            assert pool.map(work.double, range(10)) == [2 * i for i in range(10)]
            assert list(pool.imap(work.double, range(3))) == [0, 2, 4]
            with pytest.raises(ValueError, match="stdlib's machinery"):
                pool.stats()
            pool.close()
            pool.join()

        class Deeper(Hooked):
            """No second warning."""

        with Deeper(1) as pool:
            assert pool.apply(work.double, (2,)) == 4
            pool.close()
            pool.join()


def test_names(obspool_dir: Path) -> None:
    """The name asked for, else the program's; a taken one has the next free suffix."""
    with Pool(1, name="nightly") as first, ThreadPool(1, name="nightly") as second:
        assert (first.name, second.name) == ("nightly", "nightly-2")
        with Pool(1, name="nightly") as third:
            assert third.name == "nightly-3"
        with Pool(1) as fourth:
            assert fourth.name
            assert fourth.stats().facts.name == fourth.name
    for process in (first, second):
        process.join()
    with Pool(1, name="nightly") as again:
        assert again.name == "nightly"
    for name in ("", "  "):
        with pytest.raises(ValueError):
            Pool(1, name=name)


def test_a_running_pool_is_in_the_registry() -> None:
    """The commands `ls` and `top` find it by what it published."""
    with Pool(1, name="found") as pool:
        assert pool.stats().facts.pid == os.getpid()
        assert "found" in {entry.facts.name for entry in registry.list_pools().entries}


def test_disabled_a_pool_works_and_publishes_nothing(
    monkeypatch: pytest.MonkeyPatch, obspool_dir: Path
) -> None:
    """OBSPOOL_DISABLE=1: no file, no socket, no port; the work and stats() are as ever."""
    monkeypatch.setenv("OBSPOOL_DISABLE", "1")
    with Pool(2, metrics=True) as pool:
        assert pool.map(work.double, range(10)) == [2 * i for i in range(10)]
        assert pool.stats().items_completed[Outcome.OK] == 10
        assert pool.metrics_url is None
        assert [path for path in obspool_dir.rglob("*") if not path.is_dir()] == []


@pytest.mark.parametrize("make", [Pool, ThreadPool])
def test_metrics_say_what_stats_say(make: type[Pool]) -> None:
    """A real GET of /metrics has the numbers of the snapshot."""
    # Whole chunks: on a busy machine one that is cut for an idle worker would count as two tasks.
    with make(2, name="served", metrics=True, balance=False) as pool:
        assert pool.metrics_url is not None
        pool.map(work.double, range(20), 5)
        work.drain(pool.imap(work.double, [1, -1]))
        poll(lambda: sum(w.items[Outcome.OK] for w in pool.stats().workers) == 21)
        # A scrape reads the segment as it is, up to 10 ms old; after `stats` it is up to date.
        poll(lambda: sum(pool.stats().items_completed.values()) == 22)
        series = samples.get(pool.metrics_url, "/metrics").series
        stats = pool.stats()

        def total(name: str, **labels: str) -> float:
            wanted = {"pool": "served", **labels}.items()
            found = [v for (n, own), v in series.items() if n == name and wanted <= set(own)]
            assert found, name
            return sum(found)

        for outcome in (Outcome.OK, Outcome.ERROR):
            value = total("obspool_items_completed_total", outcome=outcome.value)
            assert value == stats.items_completed[outcome]
        submitted = total("obspool_tasks_submitted_total", kind="map")
        assert submitted == stats.tasks_submitted[JobKind.MAP] == 4
        assert total("obspool_items_submitted_total") == stats.items_submitted == 22


def test_a_metrics_port_that_is_taken_is_named_and_nothing_is_left(obspool_dir: Path) -> None:
    """The error says which address; no process, thread, socket or running segment remains."""
    import socket  # noqa: PLC0415

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        threads = set(threading.enumerate())
        with pytest.raises(MetricsServerError, match=str(port)) as caught:
            Pool(2, metrics=port)
        assert isinstance(caught.value, OSError)
        poll(lambda: set(threading.enumerate()) <= threads)
        assert multiprocessing.active_children() == []
        assert list(obspool_dir.rglob("*.sock")) == []


@pytest.mark.parametrize("metrics", ["nonsense:port", 70000, "a:b:c"])
def test_a_metrics_address_that_is_none(metrics: Any) -> None:
    """A ValueError says so, before anything is started."""
    with pytest.raises(ValueError):
        Pool(1, metrics=metrics)


def test_a_context_manager_returns_the_pool_and_ends_it() -> None:
    """As in the stdlib: leaving it terminates; entering a closed one is refused."""
    pool = Pool(1)
    with pool as entered:
        assert entered is pool
        (process,) = pool._pool
    poll(lambda: process_gone(process.pid))
    with pytest.raises(ValueError, match="Pool not running"):
        pool.__enter__()
    pool.join()


def test_the_whole_interface_of_a_thread_pool() -> None:
    """Threads share the program's objects: nothing is copied, nothing pickled."""
    lock = threading.Lock()
    seen: list[Any] = []
    with ThreadPool(2, seen.append, ("ready",)) as pool:
        assert pool.map(lambda _: lock, [1, 2]) == [lock, lock]
        assert pool.apply(seen.append, (lock,)) is None
        assert list(pool.imap(work.double, range(20), 3)) == [2 * i for i in range(20)]
        assert sorted(pool.imap_unordered(work.double, range(20))) == [2 * i for i in range(20)]
        assert pool.starmap(work.add, [(1, 2)]) == [3]
        assert pool.apply_async(work.add, (1,), {"b": 5}).get(20) == 6
        with pytest.raises(work.CustomError):
            pool.map(work.double, [-1])
        assert all(handle.is_alive() for handle in pool._pool)
    assert seen.count("ready") == 2
    assert lock in seen
