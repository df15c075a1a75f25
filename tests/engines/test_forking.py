"""Processes that are forked together: their handles, and the gate that some wait at."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing import forkserver
from typing import TYPE_CHECKING

import psutil
import pytest

from obspool import Pool, WorkerLostError
from obspool.engines import forking, processes
from tests.helpers import poll, process_gone
from tests.pool import work

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(not forking.AVAILABLE, reason="no pidfd here")

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def one_cpu() -> Iterator[None]:
    """This process and its children may use one CPU."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.fixture
def kept_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers beyond the CPUs wait for as long as the pool runs."""
    monkeypatch.setattr(processes, "_BREATH", 60)
    monkeypatch.setattr(processes, "_LONG_ENOUGH", 60)


def _begin(directory: Path) -> None:
    (directory / str(os.getpid())).touch()


@pytest.mark.usefixtures("one_cpu")
def test_as_many_start_at_once_as_there_are_cpus(tmp_path: Path) -> None:
    """The others soon after, with no call to wake them."""
    with Pool(6, _begin, (tmp_path,), context=FORK) as pool:
        assert pool.apply(work.double, (4,)) == 8
        poll(lambda: len(list(tmp_path.iterdir())) == 6)
        assert {path.name for path in tmp_path.iterdir()} == {str(p.pid) for p in pool._pool}


@pytest.mark.usefixtures("one_cpu")
def test_those_that_wait_are_let_go_also_when_there_is_always_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One worker is busy with calls that come without a pause."""
    monkeypatch.setattr(processes, "_BREATH", 60)
    with Pool(3, context=FORK) as pool:
        pids: set[int] = set()
        deadline = time.monotonic() + 20
        while len(pids) < 3 and time.monotonic() < deadline:
            pids.update(pool.map(work.work, [1] * 6, 1))
        assert len(pids) == 3


@pytest.mark.usefixtures("one_cpu", "kept_waiting")
@pytest.mark.parametrize("end", ["close", "terminate"])
def test_workers_may_end_before_they_began(tmp_path: Path, end: str) -> None:
    """Those that are kept waiting are let go then, or killed."""
    pool = Pool(4, _begin, (tmp_path,), context=FORK)
    pids = [process.pid for process in pool._pool]
    assert pool.apply(work.double, (4,)) == 8
    assert len(list(tmp_path.iterdir())) == 1
    getattr(pool, end)()
    pool.join()
    assert all(map(process_gone, pids))


_OWN_AND_STAY = """
import os, sys, time
from obspool import Pool
from obspool.engines import forking
import multiprocessing
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
forking.Gate.open = lambda gate: time.sleep(60)
os.environ["OBSPOOL_DISABLE"] = "1"
pool = Pool(3, context=multiprocessing.get_context("fork"))
print(*(process.pid for process in pool._pool), flush=True)
time.sleep(60)
"""


def test_those_that_wait_do_not_outlive_their_parent() -> None:
    """Though they have not begun to watch it yet."""
    command = [sys.executable, "-c", _OWN_AND_STAY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 3
        assert all(map(psutil.pid_exists, pids))
        parent.kill()
        poll(lambda: all(map(process_gone, pids)))


_INTERRUPTED = """
import multiprocessing, os, signal, time
from obspool import Pool
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
with Pool(6, context=multiprocessing.get_context("fork")) as pool:
    signal.signal(signal.SIGINT, lambda *_: None)  # which workers don't inherit
    os.killpg(0, signal.SIGINT)
    pids = {process.pid for process in pool._pool}
    deadline = time.monotonic() + 20
    while any(worker.state != "idle" for worker in pool.stats().workers):
        assert time.monotonic() < deadline
    assert {process.pid for process in pool._pool} == pids
print("as it was")
"""


def test_ctrl_c_ends_none_of_those_that_wait() -> None:
    """It reaches all processes of the terminal."""
    done = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED],
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
        start_new_session=True,
    )
    assert done.stdout.strip() == "as it was", done.stderr


