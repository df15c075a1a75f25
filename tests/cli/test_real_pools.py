"""The command line against pools at work in another process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cli.environment import environment
from tests.cli.pools import obspool
from tests.helpers import poll

if TYPE_CHECKING:
    from collections.abc import Iterator

# Runs items that wait for a line each on its standard input, says what becomes of them and of the
# pool's next call.
PROGRAM = """
import os, sys, time
import obspool

reader, writer = os.pipe()

def wait(number):
    os.read(reader, 1)
    return number

if __name__ == "__main__":
    pool = obspool.Pool(2, name="nightly")
    result = pool.map_async(wait, range(4), chunksize=1)
    print("ready", flush=True)
    sys.stdin.readline()
    os.write(writer, b"....")
    for call in (lambda: result.get(20), lambda: pool.map(abs, [1])):
        try:
            print(call(), flush=True)
        except Exception as error:
            print(type(error).__name__, flush=True)
    pool.terminate()
    pool.join()
"""


class Program:
    """The process, by lines."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()


@pytest.fixture
def program() -> Iterator[Program]:
    program = Program()
    assert program.line() == "ready"
    yield program
    program.process.communicate(timeout=20)


def stats(pool: str) -> dict[str, object]:
    shown = obspool("stats", pool, "--json")
    assert shown.returncode == 0, shown.stderr
    read: dict[str, object] = json.loads(shown.stdout)
    return read


def test_a_pool_at_work_is_seen(program: Program) -> None:
    """By its name and its pid, with what it runs."""
    poll(lambda: stats("nightly")["tasks"]["running"] == 2)  # type: ignore[index]
    (listed,) = json.loads(obspool("ls", "--json").stdout)["pools"]
    assert (listed["name"], listed["pid"]) == ("nightly", program.process.pid)
    assert listed["workers_busy"] == 2
    shown = obspool("stats", str(program.process.pid)).stdout
    assert "map" in shown
    assert "wait" in shown
    program.go()
    assert program.line() == "[0, 1, 2, 3]"
    assert program.line() == "[1]"


def test_a_closed_pool_finishes_what_it_has(program: Program) -> None:
    """Nothing is lost, the next call is a ValueError, and the event says who asked."""
    told = obspool("close", "nightly")
    assert told.returncode == 0, told.stderr
    assert "finished" in told.stdout
    program.go()
    assert program.line() == "[0, 1, 2, 3]"
    assert program.line() == "ValueError"
    program.process.communicate(timeout=20)
    ended = stats("nightly")
    assert ended["outcome"] == "finished"
    events = ended["events"]
    assert isinstance(events, list)
    assert any(f"uid {os.getuid()}" in event["text"] for event in events), events


def test_a_terminated_pool_tells_its_waiting_callers(program: Program) -> None:
    """The reply comes at once, and the wait for a result ends with an error."""
    poll(lambda: stats("nightly")["tasks"]["running"] == 2)  # type: ignore[index]
    told = obspool("terminate", str(program.process.pid), "--yes")
    assert told.returncode == 0, told.stderr
    poll(lambda: not json.loads(obspool("ls", "--json").stdout)["pools"])
    program.go()
    assert program.line() == "PoolTerminatedError"
    assert program.line() == "ValueError"
    assert stats("nightly")["outcome"] == "abandoned"
    again = obspool("terminate", "nightly", "--yes")
    assert again.returncode == 1
    assert "has ended already" in again.stderr
