"""Workers that a template forks are what they would be if the pool's process had forked them."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import resource
import select
import signal
import socket
import sys
import threading
from multiprocessing.context import ForkProcess
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from obspool import Pool, PoolBrokenError, WorkerLostError
from obspool.claim_lock import ClaimLock
from obspool.engines import forking, maker, template
from obspool.engines.protocol import Plan
from obspool.messages import Hooks
from tests.helpers import poll, process_gone
from tests.pool import work

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(not forking.AVAILABLE, reason="no pidfd here: no template")

FORK = multiprocessing.get_context("fork")


def _template(pool: Pool) -> psutil.Process | None:
    """Return the pool's template process, if it has one."""
    engine: Any = pool._core.engine  # type: ignore[union-attr]
    found = engine._template
    return None if found is None else psutil.Process(found._process.pid)


@pytest.fixture
def recycling() -> Iterator[Pool]:
    """A pool of one whose worker is from the template."""
    with Pool(1, maxtasksperchild=2, context=FORK) as pool:
        first = pool.apply(work.where, (0,))[0]
        poll(lambda: pool.apply(work.where, (0,))[0] != first)
        yield pool


def _describe(_: int) -> dict[str, Any]:
    process = multiprocessing.current_process()
    parent = multiprocessing.parent_process()
    assert parent is not None
    return {
        "daemon": process.daemon,
        "parent": (parent.pid, parent.name, parent.is_alive()),
        "pool worker": process.name.startswith("ForkPoolWorker-"),
        "children": multiprocessing.active_children(),
        "stdin": sys.stdin.read(),
        "thread": (threading.current_thread().name, threading.active_count()),
        "SIGINT": signal.getsignal(signal.SIGINT).__name__,  # type: ignore[union-attr]
        "SIGCHLD": signal.getsignal(signal.SIGCHLD),
    }


def test_a_worker_is_the_same_from_a_template(recycling: Pool) -> None:
    """But for the parent in the process table, it can't tell."""
    with Pool(1, context=FORK) as plain:
        expected = plain.apply(_describe, (0,))
    assert recycling.apply(_describe, (0,)) == expected
    assert expected["parent"] == (os.getpid(), "MainProcess", True)


def test_handlers_of_the_program_are_the_worker_s_too() -> None:
    """The template has its own meanwhile: it must not die of Ctrl-C, nor lose exit codes."""
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN),
        signal.SIGCHLD: signal.signal(signal.SIGCHLD, _on_child),
    }
    try:
        with Pool(1, maxtasksperchild=1, context=FORK) as pool:
            pool.map(work.double, range(3), 1)
            assert pool.apply(_handler, (signal.SIGINT,)) == signal.SIG_IGN
            assert pool.apply(_handler, (signal.SIGCHLD,)) is _on_child
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _hold(directory: Path) -> int:
    (directory / f"{os.getpid()}.begun").touch()
    return work.until_there(str(directory / "go"))


def _on_child(*_: object) -> None:
    """Do nothing: the program's own handler."""


def _handler(number: int) -> Any:
    return signal.getsignal(number)


def test_atexit_runs_where_the_stdlib_runs_it(tmp_path: Path) -> None:
    """From Python 3.13 on, in a forked worker's planned end; before, nowhere."""
    path = tmp_path / "ran"
    with Pool(1, maxtasksperchild=2, context=FORK) as pool:
        pool.map(work.double, range(2), 1)
        pool.apply(_register, (str(path),))
        pool.map(work.double, range(3), 1)
        assert path.exists() == forking.HONOURS_ATEXIT


def _register(path: str) -> None:
    atexit.register(lambda: open(path, "w").close())  # noqa: PTH123


def test_a_death_is_known_by_its_signal(recycling: Pool) -> None:
    """The template reaps the worker, and says how it ended."""
    with pytest.raises(WorkerLostError, match="killed by SIGKILL"):
        recycling.apply(work.die_at, ("kill",))
    with pytest.raises(WorkerLostError, match="exit code 7"):
        recycling.apply(work.die_at, ("_exit",))
    assert recycling.apply(work.double, (2,)) == 4


