"""`cancel()` and `progress()`: what has not begun never does, what runs ends if that is asked."""

from __future__ import annotations

import gc
import signal
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from obspool import CancelledError, Pool, SoftCancelError, ThreadPool, interrupts
from obspool.jobs import Job
from obspool.words import ExitReason, Outcome
from tests.helpers import poll
from tests.pool import work
from tests.pool.ending import ended

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.context import BaseContext

SOON = 8.0  # seconds until a cancelled call has ended, on a loaded machine


def _touch_and_wait(paths: tuple[str, str]) -> str:
    """Say that this runs; run until a file is there."""
    Path(paths[0]).touch()
    work.until_there(paths[1])
    return paths[0]


def _tidy(folder: str) -> None:
    try:
        Path(folder, "begun").touch()
        work.signal_less_wait()
    except Exception:
        Path(folder, "caught").touch()
    except SoftCancelError:
        Path(folder, "cancelled").touch()
        raise
    finally:
        Path(folder, "tidy").touch()


def _answer_all_the_same(folder: str) -> str:
    try:
        Path(folder, "begun").touch()
        work.signal_less_wait()
    except SoftCancelError:
        return "as far as I got"


def _ignore(folder: str) -> None:
    while True:
        try:
            Path(folder, "begun").touch()
            time.sleep(60)
        except SoftCancelError:
            continue


@pytest.fixture(name="pool")
def _pool_of_two(mp_context: BaseContext) -> Iterator[Pool]:
    with Pool(2, context=mp_context) as pool:
        yield pool


@pytest.fixture(name="grace")
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "GRACE", 0.3)


@pytest.mark.parametrize("chunk", [1, 3, 20])
def test_what_has_not_begun_never_does(pool: Pool, tmp_path: Path, chunk: int) -> None:
    """Two run, and end; of the 38 others not one begins."""
    go = tmp_path / "go"
    items = [(str(tmp_path / f"item-{number}"), str(go)) for number in range(40)]
    result = pool.map_async(_touch_and_wait, items, chunk)
    poll(lambda: len(list(tmp_path.glob("item-*"))) == 2)
    assert result.cancel()
    poll(lambda: pool.stats().tasks.queued == pool.stats().tasks.dispatched == 0)
    assert not result.ready()
    go.touch()
    with pytest.raises(CancelledError):
        result.get(SOON)
    assert result.ready()
    assert result.cancelled()
    assert not result.successful()
    assert not result.cancel()
    assert result.progress() == (40, 40, 38)
    stats = ended(pool)
    assert stats.items_completed[Outcome.OK] == 2
    assert stats.items_completed[Outcome.CANCELLED] == 38
    assert stats.jobs_completed[Outcome.CANCELLED] == 1
    assert len(list(tmp_path.glob("item-*"))) == 2


def test_other_calls_lose_nothing(pool: Pool, tmp_path: Path) -> None:
    """Calls before and behind the cancelled one, in the same workers, give all they should."""
    go = tmp_path / "go"
    held = [pool.apply_async(work.until_there, (str(go),)) for _ in range(2)]
    poll(lambda: pool.stats().tasks.running == 2)
    before = pool.map_async(work.double, range(100), 3)
    cancelled = pool.map_async(work.double, range(100), 3)
    behind = pool.map_async(work.double, range(100))
    single = pool.apply_async(work.double, (4,))
    assert cancelled.cancel()
    go.touch()
    assert before.get(SOON) == behind.get(SOON) == [2 * item for item in range(100)]
    assert single.get(SOON) == 8
    assert all(result.get(SOON) for result in held)
    with pytest.raises(CancelledError):
        cancelled.get(SOON)
    ended(pool)


def test_a_call_that_runs_goes_on(pool: Pool, tmp_path: Path) -> None:
    """Nothing of it was left out: its value is there, and it was not cancelled."""
    go = tmp_path / "go"
    result = pool.apply_async(_touch_and_wait, ((str(tmp_path / "begun"), str(go)),))
    poll((tmp_path / "begun").exists)
    assert result.cancel()
    go.touch()
    assert result.get(SOON) == str(tmp_path / "begun")
    assert not result.cancelled()


def test_what_runs_is_interrupted_when_asked(pool: Pool, tmp_path: Path) -> None:
    """Its `finally` runs, its `except Exception` doesn't, and its worker lives on."""
    before = {worker.pid for worker in pool.stats().workers}
    result = pool.apply_async(_tidy, (str(tmp_path),))
    poll((tmp_path / "begun").exists)
    assert result.cancel(running=True)
    with pytest.raises(CancelledError):
        result.get(SOON)
    assert result.cancelled()
    assert {path.name for path in tmp_path.iterdir()} == {"begun", "cancelled", "tidy"}
    stats = ended(pool)
    assert {worker.pid for worker in stats.workers} == before
    assert stats.items_completed[Outcome.CANCELLED] == 1
    assert sum(worker.items[Outcome.CANCELLED] for worker in stats.workers) == 1
    assert not stats.worker_exits[ExitReason.COMMAND]


