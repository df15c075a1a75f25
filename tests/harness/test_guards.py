"""The guards of conftest.py, each tried on a test that breaks its rule."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.helpers import ConditionNotMetError, poll, process_gone

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).resolve().parents[2]

OPTIONS = ("-p", "tests.conftest", "-p", "no:cacheprovider", "-p", "no:xdist")

LEAVES_A_PROCESS = """
import subprocess

def test_it():
    global process
    process = subprocess.Popen(["sleep", "60"])
    print("pid", process.pid)
"""

LEAVES_A_GRANDCHILD = """
import subprocess, sys

SCRIPT = "import subprocess; print(subprocess.Popen(['sleep', '60'], stdout=2).pid)"

def test_it():
    process = subprocess.Popen([sys.executable, "-c", SCRIPT])
    assert process.wait() == 0
"""

LEAVES_A_SOCKET = """
import os, socket

def test_it():
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.environ["OBSPOOL_DIR"] + "/control")
"""

LEAVES_A_LOCKED_SEGMENT = """
import fcntl, os

def test_it():
    global segment
    segment = open(os.environ["OBSPOOL_DIR"] + "/segment", "w")
    fcntl.lockf(segment, fcntl.LOCK_EX)
"""

LEAVES_WHAT_IT_MAY = """
import multiprocessing, os, pathlib

def test_it():
    pathlib.Path(os.environ["OBSPOOL_DIR"], "ended-segment").write_text("")
    for method in ("spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            pool.apply(int)
        pool.join()
"""


def run_pytest(directory: Path, source: str) -> subprocess.CompletedProcess[str]:
    """Run one test file under this repository's conftest.py, in a pytest of its own."""
    (directory / "test_it.py").write_text(source)
    return subprocess.run(
        [sys.executable, "-m", "pytest", *OPTIONS, f"--rootdir={directory}", "test_it.py"],
        check=False,
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
    )


@pytest.mark.slow
def test_a_leftover_process_fails_its_test_and_is_killed(tmp_path: Path) -> None:
    """A child that still runs after the test is named in a failure and killed."""
    done = run_pytest(tmp_path, LEAVES_A_PROCESS)
    assert done.returncode == 1
    assert "left processes behind" in done.stdout
    assert "sleep 60" in done.stdout
    match = re.search(r"pid (\d+)", done.stdout)
    assert match is not None
    assert process_gone(int(match[1]))


@pytest.mark.slow
def test_an_orphan_fails_the_run(tmp_path: Path) -> None:
    """A process whose parent is gone is no descendant any more; the end of the run finds it."""
    done = run_pytest(tmp_path, LEAVES_A_GRANDCHILD)
    assert done.returncode == 1
    assert "1 passed" in done.stdout
    assert "left orphans behind" in done.stdout
    assert "sleep 60" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "named"),
    [(LEAVES_A_SOCKET, "control (a socket)"), (LEAVES_A_LOCKED_SEGMENT, "segment (locked")],
    ids=["socket", "segment"],
)
def test_a_live_file_fails_its_test(tmp_path: Path, source: str, named: str) -> None:
    """A socket, or a segment that somebody holds locked, is a pool that wasn't ended."""
    done = run_pytest(tmp_path, source)
    assert done.returncode == 1
    assert named in done.stdout


def test_what_may_stay_is_no_failure(tmp_path: Path) -> None:
    """Segments of ended pools, the resource tracker and the forkserver are left alone."""
    done = run_pytest(tmp_path, LEAVES_WHAT_IT_MAY)
    assert done.returncode == 0, done.stdout


def test_obspool_dir_is_short_private_and_for_this_test(obspool_dir: Path) -> None:
    """There is room for a socket's name in a path of at most 104 bytes."""
    assert os.environ["OBSPOOL_DIR"] == str(obspool_dir)
    assert list(obspool_dir.iterdir()) == []
    assert obspool_dir.stat().st_mode & 0o777 == 0o700
    assert len(str(obspool_dir)) <= 60


def test_poll_returns_what_the_condition_returned() -> None:
    """The first true value ends the wait."""
    values: Iterator[object] = iter([0, None, [], "found"])
    assert poll(lambda: next(values)) == "found"


def test_poll_says_what_did_not_happen() -> None:
    """The message is made when the deadline has passed, and the last value is shown."""
    with pytest.raises(ConditionNotMetError, match=r"not so within 0\.05 s: two (.*0.*)"):
        poll(lambda: 0, deadline=0.05, message=lambda: "two")