def test_the_handle_is_a_process_as_others(recycling: Pool) -> None:
    """`_pool` has what monitoring code asks of it."""
    (process,) = recycling._pool
    assert process in multiprocessing.active_children()
    assert process.is_alive()
    assert process.exitcode is None
    process.join(0.01)
    process.terminate()
    process.join(10)
    assert process.exitcode == -signal.SIGTERM
    assert not process.is_alive()
    assert process not in multiprocessing.active_children()
    assert recycling.apply(work.double, (2,)) == 4


def test_no_template_where_it_would_not_pay() -> None:
    """A pool that keeps its workers forks them itself."""
    for processes in (2, 20):
        with Pool(processes, context=FORK) as pool:
            assert len(pool._pool) == processes
            assert pool.map(work.double, range(100), 1) == [2 * item for item in range(100)]
            assert _template(pool) is None


def test_many_workers_of_a_pool_that_runs_come_from_a_template() -> None:
    """It would stop for long if it forked them itself."""
    with Pool(1, context=FORK) as pool:
        pool.apply(work.double, (1,))
        pool.resize(20)
        poll(lambda: len(pool._pool) == 20)
        process = _template(pool)
        assert process is not None
        made = {worker.pid for worker in process.children()}
        assert len(made) == 19
        assert made < {worker.pid for worker in pool._pool}
        assert pool.map(work.double, range(100), 1) == [2 * item for item in range(100)]
    pool.join()
    assert process_gone(process.pid)


def test_a_template_that_was_killed_is_done_without(tmp_path: Path) -> None:
    """Its workers go on, and are replaced; only how they end isn't known."""
    with Pool(2, maxtasksperchild=1, context=FORK) as pool:
        pool.map(work.double, range(4), 1)
        waiting = [pool.apply_async(_hold, (tmp_path,)) for _ in range(2)]
        poll(lambda: len(list(tmp_path.glob("*.begun"))) == 2)
        process = _template(pool)
        assert process is not None
        process.kill()
        poll(lambda: process_gone(process.pid))
        (tmp_path / "go").touch()
        assert all(result.get(30) for result in waiting)
        assert pool.map(work.double, range(10), 1) == [2 * item for item in range(10)]
        assert _template(pool) is None
        pool.map(work.double, range(4), 1)
        with pytest.raises(WorkerLostError, match="killed by SIGKILL"):
            pool.apply(work.die_at, ("kill",))


def test_a_template_that_does_not_answer_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody has stopped it."""
    monkeypatch.setattr(template, "_ANSWER_TIME", 0.2)
    with Pool(1, maxtasksperchild=1, context=FORK) as pool:
        pool.map(work.double, range(3), 1)
        process = _template(pool)
        assert process is not None
        process.suspend()
        with pytest.raises(WorkerLostError, match="died"):
            pool.apply(work.die_at, ("kill",))
        assert pool.map(work.double, range(6), 1) == [2 * item for item in range(6)]
        poll(lambda: process_gone(process.pid))


def test_a_template_that_dies_after_its_answer_is_done_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The answer and the end are heard at once."""
    hear = template.Template.hear
    killed: list[int] = []

    def hear_both(self: template.Template) -> template.News:
        if self.asked and not killed:
            killed.append(self._process.pid)
            psutil.Process(self._process.pid).kill()
            poll(lambda: process_gone(killed[0]))
        return hear(self)

    monkeypatch.setattr(template.Template, "hear", hear_both)
    with Pool(2, maxtasksperchild=1, context=FORK) as pool:
        assert pool.map(work.double, range(8), 1) == [2 * item for item in range(8)]
    assert killed


