"""`timeout=`: an item whose time is over is interrupted, or ended with its worker; no other."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from obspool import Pool, SoftTimeoutError, TaskTimeoutError, ThreadPool, interrupts
from obspool.words import ExitReason, Outcome
from tests.helpers import poll
from tests.pool import work
from tests.pool.ending import ended

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.context import BaseContext


SHORT = 0.2  # seconds an item may run
SOON = 5.0  # until its error is there, on a loaded machine


def _sleep_at_minus(item: int) -> int:
    if item < 0:
        time.sleep(60)
    return item


def _tidy(folder: str) -> None:
    try:
        while True:
            pass
    except Exception:
        Path(folder, "caught").touch()
    finally:
        Path(folder, "tidy").touch()


def _answer_late(_: Any) -> str:
    try:
        time.sleep(60)
    except SoftTimeoutError:
        return "as far as I got"
    return "all of it"


def _ignore(_: Any) -> None:
    while True:
        try:
            time.sleep(60)
        except SoftTimeoutError:
            continue


def _stuck_in_c(_: Any) -> int:
    return sum(range(10**12))


def _get(result: Any) -> Any:
    return result.get(SOON)


def _about(milliseconds: float) -> float:
    time.sleep(milliseconds / 1000)
    return milliseconds


@pytest.fixture(name="grace")
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "GRACE", 0.3)


@pytest.fixture(name="pool")
def _pool_of_two(mp_context: BaseContext) -> Iterator[Pool]:
    with Pool(2, context=mp_context) as made:
        yield made


@pytest.mark.parametrize("chunk", [1, 4])
def test_an_item_that_sleeps_is_interrupted_and_no_other(pool: Pool, chunk: int) -> None:
    began = time.monotonic()
    pids = {process.pid for process in pool._pool}
    found = work.drain(pool.imap(_sleep_at_minus, [0, 1, -1, 3, 4, 5], chunk, timeout=SHORT))
    assert [value for kind, value in found if kind == "value"] == [0, 1, 3, 4, 5]
    assert found[2][0] == "error"
    assert found[2][1][0] == "TaskTimeoutError"
    assert SHORT < time.monotonic() - began < SOON
    assert {process.pid for process in pool._pool} == pids
    stats = ended(pool)
    assert stats.items_completed[Outcome.TIMEOUT] == 1
    assert stats.jobs_completed[Outcome.TIMEOUT] == 1
    assert sum(worker.items[Outcome.TIMEOUT] for worker in stats.workers) == 1
    assert not stats.worker_exits[ExitReason.LOST]


@pytest.mark.parametrize("method", ["apply", "apply_async", "map", "starmap", "map_async"])
def test_every_method_has_it(method: str) -> None:
    arguments: Any = {"apply": (-1,), "apply_async": (-1,), "starmap": [(-1,)]}.get(method, [-1])
    with Pool(1) as pool:
        pool.map(_sleep_at_minus, [1] * 4, 1)
        with pytest.raises(TaskTimeoutError, match=r"ran longer than 0\.2 s") as caught:
            _get(getattr(pool, method)(_sleep_at_minus, arguments, timeout=SHORT))
        assert isinstance(caught.value, TimeoutError)
        assert "in _sleep_at_minus" in str(caught.value.__cause__)
        assert pool.apply(work.double, (2,), timeout=SHORT) == 4


_PROBE = """
import os, signal, sys, threading, time
def raises(*_): raise TimeoutError
def fork():
    if pid := os.fork():
        os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    signal.signal(signal.SIGURG, raises)
    main = threading.get_ident()
    threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGURG)).start()
    end = time.monotonic() + 1.0
    try:
        while time.monotonic() < end: pass
    except TimeoutError: os._exit(0)
    os._exit(1)
