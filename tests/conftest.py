"""Fixtures for all tests, and guards: no test leaves processes, sockets or live pools behind."""

from __future__ import annotations

import multiprocessing
import os
import stat
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.helpers import temporary_obspool_dir

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.context import BaseContext

# How long a test's processes and files may take to vanish after it. Only a test that leaves some
# waits.
LEFTOVER_DEADLINE = 5.0
LEFTOVER_INTERVAL = 0.02

# In the environment of all that a run of the tests starts, also in processes which outlived their
# parent.
RUN_VARIABLE = "OBSPOOL_TEST_RUN"

START_METHODS = ("fork", "spawn", "forkserver")


@pytest.fixture(params=START_METHODS)
def start_method(request: pytest.FixtureRequest) -> str:
    """Each start method in turn."""
    method: str = request.param
    return method


@pytest.fixture
def mp_context(start_method: str) -> BaseContext:
    """The context of each start method in turn, for `Pool(context=...)`."""
    return multiprocessing.get_context(start_method)


@pytest.fixture(autouse=True)
def obspool_dir(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The test's own OBSPOOL_DIR; afterwards no socket and no running pool's segment may be in it.

    Segments of pools that ended may: they are kept on purpose.
    """
    with temporary_obspool_dir() as directory:
        monkeypatch.setenv("OBSPOOL_DIR", str(directory))
        yield directory
        if left := _until_empty(lambda: _live_files(directory)):
            pytest.fail(f"the test left live files in OBSPOOL_DIR: {', '.join(left)}")


@pytest.fixture(autouse=True)
def no_leftover_processes(obspool_dir: Path) -> Iterator[None]:
    """After the test this process has no descendants but those it had before; others are killed.

    multiprocessing's resource tracker and forkserver stay for the process's life, and may.
    """
    before = {process.pid for process in _descendants()}
    yield

    def left_over() -> list[psutil.Process]:
        return [process for process in _descendants() if process.pid not in before]

    # One that is gone now was only slow to go.
    if left := [process for process in _until_empty(left_over) if process.is_running()]:
        described = [_describe(process) for process in left]
        for process in left:
            _kill(process)
        pytest.fail("the test left processes behind:\n" + "\n".join(described))


def _until_empty(look: Any) -> Any:
    """Call `look` until it finds nothing, at most for the deadline; return what it found last."""
    deadline = time.monotonic() + LEFTOVER_DEADLINE
    while found := look():
        if time.monotonic() >= deadline:
            break
        threading.Event().wait(LEFTOVER_INTERVAL)
    return found


def _descendants() -> list[psutil.Process]:
    """Return this process's descendants, without multiprocessing's own helpers."""
    multiprocessing.active_children()  # collects what has ended
    if not _has_children():
        return []
    helpers = _multiprocessing_helpers()
    return [
        process
        for process in psutil.Process().children(recursive=True)
        if process.pid not in helpers
    ]


def _has_children() -> bool:
    """Ask the kernel, which is a thousand times cheaper than reading all of /proc."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _multiprocessing_helpers() -> set[int]:
    from multiprocessing import forkserver, resource_tracker  # noqa: PLC0415 - not made by importing

    server: Any = forkserver
    tracker: Any = resource_tracker
    return {
        pid
        for pid in (server._forkserver._forkserver_pid, tracker._resource_tracker._pid)
        if pid is not None
    }


def _live_files(directory: Path) -> list[str]:
    """Name the sockets in a directory and the files on which a process of this host holds a lock.

    The locks are read from the kernel's list: to open a segment here and close it again would take
    the lock from a pool that this process owns.
    """
    found: list[str] = []
    locked = None
    for path in directory.rglob("*"):
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue
        if stat.S_ISSOCK(status.st_mode):
            found.append(f"{path.name} (a socket)")
        elif stat.S_ISREG(status.st_mode):
            locked = _locked_inodes() if locked is None else locked
            if (status.st_dev, status.st_ino) in locked:
                found.append(f"{path.name} (locked by its owner)")
    return found


def _locked_inodes() -> set[tuple[int, int]]:
    try:
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return set()
    inodes = set()
    for line in lines:
        # 1: POSIX  ADVISORY  WRITE 3568 fd:00:2531452 0 EOF
        device = next((word for word in line.split() if word.count(":") == 2), None)
        if device is not None:
            major, minor, inode = device.split(":")
            inodes.add((os.makedev(int(major, 16), int(minor, 16)), int(inode)))
    return inodes


def _describe(process: psutil.Process) -> str:
    try:
        with process.oneshot():
            command = " ".join(process.cmdline()) or process.name()
            return f"  pid {process.pid}, {process.status()}, of {process.ppid()}: {command[:200]}"
    except psutil.NoSuchProcess:
        return f"  pid {process.pid}, gone by now"


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
        process.wait(timeout=LEFTOVER_DEADLINE)
    except (psutil.NoSuchProcess, psutil.TimeoutExpired):
        pass  # gone, or not this process's to collect


def pytest_configure(config: pytest.Config) -> None:
    """Mark all processes of this run, xdist's workers and what they start included."""
    if not hasattr(config, "workerinput"):
        os.environ[RUN_VARIABLE] = uuid.uuid4().hex


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Look for orphans that stay: processes of this run that are no descendants of it any more.

    Multiprocessing's own helpers of an xdist worker that has just ended are about to end too.

    A forked process shows the environment its parent was started with. So without xdist, whose
    workers are started with the mark, only orphans that were executed are found.
    """
    if hasattr(session.config, "workerinput"):
        return
    mark = os.environ[RUN_VARIABLE]

    def find() -> list[psutil.Process]:
        related = {os.getpid(), *(p.pid for p in psutil.Process().children(recursive=True))}
        return [
            process
            for process in psutil.process_iter()
            if process.pid not in related and _environment(process).get(RUN_VARIABLE) == mark
        ]

    orphans = _until_empty(find)
    if not orphans:
        return
    reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    lines = ["the tests left orphans behind (killed now):", *map(_describe, orphans)]
    if reporter is not None:
        reporter.write_line("\n" + "\n".join(lines), red=True)
    for process in orphans:
        _kill(process)
    session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except (psutil.Error, OSError):
        return {}