def test_a_pool_that_ends_without_listening_is_no_error() -> None:
    """What it has not heard resets the connection."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    served = ForkProcess(target=_served, args=(ours, theirs))
    served.start()
    theirs.close()
    poll(lambda: select.select([ours], [], [], 0)[0])  # something is told
    ours.close()
    served.join(20)
    assert served.exitcode == 0


def _served(ours: Any, theirs: Any) -> None:
    ours.close()
    no_segment: Any = None
    plan = Plan(no_segment, Hooks(), ForkProcess, FORK)
    server = template._Server(plan, theirs, os.getppid())
    server._tell(reaped=[(0, 1, 0)])
    server.run()


@pytest.mark.parametrize("room", [1, 3, 5, 6, 7, 9])
def test_descriptors_that_run_out_leave_nobody_waiting(room: int) -> None:
    """For a short while work goes on afterwards; else the pool says what is wrong."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Pool(2, maxtasksperchild=1, context=FORK) as pool:
        pool.map(work.double, range(4), 1)
        resource.setrlimit(resource.RLIMIT_NOFILE, (psutil.Process().num_fds() + room, limits[1]))
        result = pool.map_async(work.double, range(8), 1)
        result.wait(0.3)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        try:
            assert result.get(30) == [2 * item for item in range(8)]
        except PoolBrokenError as error:
            assert "Too many open files" in str(error)  # noqa: PT017


def test_a_template_is_asked_for_nobody_when_nobody_could_be_prepared(
    recycling: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For lack of a descriptor at that moment; later ones come from it."""
    before = _template(recycling)
    failures = 0

    def rarely() -> ClaimLock:
        nonlocal failures
        failures += 1
        if failures == 1:
            raise OSError(24, "Too many open files")
        return ClaimLock()

    monkeypatch.setattr(maker, "ClaimLock", rarely)
    assert recycling.map(work.double, range(12), 1) == [2 * item for item in range(12)]
    assert failures > 1
    assert _template(recycling) == before


def test_a_worker_has_no_descriptor_of_another(recycling: Pool) -> None:
    """Nor do programs that it starts."""
    with Pool(9, context=FORK) as pool:
        pool.map(work.double, range(100), 1)
        kinds = pool.apply(_descriptors)
    assert sorted(kinds) == sorted(recycling.apply(_descriptors))


def _descriptors() -> list[str]:
    """Return the kinds of those that a program would inherit, and the number of our sockets."""
    kept = []
    sockets = 0
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        try:
            kind = os.readlink(f"/proc/self/fd/{name}").split(":")[0]  # noqa: PTH115
            sockets += kind == "socket"
            if os.get_inheritable(int(name)):
                kept.append(kind)
        except OSError:
            pass
    return [*kept, f"{sockets} sockets"]


def test_the_template_does_not_outlive_its_pool_s_process(
    tmp_path: Path, obspool_dir: Path
) -> None:
    """Nor do its workers."""
    path = tmp_path / "pids"
    parent = FORK.Process(target=_own_and_stay, args=(str(path),))
    parent.start()
    poll(path.exists)
    pids = [int(pid) for pid in path.read_text().split()]
    parent.kill()
    parent.join()
    assert len(pids) == 12
    poll(lambda: all(map(process_gone, pids)))
    for left in obspool_dir.glob("*.sock"):
        left.unlink()


def _own_and_stay(path: str) -> None:
    pool = Pool(1, context=FORK)
    pool.resize(11)  # ten and the template
    poll(lambda: len(psutil.Process().children(recursive=True)) == 12)
    children = psutil.Process().children(recursive=True)
    with open(f"{path}.new", "w") as file:  # noqa: PTH123
        file.write(" ".join(str(child.pid) for child in children))
    os.rename(f"{path}.new", path)  # noqa: PTH104
    pool.apply(signal.pause)


def test_a_fork_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The template says that there was no room, and the pool asks later."""
    forks = 0
    fork = os.fork

    def sometimes() -> int:
        nonlocal forks
        forks += 1
        if multiprocessing.current_process().name == "obspool-template" and forks % 3 == 0:
            raise BlockingIOError(11, "no more processes")
        return fork()

    monkeypatch.setattr(os, "fork", sometimes)
    with Pool(2, maxtasksperchild=1, context=FORK) as pool:
        assert pool.map(work.double, range(12), 1) == [2 * item for item in range(12)]
