"""Every way to end a pool, in any order, from anywhere, at any time: it ends, and nobody waits."""

from __future__ import annotations

import gc
import itertools
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from obspool import Pool, PoolTerminatedError
from tests.faults import deeds, programs
from tests.helpers import poll
from tests.pool import work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.context import BaseContext
    from pathlib import Path

GET = 20.0
TERMINATE = 5.0  # seconds, at the most

# Rounds of what is tried at random moments: each takes a pool's start.
ROUNDS = {"fork": 25, "forkserver": 8, "spawn": 5}


@pytest.fixture(name="pool")
def _pool_of_two(mp_context: BaseContext) -> Iterator[Pool]:
    """A pool of which nothing is left afterwards."""
    pids = []
    with Pool(2, context=mp_context) as made:
        pids = [process.pid for process in made._pool]
        yield made
    made.join()
    poll(lambda: programs.all_gone(pids))
    assert not made._pool


def _load(pool: Pool) -> list[Any]:
    """Give the pool more of everything than it can do in a moment."""
    return [
        pool.map_async(work.work, [1.0] * 400, 1),
        pool.map_async(len, [bytes(200_000)] * 100, 1),
        pool.map_async(bytes, [200_000] * 100, 10),
        *[pool.apply_async(work.double, (number,)) for number in range(100)],
        pool.imap(work.identity, itertools.count()),
        pool.imap_unordered(work.double, itertools.count(), 3),
    ]


def _outcomes(results: list[Any]) -> set[str]:
    """Wait for all of them; return what they were: values, or which errors."""
    found = set()
    for result in results:
        for kind, value in (
            work.drain(result, GET) if hasattr(result, "next") else [_outcome(result)]
        ):
            found.add(kind if kind == "value" else value[0])
    return found


def _outcome(result: Any) -> work.Outcome:
    return work.outcome(lambda: result.get(GET))


def _timed_terminate(pool: Pool) -> None:
    began = time.monotonic()
    pool.terminate()
    assert time.monotonic() - began < TERMINATE


def _terminated_in_time(pool: Pool, result: Any) -> None:
    """Terminate the pool: its workers are gone, and what was pending has its error."""
    pids = [process.pid for process in pool._pool]
    _timed_terminate(pool)
    assert programs.all_gone(pids)
    with pytest.raises(PoolTerminatedError):
        result.get(GET)


@pytest.mark.parametrize("order", [*itertools.permutations(("close", "terminate", "join"))])
def test_any_order(pool: Pool, order: tuple[str, ...]) -> None:
    """Join is refused before one of the others, as in the stdlib."""
    results = [pool.map_async(work.work, [1.0] * 50, 1) for _ in range(4)]
    for number, method in enumerate(order):
        if method == "join" and number == 0:
            with pytest.raises(ValueError, match="still running"):
                pool.join()
        else:
            getattr(pool, method)()
            getattr(pool, method)()
    assert _outcomes(results) <= {"value", "PoolTerminatedError"}
    if order[:2] == ("close", "join"):
        assert _outcomes(results) == {"value"}


def test_from_many_threads_at_once(pool: Pool) -> None:
    results = _load(pool)
    start = threading.Barrier(8)
    random = Random(7)  # noqa: S311 - to be the same each time

    def end(methods: list[str]) -> None:
        start.wait(GET)
        for method in methods:
            getattr(pool, method)()

    orders = [["close", *random.choices(("close", "terminate"), k=3), "join"] for _ in range(8)]
    orders[0][1] = "terminate"
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(end, orders, timeout=GET))
    assert _outcomes(results) <= {"value", "PoolTerminatedError"}


@pytest.mark.parametrize("methods", [("terminate", "join"), ("close",), ("close", "terminate")])
def test_from_a_callback(pool: Pool, methods: tuple[str, ...]) -> None:
    done = threading.Event()

    def end(_: Any) -> None:
        for method in methods:
            getattr(pool, method)()
        done.set()

    results = [pool.map_async(work.work, [1.0] * 50, 1) for _ in range(4)]
    pool.apply_async(work.double, (1,), callback=end, error_callback=end).wait(GET)
    assert done.wait(GET)
    pool.join()
    expected = {"value"} if methods == ("close",) else {"value", "PoolTerminatedError"}
    assert _outcomes(results) <= expected