def test_without_a_descriptor_for_the_gate_all_start_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It only saves time."""

    def none_left(_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(forking.Gate, "__init__", none_left)
    with Pool(5, context=FORK) as pool:
        assert pool.map(work.double, range(20), 1) == [2 * item for item in range(20)]


def test_a_first_worker_that_can_not_be_forked_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those beside it were forked, and end with the pool."""
    fork = os.fork
    forks = 0

    def sometimes() -> int:
        nonlocal forks
        forks += 1
        if forks == 2:
            raise BlockingIOError(11, "no more processes")
        return fork()

    monkeypatch.setattr(os, "fork", sometimes)
    before = set(psutil.Process().children())
    with pytest.raises(BlockingIOError, match="no more processes"):
        Pool(3, context=FORK)
    poll(lambda: set(psutil.Process().children()) <= before)
    assert forks == 3


@pytest.mark.parametrize("ignored", [True, False])
def test_a_child_that_can_not_be_watched_is_ended(
    monkeypatch: pytest.MonkeyPatch, ignored: bool
) -> None:
    """Also where nobody waits for children: then it is gone before it is asked for."""
    before = signal.getsignal(signal.SIGCHLD)
    children = set(psutil.Process().children())

    def none_left(_: int) -> int:
        raise OSError(24, "Too many open files")

    if ignored:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "pidfd_open", none_left)
            with pytest.raises(OSError, match="Too many open files"):
                Pool(3, context=FORK)
        poll(lambda: set(psutil.Process().children()) <= children)
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_output_that_can_not_be_written_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is buffered is written before a fork: a child would write it again."""

    def full() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(forking, "flush", full)
    with pytest.raises(OSError, match="No space left"):
        Pool(3, context=FORK)


def test_an_exit_code_that_somebody_else_was_told_is_unknown() -> None:
    """A handler of SIGCHLD that waits for all children, as in old daemons."""
    before = signal.signal(signal.SIGCHLD, _reap_all)
    try:
        with Pool(1, context=FORK) as pool:
            began = time.monotonic()
            with pytest.raises(WorkerLostError, match=r"died|killed by SIGKILL"):
                pool.apply(work.die_at, ("kill",))
            assert time.monotonic() - began < 5
            assert pool.apply(work.double, (3,)) == 6
        pool.join()
    finally:
        signal.signal(signal.SIGCHLD, before)


def _reap_all(*_: object) -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _child(code: int) -> forking.Forked:
    pid = os.fork()
    if not pid:
        if code < 0:
            os.kill(os.getpid(), -code)
        os._exit(code)
    return forking.Forked(pid, os.pidfd_open(pid))


@pytest.mark.parametrize("code", [0, 7, 255, -signal.SIGKILL, -signal.SIGTERM])
def test_a_handle_knows_how_its_process_ended(code: int) -> None:
    """As multiprocessing's would."""
    child = _child(code)
    assert child.wait(20) == code
    assert child.poll() == code
    assert process_gone(child.pid)
    child.kill()  # nobody is there
    child.close()
    child.close()


def test_a_wait_of_less_than_no_time_is_over_at_once() -> None:
    """As in the stdlib: who has a deadline for many waits for the rest of it."""
    with Pool(1, context=FORK) as pool:
        (process,) = pool._pool
        process.join(-1)
        assert process.is_alive()


def test_threads_that_ask_at_once_are_all_told() -> None:
    """Who reaps has stored the exit code before."""
    for code in range(1, 60):
        child = _child(code)
        told: list[int | None] = []
        askers = [
            threading.Thread(target=lambda: told.append(child.wait(20)))  # noqa: B023
            for _ in range(4)
        ]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join()
        assert told == [code] * 4


def test_a_fork_server_that_has_just_ended_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until multiprocessing sees that, and starts another one."""
    connect = forkserver.connect_to_new_process
    refused = 0

    def refuse_at_first(descriptors: list[int]) -> tuple[int, int]:
        nonlocal refused
        if refused < 3:
            refused += 1
            raise ConnectionRefusedError(111, "Connection refused")
        found: tuple[int, int] = connect(descriptors)
        return found

    monkeypatch.setattr(forkserver, "connect_to_new_process", refuse_at_first)
    with Pool(1, context=multiprocessing.get_context("forkserver")) as pool:
        assert pool.apply(work.double, (2,)) == 4
    assert refused == 3