@pytest.mark.parametrize("function", [time.sleep, work.work])
def test_running_items_of_a_map_end_soon(pool: Pool, function: Any) -> None:
    """In C code that can be interrupted, which has no frame of its own, and in Python code."""
    result = pool.map_async(function, [60_000] * 6, 1)
    poll(lambda: pool.stats().tasks.running == 2)
    result.cancel(running=True)
    with pytest.raises(CancelledError):
        result.get(SOON)
    stats = ended(pool)
    assert stats.items_completed == {**dict.fromkeys(Outcome, 0), Outcome.CANCELLED: 6}


def test_an_item_may_answer_all_the_same(pool: Pool, tmp_path: Path) -> None:
    """It catches the interrupt and returns in time: the call was not cancelled."""
    result = pool.apply_async(_answer_all_the_same, (str(tmp_path),))
    poll((tmp_path / "begun").exists)
    result.cancel(running=True)
    assert result.get(SOON) == "as far as I got"
    assert not result.cancelled()


@pytest.mark.usefixtures("grace")
@pytest.mark.parametrize("function", [_ignore, work.tell_and_spin])
def test_what_does_not_end_is_ended_with_its_worker(
    pool: Pool, tmp_path: Path, function: Any
) -> None:
    """Whether it won't or, in C code, can't; no call of others is lost."""
    result = pool.apply_async(function, (str(tmp_path),))
    poll(lambda: any(tmp_path.iterdir()))
    others = pool.map_async(work.double, range(50), 2)
    result.cancel(running=True)
    with pytest.raises(CancelledError, match="the worker was killed"):
        result.get(SOON)
    assert others.get(SOON) == [2 * item for item in range(50)]
    stats = ended(pool)
    assert stats.items_completed[Outcome.CANCELLED] == 1
    assert stats.worker_exits[ExitReason.COMMAND] == 1
    assert not stats.worker_exits[ExitReason.LOST]


def test_an_interrupt_hits_no_other_item(pool: Pool) -> None:
    """Short items of another call run in the same workers while one is cancelled: all give all."""
    for _ in range(20):
        cancelled = pool.map_async(work.work, [0.3] * 2000, 1)
        others = pool.map_async(work.double, range(2000), 1)
        cancelled.cancel(running=True)
        assert others.get(SOON) == [2 * item for item in range(2000)]
        with pytest.raises(CancelledError):
            cancelled.get(SOON)
    ended(pool)


def test_an_iterator_raises_for_what_was_left_out(pool: Pool, tmp_path: Path) -> None:
    """What has ended or runs is yielded; an endless iterable is not read on."""
    go = tmp_path / "go"
    read: list[int] = []

    def endless() -> Iterator[tuple[str, str]]:
        while True:
            read.append(len(read))
            yield str(tmp_path / f"item-{len(read) - 1}"), str(go)

    iterator = pool.imap(_touch_and_wait, endless(), buffersize=10)
    poll(lambda: len(list(tmp_path.glob("item-*"))) == 2)
    assert iterator.cancel()
    go.touch()
    outcomes = work.drain(iterator)
    assert [outcome for outcome, _ in outcomes[:2]] == ["value", "value"]
    assert {name for _, (name, _) in outcomes[2:]} == {"CancelledError"}
    poll(lambda: not [t for t in threading.enumerate() if t.name.startswith("obspool-feeder")])
    assert len(read) < 20


def test_errors_in_place_are_of_items_only(pool: Pool, tmp_path: Path) -> None:
    """A cancelled call raises, also with `return_exceptions`."""
    go = tmp_path / "go"
    items = [(str(tmp_path / f"item-{number}"), str(go)) for number in range(10)]
    result = pool.map_async(_touch_and_wait, items, 1, return_exceptions=True)
    poll(lambda: len(list(tmp_path.glob("item-*"))) == 2)
    result.cancel()
    go.touch()
    with pytest.raises(CancelledError):
        result.get(SOON)


def test_the_error_callback_is_called() -> None:
    """With the CancelledError, once."""
    errors: list[BaseException] = []
    with Pool(1) as pool:
        pool.pause()
        result = pool.map_async(work.double, range(5), error_callback=errors.append)
        result.cancel()
        result.wait(SOON)
    assert [type(error) for error in errors] == [CancelledError]


def test_cancel_from_a_signal_handler_and_a_callback() -> None:
    """It only appends and wakes."""
    with Pool(1) as pool:
        pool.pause()
        one, other = (pool.map_async(work.double, range(100), 1) for _ in range(2))
        before = signal.signal(signal.SIGUSR1, lambda *_: one.cancel())
        try:
            signal.raise_signal(signal.SIGUSR1)
        finally:
            signal.signal(signal.SIGUSR1, before)
        with pytest.raises(CancelledError):
            one.get(SOON)
        pool.resume()
        third = pool.apply_async(work.double, (1,), callback=lambda _: other.cancel())
        assert third.get(SOON) == 2
        other.wait(SOON)


