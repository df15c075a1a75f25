"""`apply` writes to an idle worker from the caller's own thread; nothing of it may be lost."""

from __future__ import annotations

import os
import signal
import threading
import time
import weakref
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from obspool import Pool
from obspool.core import DIRECT_BYTES
from obspool.engines import maker
from obspool.offers import Claim, Offer, Offers
from obspool.telemetry.reader import read
from obspool.words import ExitReason, Outcome
from tests.helpers import poll
from tests.pool import work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.context import BaseContext

    from obspool.core import Core
    from obspool.messages import Batch


def _write_line(path: str) -> int:
    with Path(path).open("a") as file:
        file.write("ran\n")
    return os.getpid()


_runs: Counter[int] = Counter()


def _count(item: int) -> int:
    _runs[item] += 1
    return item


def _counts() -> dict[int, int]:
    return dict(_runs)


def _ready(pool: Pool) -> Core:
    """Have every worker know the functions, and be offered; return the pool's core."""
    core = pool._live()
    for function, argument in ((work.identity, 1), (_write_line, os.devnull)):
        pool.map(function, [argument] * 64, 1)
    poll(lambda: core._loop.offers._open.keys() == core.supervisor.workers.keys())
    return core


def _offer(pool: Pool) -> Offer:
    """Return the offer of the pool's only worker."""
    (offer,) = pool._live()._loop.offers._open.values()
    return offer


@pytest.fixture(name="pool")
def _pool_of_one(mp_context: BaseContext) -> Iterator[Pool]:
    """A pool of one worker that has everything."""
    with Pool(1, context=mp_context) as made:
        _ready(made)
        yield made
        made.close()
        made.join()
        stats = made.stats()
        assert sum(stats.tasks_submitted.values()) == sum(stats.tasks_completed.values())
        assert stats.items_completed[Outcome.LOST] == 0


