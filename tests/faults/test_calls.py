"""User code that calls the pool from where nobody expects it."""

from __future__ import annotations

import gc
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from obspool import Pool
from tests.faults import programs
from tests.helpers import poll
from tests.pool import work
from tests.pool.ending import ended

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.context import BaseContext
    from pathlib import Path

GET = 20.0

# The pool under test, for code that is run by unpickling.
_pools: list[Pool] = []


@pytest.fixture(name="pool")
def _pool_of_two(mp_context: BaseContext) -> Iterator[Pool]:
    with Pool(2, context=mp_context) as made:
        _pools.append(made)
        try:
            yield made
            ended(made)
        finally:
            _pools.clear()


def ask_pool(number: int) -> Any:
    """Ask the pool from within a pickle: only its own process ever loads such a one."""
    return _pools[-1].apply(work.double, (number,))


class AsksWhenPickled:
    """An argument that is what the pool says."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> Any:
        return int, (ask_pool(self.number),)


class AsksWhenLoaded:
    """A result whose loading asks the pool."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> Any:
        return ask_pool, (self.number,)


def asks_when_loaded(number: int) -> AsksWhenLoaded:
    return AsksWhenLoaded(number)


class Dying:
    """Calls the pool when it is collected, wherever that is."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.call = call
        self.me = self  # only the garbage collector ends this

    def __call__(self, *_: Any) -> None:
        """Be a callback."""

    def __del__(self) -> None:
        self.call()


def test_arguments_whose_pickling_calls_the_pool(pool: Pool) -> None:
    items = [AsksWhenPickled(number) for number in range(5)]
    expected = [2 * number for number in range(5)]
    assert pool.map(work.identity, items, 1) == expected
    assert pool.map_async(work.identity, items, 3).get(GET) == expected
    assert list(pool.imap(work.identity, items)) == expected
    assert pool.apply_async(work.identity, (items[2],)).get(GET) == 4


def test_results_whose_loading_calls_the_pool(pool: Pool) -> None:
    """In the caller's thread, and in the one of callbacks."""
    seen: list[Any] = []
    result = pool.map_async(asks_when_loaded, range(5), 1, callback=seen.append)
    assert result.get(GET) == [0, 2, 4, 6, 8]
    assert seen == [[0, 2, 4, 6, 8]]
    assert list(pool.imap(asks_when_loaded, range(5), 2)) == [0, 2, 4, 6, 8]
    assert pool.apply_async(asks_when_loaded, (5,)).get(GET) == 10


def test_callbacks_that_call_the_pool_and_wait(pool: Pool) -> None:
    seen: list[Any] = []

    def call(_: Any) -> None:
        seen.append(pool.map(work.double, [1, 2], 1))
        seen.append(pool.apply(work.double, (3,)))
        seen.append(list(pool.imap(work.double, [4])))
        seen.append(pool.stats().facts.pid)

    expected = [[2, 4], 6, [8], os.getpid()]
    pool.apply_async(work.double, (1,), callback=call).get(GET)
    with pytest.raises(work.CustomError):
        pool.apply_async(work.double, (-1,), error_callback=call).get(GET)
    assert seen == expected * 2


def test_finalizers_that_call_the_pool(pool: Pool) -> None:
    """The collector may run them in any thread, also in those of the pool."""
    made: list[Any] = []
    limits = gc.get_threshold()
    gc.set_threshold(20, 2, 2)
    try:
        for _ in range(100):
            Dying(lambda: made.append(pool.apply_async(work.double, (3,))))
            assert pool.map_async(work.double, range(20), 1).get(GET) == list(range(0, 40, 2))
        gc.collect()
    finally:
        gc.set_threshold(*limits)
    assert [result.get(GET) for result in made] == [6] * 100


def test_a_finalizer_that_waits_for_the_pool_in_the_callers_thread(pool: Pool) -> None:
    asked: list[int] = []

    def ask(number: int) -> None:
        asked.append(pool.apply(work.double, (number,)))

    gc.disable()
    try:
        for number in range(10):
            Dying(partial(ask, number))
            result = pool.map_async(work.double, range(20), 1)
            gc.collect()
            assert result.get(GET) == list(range(0, 40, 2))
    finally:
        gc.enable()
    assert asked == [2 * number for number in range(10)]