def test_threads_drop_what_is_queued_and_cannot_be_interrupted(tmp_path: Path) -> None:
    """`running=True` is refused."""
    go = tmp_path / "go"
    with ThreadPool(2) as pool:
        items = [(str(tmp_path / f"item-{number}"), str(go)) for number in range(10)]
        result = pool.map_async(_touch_and_wait, items, 1)
        poll(lambda: len(list(tmp_path.glob("item-*"))) == 2)
        with pytest.raises(ValueError, match="needs processes"):
            result.cancel(running=True)
        assert result.cancel()
        go.touch()
        with pytest.raises(CancelledError):
            result.get(SOON)
        assert result.progress() == (10, 10, 8)
        ended(pool)


@pytest.mark.parametrize("chunk", [1, 4])
def test_progress(tmp_path: Path, chunk: int) -> None:
    """What is done, of how many, and how much of it failed, while it runs and afterwards."""
    first, second = tmp_path / "first", tmp_path / "second"
    with Pool(1) as pool:
        result = pool.map_async(work.until_there, [str(first), str(second)], 1)
        assert result.progress() == (0, 2, 0)
        first.touch()
        poll(lambda: result.progress() == (1, 2, 0))
        second.touch()
        result.get(SOON)
        assert result.progress() == (2, 2, 0)
        iterator = pool.imap(work.double, iter([1, -1, 3]), chunk)
        work.drain(iterator)
        assert iterator.progress() == (3, 3, 1)
        unsendable = pool.apply_async(threading.Lock().acquire, ())
        unsendable.wait(SOON)
        assert unsendable.progress().failed <= 1


def test_cancelling_ten_thousand_leaves_the_pool_as_it_was(pool: Pool) -> None:
    """The queue's depth goes back to nothing, and the next call is served at once."""
    results = [pool.apply_async(work.work, (1,)) for _ in range(10_000)]
    begun = time.monotonic()
    for result in results:
        result.cancel()
    for result in results:
        result.wait(SOON)
    assert all(result.ready() for result in results)
    assert time.monotonic() - begun < SOON
    assert pool.apply(work.double, (4,)) == 8
    stats = ended(pool)
    assert not stats.tasks.queued


def test_what_a_feeder_has_in_hand_never_begins(pool: Pool, tmp_path: Path) -> None:
    """It was waiting within the iterable when its call was cancelled."""
    more = threading.Event()

    def items() -> Iterator[str]:
        yield str(tmp_path / "first")
        more.wait(SOON)
        yield str(tmp_path / "second")

    iterator = pool.imap(_begin, items())
    assert iterator.next(SOON) == str(tmp_path / "first")
    iterator.cancel()
    assert work.drain(iterator) == [("error", ("CancelledError", ("the call was cancelled",)))]
    more.set()
    poll(lambda: not [t for t in threading.enumerate() if t.name.startswith("obspool-feeder")])
    assert pool.map(work.double, range(10), 1) == [2 * item for item in range(10)]
    stats = ended(pool)
    assert not (tmp_path / "second").exists()
    assert stats.tasks.result == 0


def _begin(path: str) -> str:
    Path(path).touch()
    return path


def test_cancelled_calls_are_kept_by_nobody(tmp_path: Path) -> None:
    """Also while an older call has work queued."""
    go = tmp_path / "go"
    with Pool(1) as pool:
        held = pool.map_async(work.until_there, [str(go)] * 10, 1)
        results = [pool.apply_async(work.double, (1,)) for _ in range(100)]
        for result in results:
            result.cancel()
            result.wait(SOON)
        gc.collect()
        assert sum(isinstance(found, Job) for found in gc.get_objects()) < 5
        go.touch()
        assert len(held.get(SOON)) == 10


def test_each_error_of_an_iterator_has_a_traceback_of_its_own(tmp_path: Path) -> None:
    """One object stands for all that was left out: its traceback must not grow."""
    with Pool(1) as pool:
        pool.pause()
        iterator = pool.imap(work.double, range(50))
        poll(lambda: pool.stats().tasks.queued == 50)
        iterator.cancel()
        lengths = set()
        for _ in range(50):
            with pytest.raises(CancelledError) as raised:
                iterator.next(SOON)
            lengths.add(len(traceback.extract_tb(raised.value.__traceback__)))
        assert len(lengths) == 1


def test_a_call_is_cancelled_by_its_number(pool: Pool) -> None:
    """As the snapshot tells it; one that has ended, or never was, is refused."""
    pool.pause()
    result = pool.map_async(work.double, range(10), 1)
    poll(lambda: len(pool.stats().jobs) == 1)
    number = pool.stats().jobs[0].id
    pool.cancel(number)
    with pytest.raises(CancelledError):
        result.get(SOON)
    poll(lambda: not pool.stats().jobs_in_progress)
    for wrong in (number, 10**9):
        with pytest.raises(ValueError, match=f"no job {wrong} that has not ended"):
            pool.cancel(wrong, running=True)