def _sends(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list that will hold what the scheduler sends."""
    sent: list[Any] = []
    send = pool._live().engine.send

    def noted(worker: Any, batch: Batch) -> None:
        sent.append(batch)
        send(worker, batch)

    monkeypatch.setattr(pool._live().engine, "send", noted)
    return sent


def test_an_apply_to_an_idle_worker_needs_no_send_of_the_scheduler(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (worker,) = pool._live().supervisor.workers.values()
    sent = _sends(pool, monkeypatch)
    for number in range(20):
        assert pool.apply(work.identity, (number,)) == number
        poll(lambda: worker.id in pool._live()._loop.offers._open, interval=0.0005)
    assert not sent


def test_a_large_item_and_one_for_a_busy_worker_go_the_long_way(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sent = _sends(pool, monkeypatch)
    assert pool.apply(work.identity, (bytes(DIRECT_BYTES),)) == bytes(DIRECT_BYTES)
    assert len(sent) == 1
    held = pool.apply_async(work.until_there, (str(tmp_path / "go"),))
    poll(lambda: pool.stats().tasks.running == 1)
    with ThreadPoolExecutor(1) as caller:
        answer = caller.submit(pool.apply, work.identity, (3,))
        poll(lambda: pool.stats().tasks.queued + pool.stats().tasks.dispatched == 1)
        (tmp_path / "go").touch()
        assert answer.result(10) == 3
    held.get(10)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_caller_interrupted_about_its_send(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, when: str
) -> None:
    """Whether the item was sent isn't known then: it is sent again, and runs once."""
    real = maker.send_now

    def interrupted(channel: Any, batch: Batch) -> bool:
        if when == "after":
            assert real(channel, batch)
        raise KeyboardInterrupt

    offer: Any = _offer(pool)
    channel = offer.send.args[0]
    monkeypatch.setattr(offer, "send", lambda batch: interrupted(channel, batch))
    ran = tmp_path / "ran"
    with pytest.raises(KeyboardInterrupt):
        pool.apply(_write_line, (str(ran),))
    poll(ran.exists)
    assert pool.map(work.identity, range(100), 1) == list(range(100))
    assert ran.read_text() == "ran\n"


def test_a_caller_interrupted_with_its_claim_in_hand(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The append that claims the worker is the last thing that the caller ever does."""

    def claim_and_stop(_offers: Offers, claim: Claim) -> bool:
        assert _offer(pool).claim(claim)
        raise KeyboardInterrupt

    monkeypatch.setattr(Offers, "take", claim_and_stop)
    ran = tmp_path / "ran"
    with pytest.raises(KeyboardInterrupt):
        pool.apply(_write_line, (str(ran),))
    monkeypatch.undo()
    poll(ran.exists)
    assert pool.apply(work.identity, (1,)) == 1
    assert ran.read_text() == "ran\n"


def test_nobody_else_writes_to_a_worker_while_a_caller_is_about_to(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its few bytes would land in the middle of a large message."""
    offer = _offer(pool)
    send, about_to, go = offer.send, threading.Event(), threading.Event()

    def late(batch: Batch) -> bool:
        about_to.set()
        assert go.wait(10)
        return send(batch)

    monkeypatch.setattr(offer, "send", late)
    sent = _sends(pool, monkeypatch)
    large = [bytes([number]) * 1_000_000 for number in range(4)]
    with ThreadPoolExecutor(1) as caller:
        answer = caller.submit(pool.apply, work.identity, ("small",))
        assert about_to.wait(10)
        result = pool.map_async(work.identity, large, 1)
        poll(lambda: pool.stats().tasks.queued == 4)
        assert not sent
        go.set()
        assert answer.result(10) == "small"
        assert result.get(10) == large


def test_an_apply_does_not_overtake_an_earlier_call_of_its_thread(pool: Pool) -> None:
    for _ in range(100):
        earlier = pool.apply_async(time.monotonic_ns)
        later = pool.apply(time.monotonic_ns)
        assert earlier.get() < later


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("method", ["apply", "map", "imap"])
def test_interrupts_anywhere_in_a_call(method: str) -> None:
    """Nothing runs twice, no answer is wrong, no worker is lost, and the pool ends."""

    class Interrupt(BaseException):
        """As a Ctrl-C, but nobody else's."""

    def interrupt(*_: object) -> None:
        raise Interrupt

    calls: dict[str, Callable[[Pool, int], list[int]]] = {
        "apply": lambda pool, number: [pool.apply(_count, (number,))],
        "map": lambda pool, number: pool.map(_count, [number]),
        "imap": lambda pool, number: list(pool.imap(_count, [number])),
    }
    call, random = calls[method], Random(3)  # noqa: S311 - to be the same each time
    before = signal.signal(signal.SIGALRM, interrupt)
    interrupted = number = 0
    try:
        with Pool(1) as pool:
            pool.map(_count, [-1] * 64, 1)
            end = time.monotonic() + 1.0
            while time.monotonic() < end:
                try:
                    signal.setitimer(signal.ITIMER_REAL, random.uniform(5e-6, 4e-4))
                    for _ in range(50):  # the interpreter ignores what a finalizer raises
                        number += 1
                        assert call(pool, number) == [number]
                except Interrupt:
                    interrupted += 1
                except RuntimeError as error:  # Thread.start, interrupted in its Event's lock
                    if "release unlocked lock" not in str(error):
                        raise
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
            runs = pool.apply(_counts)
            pool.close()
            ended = ThreadPoolExecutor(1).submit(pool.join)
            ended.result(10)
            stats = pool.stats()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert interrupted > 100
    assert max(count for item, count in runs.items() if item != -1) == 1
    assert sum(stats.tasks_submitted.values()) == sum(stats.tasks_completed.values())
    assert not stats.worker_exits[ExitReason.LOST]


def test_what_the_channel_refuses_the_scheduler_sends(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_offer(pool), "send", lambda _batch: False)
    assert pool.apply(work.identity, (7,)) == 7


def test_a_worker_killed_while_it_is_offered_loses_nothing(mp_context: BaseContext) -> None:
    """Whether the caller writes to a dying worker or to a dead one: the item runs elsewhere."""
    with Pool(2, context=mp_context) as pool:
        for number in range(10):
            core = _ready(pool)
            first, *_ = core._loop.offers._open.values()
            os.kill(first.worker.pid, signal.SIGKILL)
            assert [pool.apply(work.identity, (number,)) for _ in range(3)] == [number] * 3
        pool.close()
        pool.join()
        assert pool.stats().items_completed[Outcome.LOST] == 0


def test_a_held_channel_stays_open_until_its_holder_lets_go(pool: Pool) -> None:
    """Its number must not be somebody else's while a caller is about to write to it."""
    (worker,) = pool._live().supervisor.workers.values()
    offer: Any = _offer(pool)
    held = offer.send.args[0]
    number = held.fileno()
    os.kill(worker.pid, signal.SIGKILL)
    poll(lambda: worker.id not in pool._live().supervisor.workers)
    os.fstat(number)
    gone = weakref.ref(held)
    del held, offer
    poll(lambda: gone() is None)


def test_tasks_of_applies_count_for_maxtasksperchild() -> None:
    with Pool(1, maxtasksperchild=5) as pool:
        pids = [pool.apply(os.getpid) for _ in range(30)]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [5] * 6


def test_many_threads_apply_at_once() -> None:
    """Each claim has one winner; every call has its own answer."""
    start = threading.Barrier(16)

    def calls(thread: int) -> list[tuple[int, int]]:
        start.wait()
        return [pool.apply(work.identity, ((thread, number),)) for number in range(200)]

    with Pool(4) as pool, ThreadPoolExecutor(16) as callers:
        _ready(pool)
        for thread, answers in enumerate(callers.map(calls, range(16))):
            assert answers == [(thread, number) for number in range(200)]
        stats = pool.stats()
        assert sum(stats.tasks_submitted.values()) == sum(stats.tasks_completed.values())
        assert stats.tasks.queued + stats.tasks.dispatched + stats.tasks.running == 0


def test_a_long_apply_is_counted_while_it_runs(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The caller sees to it after a while: the next heartbeat would be late."""
    woken = threading.Event()
    wake = pool._live().engine.wake

    def wake_and_tell() -> None:
        wake()
        woken.set()

    monkeypatch.setattr(pool._live().engine, "wake", wake_and_tell)
    before = sum(pool.stats().tasks_submitted.values())
    woken.clear()
    with ThreadPoolExecutor(1) as caller:
        answer = caller.submit(pool.apply, work.until_there, (str(tmp_path / "go"),))
        assert woken.wait(10)
        poll(lambda: sum(read(pool._live().segment).tasks_submitted.values()) == before + 1)
        (tmp_path / "go").touch()
        answer.result(10)


def test_terminate_ends_what_a_caller_has_sent(tmp_path: Path) -> None:
    with Pool(1) as pool, ThreadPoolExecutor(1) as caller:
        pool.map(work.until_there, [str(tmp_path)] * 64, 1)  # it is there
        answer = caller.submit(pool.apply, work.until_there, (str(tmp_path / "never"),))
        poll(lambda: pool.stats().tasks.running == 1)
        pool.terminate()
        with pytest.raises(Exception, match="terminated"):
            answer.result(10)