def test_from_a_signal_handler_anywhere_in_a_call(start_method: str) -> None:
    """It interrupts the pool's own code in the thread that it runs in, at random moments."""
    import multiprocessing  # noqa: PLC0415

    random = Random(11)  # noqa: S311 - to be the same each time
    calls: list[Callable[[Pool], Any]] = [
        lambda pool: pool.map(work.double, range(50), 1),
        lambda pool: list(pool.imap(work.double, range(50))),
        lambda pool: [pool.apply(work.double, (n,)) for n in range(50)],
    ]
    ended = 0
    for number in range(ROUNDS[start_method]):
        with Pool(1, context=multiprocessing.get_context(start_method)) as pool:
            pool.map(work.double, [1], 1)

            def end(*_: Any, pool: Pool = pool, number: int = number) -> None:
                pool.terminate() if number % 2 else pool.close()
                if number % 3 == 0:
                    with suppress(RuntimeError):  # it interrupted what has to end before
                        pool.join()

            before = signal.signal(signal.SIGALRM, end)
            signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 3e-3))
            try:
                for _ in range(200):
                    calls[number % 3](pool)
            except (PoolTerminatedError, ValueError):
                ended += 1
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, before)
            pool.join()
    assert ended == ROUNDS[start_method]


class _Joins:
    """Joins the pool when it is pickled, as a signal handler might just then."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    def __reduce__(self) -> Any:
        self.pool.close()
        self.pool.join()
        return int, ()


@pytest.mark.parametrize("method", ["map", "imap"])
def test_within_a_call_that_would_have_to_end_first(pool: Pool, method: str) -> None:
    """In the thread that feeds it, the caller's or a feeder's: it would wait for itself."""
    made = getattr(pool, method)
    with pytest.raises(RuntimeError, match="would wait for itself"):
        list(made(work.identity, [_Joins(pool)]))
    pool.join()


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
def test_an_imap_read_in_part_ends_with_its_pool(pool: Pool, method: str) -> None:
    """What had arrived is still there, the rest are errors, and it is over."""
    results = getattr(pool, method)(work.identity, itertools.count())
    for _ in range(10):
        results.next(GET)
    _timed_terminate(pool)
    pool.join()
    assert _outcomes([results]) <= {"value", "PoolTerminatedError"}
    with pytest.raises(StopIteration):
        results.next(GET)


@pytest.mark.parametrize("size", [None, 5])
def test_an_imap_read_in_part_keeps_no_pool_from_closing(pool: Pool, size: int | None) -> None:
    """What was not read ahead may be read later, also by another thread while join waits."""
    results = pool.imap(work.identity, range(200), buffersize=size)
    assert [results.next(GET) for _ in range(3)] == [0, 1, 2]
    pool.close()
    with ThreadPoolExecutor(1) as thread:
        joined = thread.submit(pool.join)
        assert list(results) == list(range(3, 200))
        joined.result(GET)


def test_a_dropped_imap_keeps_no_pool_from_closing(pool: Pool) -> None:
    results = pool.imap(work.identity, range(10_000), buffersize=5)
    results.next(GET)
    del results
    pool.close()
    pool.join()


@pytest.mark.parametrize("initializer", [None, deeds.ignore_sigterm, deeds.handle_sigterm])
@pytest.mark.parametrize("stuck", [work.tell_and_wait, work.tell_and_spin])
def test_workers_that_do_not_want_to_end(
    mp_context: BaseContext, tmp_path: Path, initializer: Any, stuck: Any
) -> None:
    """They ignore SIGTERM, or hold the GIL in C, where no handler of theirs ever runs."""
    with Pool(2, initializer, context=mp_context) as pool:
        result = pool.map_async(stuck, [str(tmp_path)] * 4, 1)
        poll(lambda: len(list(tmp_path.iterdir())) == 2)
        _terminated_in_time(pool, result)
        pool.join()


def test_terminate_under_full_load(pool: Pool) -> None:
    results = _load(pool)
    _timed_terminate(pool)
    assert "PoolTerminatedError" in _outcomes(results) <= {"value", "PoolTerminatedError"}


def test_close_under_full_load_does_all_that_was_asked_for(pool: Pool) -> None:
    """Calls of other threads at that moment have results, or are refused."""
    go = threading.Event()

    def call(thread: int) -> int:
        done = 0
        try:
            for number in range(1000):
                items = [thread, number]
                assert pool.map(work.identity, items, 1) == items
                done += 1
                if done == 3:
                    go.set()
        except ValueError as error:
            assert "not running" in str(error)  # noqa: PT017
        return done

    with ThreadPoolExecutor(4) as threads:
        counts = [threads.submit(call, thread) for thread in range(4)]
        earlier = pool.map_async(work.work, [1.0] * 100, 1)
        assert go.wait(GET)
        pool.close()
        pool.join()
        assert len(earlier.get(0)) == 100
        assert sum(count.result(GET) for count in counts) >= 3


def test_terminate_while_workers_start(mp_context: BaseContext, tmp_path: Path) -> None:
    with Pool(2, work.tell_and_wait, (str(tmp_path),), context=mp_context) as pool:
        result = pool.map_async(work.double, range(10))
        poll(lambda: len(list(tmp_path.iterdir())) == 2)
        _terminated_in_time(pool, result)


@pytest.mark.filterwarnings("ignore:unclosed running:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("where", ["here", "in a thread", "in a callback"])
def test_a_pool_forgotten_under_load_ends(mp_context: BaseContext, where: str) -> None:
    """Wherever the last reference goes; calls that nobody waits for hold it only while they run.

    The callback is the pool's own thread, which must not wait for itself.
    """
    pool = Pool(2, context=mp_context)
    pids = [process.pid for process in pool._pool]
    holder = [pool]
    del pool

    def forget(*_: Any) -> None:
        holder.clear()
        gc.collect()

    holder[0].map_async(work.work, [1.0] * 100, 1)
    if where == "here":
        forget()
    elif where == "in a thread":
        thread = threading.Thread(target=forget)
        thread.start()
        thread.join(GET)
        assert not thread.is_alive()
    else:
        holder[0].apply_async(work.double, (1,), callback=forget).wait(GET)
    poll(lambda: gc.collect() >= 0 and programs.all_gone(pids), interval=0.1)


EXITS = {
    "results pending": "result = pool.map_async(work.work, [1.0] * 5000, 1)",
    "imap half read": "results = pool.imap(work.work, [1.0] * 5000); next(results)",
    "a thread waits": (
        "result = pool.map_async(work.work, [1.0] * 5000, 1)\n"
        "threading.Thread(target=result.wait, daemon=True).start()"
    ),
    "in a callback": (
        "said = threading.Event()\n"
        "pool.apply_async(work.double, (1,), callback=lambda _: (said.set(), time.sleep(60)))\n"
        "said.wait()"
    ),
    "stuck in C": (
        "result = pool.map_async(work.tell_and_spin, [directory] * 4, 1)\n"
        "poll(lambda: len(os.listdir(directory)) == 2)"
    ),
}


@pytest.mark.parametrize("state", EXITS)
def test_the_interpreters_exit_whatever_goes_on(
    start_method: str, tmp_path: Path, state: str
) -> None:
    """The program that just ends does end, and says nothing of threads or locks."""
    source = (
        "warnings.simplefilter('ignore', ResourceWarning)\n"
        "pool = Pool(2, context=context)\n"
        "print(*[process.pid for process in pool._pool], flush=True)\n"
        f"{EXITS[state]}\n"
    )
    with programs.running(tmp_path, start_method, source) as program:
        pids = program.numbers()
        assert len(pids) == 2
        began = time.monotonic()
        program.ended()
        assert time.monotonic() - began < 2 * TERMINATE
        poll(lambda: programs.all_gone(pids))


def test_the_interpreters_exit_with_calls_in_atexit(start_method: str, tmp_path: Path) -> None:
    """Functions registered before the pool was made run after its end: calls are refused."""
    source = """
        import atexit
        def late():
            for call in (
                lambda: pool.map(work.double, [1]),
                lambda: pool.apply_async(work.double, (1,)).get(10),
                pool.close, pool.terminate, pool.join,
            ):
                try:
                    print(call())
                except Exception as error:
                    print(type(error).__name__)
        atexit.register(late)
        pool = Pool(1, context=context)
        print(pool.map(work.double, [4]))
        pool.close()
    """
    out = programs.run(tmp_path, start_method, source).split()
    assert out == ["[8]", "ValueError", "ValueError", "None", "None", "None"]