WAITS = {
    "apply": "pool.apply(work.double, (3,))",
    "imap": "list(pool.imap(work.double, [1, 2]))",
    "wait": "pool.apply_async(work.double, (3,)).wait()",
}

# A program of its own, as a pool whose thread waits for itself never ends. The collector runs there
# by itself only now and then.
_WAITING = """
    import faulthandler, gc
    faulthandler.dump_traceback_later(15, exit=True)
    refused = []
    sys.unraisablehook = lambda error: refused.append(error.exc_type.__name__)
    class Dying:
        def __init__(self):
            self.me = self  # only the garbage collector ends this
        def __del__(self):
            seen.append(threading.current_thread().name.rpartition("-")[0])
            {wait}
    seen = []
    gc.disable()
    with Pool(2, context=context) as pool:
        Dying()
        pool._core.post(gc.collect)
        print(pool.map(work.double, [1, 2], 1))
        print(seen, refused)
"""


@pytest.mark.parametrize("wait", WAITS)
def test_a_finalizer_that_waits_in_the_thread_that_it_waits_for(
    start_method: str, tmp_path: Path, wait: str
) -> None:
    """It is refused, as there is nobody else who could give it an answer; the pool goes on."""
    source = _WAITING.format(wait=WAITS[wait])
    said = programs.run(tmp_path, start_method, source, OBSPOOL_DISABLE="1")
    assert said.splitlines() == ["[2, 4]", "['obspool-scheduler'] ['RuntimeError']"]


def test_a_finalizer_of_a_callback_that_waits_for_the_pool(pool: Pool) -> None:
    """Whichever thread lets go of the callback last."""
    asked: list[int] = []

    def ask() -> None:
        asked.append(pool.apply(work.double, (4,)))

    for _ in range(5):
        callback = Dying(ask)
        del callback.me  # the last reference ends it
        result = pool.apply_async(work.double, (1,), callback=callback)
        del callback
        assert result.get(GET) == 2
        del result
    poll(lambda: asked == [8] * 5)


def test_signal_handlers_that_call_the_pool_and_wait(pool: Pool) -> None:
    """Such a handler interrupts its own caller within the pool's code, and waits there."""
    answers: list[Any] = []

    def handler(*_: Any) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        answers.append(pool.apply(work.double, (3,)))
        answers.append(pool.map(work.double, [1, 2], 1))
        answers.append(pool.stats().facts.pid)
        signal.setitimer(signal.ITIMER_REAL, 0.002)

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.002)
    try:
        for _ in range(30):
            assert pool.map(work.double, range(40), 1) == [2 * n for n in range(40)]
            assert list(pool.imap(work.double, range(40), 7)) == [2 * n for n in range(40)]
            assert pool.apply(work.double, (5,)) == 10
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(answers) >= 15
    assert len(answers) % 3 == 0
    assert answers == [6, [2, 4], os.getpid()] * (len(answers) // 3)


def test_sixteen_threads_share_one_pool(pool: Pool) -> None:
    """All kinds of calls at once: each has its own answers."""
    start = threading.Barrier(16)

    def calls(thread: int) -> list[Any]:
        base, found = 100 * thread, []
        items = range(base, base + 10)
        seen: list[int] = []
        start.wait(GET)
        for _ in range(3):
            found += pool.map(work.identity, items, 3)
            found += list(pool.imap(work.identity, items))
            found += sorted(pool.imap_unordered(work.identity, items, 4))
            found += [pool.apply(work.identity, (item,)) for item in items]
            result = pool.starmap_async(work.add, [(item,) for item in items], callback=seen.extend)
            found += result.get(GET)
            with pytest.raises(work.CustomError):
                pool.apply(work.double, (-1,))
        assert seen == list(items) * 3
        return found

    with ThreadPoolExecutor(16) as callers:
        for thread, found in enumerate(callers.map(calls, range(16))):
            assert found == list(range(100 * thread, 100 * thread + 10)) * 15