threading.Thread(target=fork).start()
"""


def test_an_item_may_tidy_up_and_catch_all_is_not_this(
    pool: Pool, mp_context: BaseContext, tmp_path: Path
) -> None:
    """As Python code: a loop that never leaves the interpreter."""
    if mp_context.get_start_method() == "fork":
        probe = subprocess.run([sys.executable, "-W", "ignore", "-c", _PROBE], check=False)
        if probe.returncode:
            pytest.skip("this interpreter's loops notice no signal in a child that a thread forked")
    with pytest.raises(TaskTimeoutError):
        pool.apply(_tidy, (str(tmp_path),), timeout=SHORT)
    assert [path.name for path in tmp_path.iterdir()] == ["tidy"]


def test_what_an_item_returns_when_it_is_interrupted_is_its_result(pool: Pool) -> None:
    assert pool.apply(_answer_late, (1,), timeout=SHORT) == "as far as I got"
    assert not ended(pool).items_completed[Outcome.TIMEOUT]


@pytest.mark.usefixtures("grace")
@pytest.mark.parametrize("function", [_ignore, _stuck_in_c])
def test_an_item_that_goes_on_is_ended_with_its_worker(pool: Pool, function: Any) -> None:
    (first, second) = (pool.apply_async(work.identity, (n,)) for n in range(2))
    stuck = pool.apply_async(function, (1,), timeout=SHORT, retries=5)
    with pytest.raises(TaskTimeoutError, match=rf"item 0 of {function.__name__}.*was killed"):
        stuck.get(SOON)
    assert (first.get(SOON), second.get(SOON)) == (0, 1)
    assert pool.map(work.double, range(8), 1) == list(range(0, 16, 2))
    poll(lambda: len(pool._pool) == 2)
    stats = ended(pool)
    assert stats.items_completed[Outcome.TIMEOUT] == 1
    assert stats.items_completed[Outcome.LOST] == stats.items_retried == 0
    assert stats.worker_exits[ExitReason.TIMEOUT] == 1
    assert not stats.worker_exits[ExitReason.LOST]


@pytest.mark.usefixtures("grace")
def test_items_about_one_that_is_ended_run_on(pool: Pool) -> None:
    """Those behind it in its chunk elsewhere; those before it have been sent."""
    items = [*range(6), "stuck", *range(7, 12)]
    found = pool.map(_stuck_at, items, 12, timeout=10 * SHORT, return_exceptions=True)
    assert isinstance(found[6], TaskTimeoutError)
    assert [value for value in found if isinstance(value, int)] == [
        item for item in range(12) if item != 6
    ]


def _stuck_at(item: Any) -> Any:
    if item == "stuck":
        return sum(range(10**12))
    time.sleep(0.02)
    return item


def test_the_pool_may_say_it_for_all_calls() -> None:
    with Pool(1, timeout=SHORT) as pool:
        with pytest.raises(TaskTimeoutError):
            pool.map(_sleep_at_minus, [1, -1])
        assert pool.apply(_about, (1000 * SHORT + 200,), timeout=math.inf) == 1000 * SHORT + 200
        assert pool.apply(_about, (1000 * SHORT + 200,), timeout=9) == 1000 * SHORT + 200


def test_times_about_the_limit_hit_no_other_item() -> None:
    """Each item has its own result or its own timeout, however close its end is to its limit."""
    items = [8 + index % 5 for index in range(120)]
    with Pool(2) as pool:
        found = pool.map(_about, items, 6, timeout=0.01, return_exceptions=True)
        stats = ended(pool)
    late = [value for value in found if isinstance(value, TaskTimeoutError)]
    assert len(found) == 120
    assert all(
        value == item or isinstance(value, TaskTimeoutError)
        for item, value in zip(items, found, strict=True)
    )
    assert 24 <= len(late) < 120
    assert stats.items_completed[Outcome.TIMEOUT] == len(late)
    assert not stats.worker_exits[ExitReason.LOST]


def test_calls_without_a_timeout_are_not_limited_by_earlier_ones() -> None:
    with Pool(1) as pool:
        assert pool.apply(work.double, (1,), timeout=SHORT) == 2
        assert pool.apply(_about, (1000 * SHORT + 300,)) == 1000 * SHORT + 300


@pytest.mark.parametrize(
    ("timeout", "error"), [(0, ValueError), (-1, ValueError), ("1", TypeError), (True, TypeError)]
)
def test_what_is_no_time(timeout: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="timeout must be"):
        Pool(1, timeout=timeout)
    with Pool(1) as pool, pytest.raises(error, match="timeout must be"):
        pool.map(work.double, [1], timeout=timeout)


def test_threads_cannot_be_limited() -> None:
    with ThreadPool(1) as pool, pytest.raises(ValueError, match="needs processes"):
        pool.map(work.double, [1], timeout=SHORT)
