"""Ending a process by signals: only the pool's own, and by SIGKILL only when SIGTERM fails."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from obspool.errors import ControlError
from obspool.telemetry import processes
from obspool_dashboard import ending
from tests.synthetic import FACTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from obspool.telemetry.facts import PoolFacts

# A worker of its own, which ends with its standard input, that is with its parent.
PROGRAM = """
import signal, subprocess, sys
worker = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
if sys.argv[1] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(worker.pid, flush=True)
signal.pause()
"""


@pytest.fixture
def program(request: pytest.FixtureRequest) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process with a worker; the parameter says how it takes SIGTERM."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, request.param], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


def _facts(pid: int) -> PoolFacts:
    return dataclasses.replace(
        FACTS,
        pid=pid,
        uid=os.geteuid(),
        pid_namespace=Path("/proc/self/ns/pid").stat().st_ino,
        process_start_ticks=processes.start_ticks(pid),
    )


@pytest.mark.parametrize(
    ("program", "how"), [("obedient", "SIGTERM"), ("stubborn", "SIGKILL")], indirect=["program"]
)
def test_a_stopped_process_is_woken_and_ended(
    program: tuple[subprocess.Popen[str], int], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By SIGTERM if that is enough; its workers are gone as well."""
    monkeypatch.setattr(ending, "TERM_PATIENCE", 5.0 if how == "SIGTERM" else 0.2)
    process, worker = program
    process.send_signal(signal.SIGSTOP)
    told = ending.end_processes(_facts(process.pid), [worker])
    assert told.startswith(f"ended by {how}")
    assert process.wait(5) == -signal.Signals[how]
    assert not psutil.pid_exists(worker) or ending._is_gone(psutil.Process(worker))


@pytest.mark.parametrize("program", ["obedient"], indirect=True)
def test_only_the_pool_s_own_process_is_ended(program: tuple[subprocess.Popen[str], int]) -> None:
    """Not another user's, another namespace's, our own, or what got its pid later."""
    process, _ = program
    facts = _facts(process.pid)
    for other, reason in (
        (dataclasses.replace(facts, uid=facts.uid + 1), "it belongs to uid"),
        (dataclasses.replace(facts, pid_namespace=7), "another container or pid namespace"),
        (dataclasses.replace(facts, pid=os.getpid()), "it is this process itself"),
        (dataclasses.replace(facts, process_start_ticks=7), "its process is gone already"),
    ):
        with pytest.raises(ControlError, match=reason):
            ending.end_processes(other, [])
    assert process.poll() is None
