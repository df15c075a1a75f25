"""Processes that stand still, and a clock that goes back."""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import psutil
import pytest

from obspool import Pool, PoolTerminatedError
from obspool.telemetry import reader, registry
from obspool.words import Outcome, WorkerState
from tests.faults import deeds, programs
from tests.helpers import poll
from tests.pool import work
from tests.pool.ending import ended

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.context import BaseContext
    from pathlib import Path

GET = 10.0
TERMINATE = 5.0  # seconds, at the most
HOUR = 3600.0


def _is_stopped(pid: int) -> bool:
    return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)


def _stopped(pool: Pool) -> list[int]:
    return [process.pid for process in pool._pool if _is_stopped(process.pid)]


@contextmanager
def _going_on(pids: list[int]) -> Iterator[None]:
    """At the end of the block, have the processes go on that are still there."""
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _calls(pool: Pool) -> None:
    """Make calls of all kinds, and have their results."""
    for _ in range(3):
        assert pool.map_async(work.double, range(50), 1).get(GET) == list(range(0, 100, 2))
        assert pool.apply_async(work.double, (4,)).get(GET) == 8
        assert work.drain(pool.imap(work.double, range(20), 2))[-1] == ("value", 38)


def test_others_work_on_beside_a_stopped_worker(mp_context: BaseContext, tmp_path: Path) -> None:
    """They do also what it had been sent; when it is continued its own item has its result."""
    with Pool(2, context=mp_context) as pool:
        held = pool.apply_async(deeds.stop_once, (str(tmp_path),))
        (stopped,) = pids = poll(lambda: _stopped(pool))
        with _going_on(pids):
            _calls(pool)
            assert not held.ready()
        assert held.get(GET) == stopped
        assert stopped in {process.pid for process in pool._pool}
        assert ended(pool).items_completed[Outcome.LOST] == 0


def test_others_work_on_beside_one_stopped_with_its_claim_lock(
    mp_context: BaseContext, tmp_path: Path
) -> None:
    """Nothing can be taken back from it: so what it has waits for it, and it is given no more."""
    with Pool(2, context=mp_context) as pool:
        poll(lambda: [worker.state for worker in pool.stats().workers] == [WorkerState.IDLE] * 2)
        held = pool.apply_async(deeds.stop_with_claim_lock, (str(tmp_path),))
        (stopped,) = pids = poll(lambda: _stopped(pool))
        with _going_on(pids):
            first = pool.map_async(work.double, range(50), 1)
            poll(lambda: pool.stats().tasks.queued == 0)
            workers = pool._live().supervisor.workers
            poll(lambda: any(worker.unanswered for worker in workers.values()))
            _calls(pool)
        assert held.get(GET) == stopped
        assert first.get(GET) == list(range(0, 100, 2))
        assert ended(pool).items_completed[Outcome.LOST] == 0


@pytest.mark.parametrize("stop", [deeds.stop_once, deeds.stop_with_claim_lock])
def test_terminate_with_a_stopped_worker(
    mp_context: BaseContext, tmp_path: Path, stop: object
) -> None:
    with Pool(2, context=mp_context) as pool:
        result = pool.map_async(stop, [str(tmp_path)] * 2, 1)  # type: ignore[arg-type]
        poll(lambda: _stopped(pool))
        pids = [process.pid for process in pool._pool]
        with _going_on(pids):
            began = time.monotonic()
            pool.terminate()
            assert time.monotonic() - began < TERMINATE
            assert programs.all_gone(pids)
            with pytest.raises(PoolTerminatedError):
                result.get(GET)
            pool.join()


def test_a_worker_killed_with_its_claim_lock_held(mp_context: BaseContext, tmp_path: Path) -> None:
    """The lock is its own: its slot's next worker has another."""
    with Pool(1, context=mp_context) as pool:
        held = pool.apply_async(deeds.stop_with_claim_lock, (str(tmp_path),))
        (stopped,) = poll(lambda: _stopped(pool))
        behind = pool.map_async(work.double, range(50), 1)
        os.kill(stopped, signal.SIGKILL)
        assert behind.get(GET) == list(range(0, 100, 2))
        assert work.outcome(lambda: held.get(GET))[1][0] == "WorkerLostError"
        assert ended(pool).items_completed[Outcome.LOST] == 1


def test_all_workers_stopped_at_once_and_continued(mp_context: BaseContext) -> None:
    """Nothing is lost, nothing runs twice, and close waits for them."""
    with Pool(2, context=mp_context) as pool:
        results = pool.imap_unordered(work.where, range(300))
        found = [results.next(GET) for _ in range(5)]
        pids = [process.pid for process in pool._pool]
        with _going_on(pids):
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            poll(lambda: sorted(_stopped(pool)) == sorted(pids))
            pool.close()
        found += [results.next(GET) for _ in range(295)]
        assert sorted(item for _, item in found) == list(range(300))
        assert {pid for pid, _ in found} <= set(pids)
        assert ended(pool).items_completed[Outcome.LOST] == 0


def test_a_parent_stopped_and_continued(start_method: str, tmp_path: Path) -> None:
    """Results wait for it; items that ended in time meanwhile are no timeouts afterwards."""
    source = """
        with Pool(2, context=context, name="stopped", timeout=1.0) as pool:
            pool.map(work.double, [1, 2], 1)
            results = pool.imap(work.work, [20.0] * 60)
            next(results)
            print(pool.name, flush=True)
            left = sum(1 for _ in results)
            pool.close()
            pool.join()
            stats = pool.stats()
            print(left, dict(stats.items_completed)["ok"], sum(stats.worker_exits.values()))
    """
    with programs.running(tmp_path, start_method, source) as program:
        assert program.line() == "stopped"
        program.stop()
        try:
            (entry,) = registry.list_pools().entries
            assert entry.alive
            # Longer than an item may run, and than the scheduler is ever silent.
            poll(lambda: time.time() - reader.read(entry.path).heartbeat_time > 1.5)
            assert reader.read(entry.path).outcome is None
        finally:
            program.signal(signal.SIGCONT)
        assert program.ended().split() == ["59", "62", "2"]


def test_a_clock_set_back_changes_no_call(
    mp_context: BaseContext, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By an hour, in the middle of work, in the parent and in the workers.

    Patched is what Python code sees of the wall clock. The monotonic one can't be set, nor is it
    here: that nothing but it decides is what this shows.
    """
    real, real_ns = time.time, time.time_ns
    began = real()
    with Pool(2, deeds.set_clock_back, (2,), context=mp_context) as pool:
        before = pool.map(work.double, range(10), 1)
        held = pool.apply_async(work.until_there, (str(tmp_path / "go"),))
        late = pool.apply_async(work.tell_and_wait, (str(tmp_path),), timeout=0.3)
        poll(lambda: pool.stats().tasks.running == 2)
        monkeypatch.setattr(time, "time", lambda: real() - HOUR)
        monkeypatch.setattr(time, "time_ns", lambda: real_ns() - int(HOUR * 1e9))
        (tmp_path / "go").touch()
        assert held.get(GET) > 0
        assert work.outcome(lambda: late.get(GET))[1][0] == "TaskTimeoutError"
        assert pool.map(work.double, range(10), 1) == before
        stats = ended(pool)
        monkeypatch.undo()
    assert stats.outcome == "finished"
    for histogram in (stats.task_wait, stats.task_run, stats.worker_startup):
        assert 0 <= histogram.sum < HOUR / 2
    assert stats.items_completed[Outcome.OK] == 21
    assert stats.ended_time is not None
    assert abs(stats.ended_time - (began - HOUR)) < HOUR / 2
