"""The command line against pools at work in another process."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from tests.cli.pools import obspool
from tests.cli.programs import stats
from tests.helpers import poll

if TYPE_CHECKING:
    from tests.cli.programs import Program


def test_a_pool_at_work_is_seen(program: Program) -> None:
    """By its name and its pid, with what it runs."""
    poll(lambda: stats()["tasks"]["running"] == 2)
    (listed,) = json.loads(obspool("ls", "--json").stdout)["pools"]
    assert (listed["name"], listed["pid"]) == ("nightly", program.process.pid)
    assert listed["workers_busy"] == 2
    shown = obspool("stats", str(program.process.pid)).stdout
    assert "map" in shown
    assert "wait" in shown
    program.let(4)
    assert program.result() == "[0, 1, 2, 3]"
    assert program.call() == "[1]"


def test_a_closed_pool_finishes_what_it_has(program: Program) -> None:
    """Nothing is lost, the next call is a ValueError, and the event says who asked."""
    told = obspool("close", "nightly")
    assert told.returncode == 0, told.stderr
    assert "finished" in told.stdout
    program.let(4)
    assert program.result() == "[0, 1, 2, 3]"
    assert program.call() == "ValueError"
    program.end()
    ended = stats()
    assert ended["outcome"] == "finished"
    assert any(f"uid {os.getuid()}" in event["text"] for event in ended["events"]), ended


def test_a_terminated_pool_tells_its_waiting_callers(program: Program) -> None:
    """The reply comes at once, and the wait for a result ends with an error."""
    poll(lambda: stats()["tasks"]["running"] == 2)
    told = obspool("terminate", str(program.process.pid), "--yes")
    assert told.returncode == 0, told.stderr
    poll(lambda: not json.loads(obspool("ls", "--json").stdout)["pools"])
    assert program.result() == "PoolTerminatedError"
    assert program.call() == "ValueError"
    assert stats()["outcome"] == "abandoned"
    again = obspool("terminate", "nightly", "--yes")
    assert again.returncode == 1
    assert "has ended already" in again.stderr
