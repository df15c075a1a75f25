"""Pools at work in another process are steered: what they do then, and what the program sees."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.pools import obspool
from tests.cli.programs import stats
from tests.helpers import poll

if TYPE_CHECKING:
    from tests.cli.programs import Program


def tell(*arguments: str) -> str:
    told = obspool(*arguments)
    assert told.returncode == 0, told.stderr
    return told.stdout


def live_workers() -> int:
    return sum(worker["state"] != "gone" for worker in stats()["workers"])


def running() -> int:
    tasks: dict[str, int] = stats()["tasks"]
    return tasks["running"]


def events_of_this_user() -> list[str]:
    return [event["text"] for event in stats()["events"] if f"uid {os.getuid()}" in event["text"]]


def job() -> dict[str, Any]:
    (found,) = stats()["jobs"]
    return dict(found)


def test_a_paused_pool_begins_nothing(program: Program) -> None:
    """What runs is finished; the rest waits for `resume`, and so does the program."""
    poll(lambda: running() == 2)
    assert "nothing new begins" in tell("pause", "nightly")
    poll(lambda: stats()["state"] == "paused")
    program.let(4)
    poll(lambda: stats()["items_completed"]["ok"] == 2)
    assert running() == 0
    assert "goes on" in tell("resume", "nightly")
    assert program.result() == "[0, 1, 2, 3]"
    assert stats()["state"] == "running"
    paused, resumed = events_of_this_user()
    assert "pause" in paused
    assert "resume" in resumed


def test_a_pool_grows(program: Program) -> None:
    """The new workers take what was queued."""
    poll(lambda: running() == 2)
    assert "from 2 workers to 3" in tell("resize", "nightly", "3")
    poll(lambda: running() == 3)
    assert stats()["workers_configured"] == 3
    assert live_workers() == 3
    program.let(4)
    assert program.result() == "[0, 1, 2, 3]"
    assert any("resize" in text for text in events_of_this_user())


def test_a_pool_shrinks_without_losing_anything(program: Program) -> None:
    """A busy worker that is to go finishes what it runs."""
    poll(lambda: running() == 2)
    assert "from 2 workers to 1; busy ones finish" in tell("resize", "nightly", "1")
    poll(lambda: stats()["workers_configured"] == 1)
    program.let(4)
    assert program.result() == "[0, 1, 2, 3]"
    poll(lambda: live_workers() == 1)
    assert stats()["worker_exits"]["resize"] == 1
    assert program.call() == "[1]"


def test_the_worker_of_one_slot_is_replaced(program: Program) -> None:
    """When it has finished what it runs; the other stays."""
    poll(lambda: running() == 2)
    assert "slot 1" in tell("recycle", "nightly", "--slot", "1")
    program.let(4)
    assert program.result() == "[0, 1, 2, 3]"
    poll(lambda: stats()["worker_exits"]["command"] == 1)
    poll(lambda: [worker["restarts"] for worker in stats()["workers"]] == [0, 1])
    assert any("recycle slot 1" in text for text in events_of_this_user())


def test_all_workers_are_replaced(program: Program) -> None:
    """Without a slot."""
    tell("recycle", "nightly")
    program.let(4)
    assert program.result() == "[0, 1, 2, 3]"
    poll(lambda: stats()["worker_exits"]["command"] == 2)
    assert program.call() == "[1]"


@pytest.mark.parametrize(
    "arguments", [("recycle", "nightly", "--slot", "2"), ("stack", "nightly", "2")]
)
def test_a_slot_that_is_not_there(program: Program, arguments: tuple[str, ...]) -> None:
    """The message says which there are, and the pool goes on."""
    told = obspool(*arguments)
    assert told.returncode == 1
    assert "slot must be from 0 to 1, not 2" in told.stderr
    program.let(4)
    assert program.result() == "[0, 1, 2, 3]"


def test_the_limit_of_tasks_is_changed(program: Program) -> None:
    """And lifted again."""
    tell("set", "nightly", "maxtasksperchild=5")
    poll(lambda: stats()["max_tasks_per_child"] == 5)
    tell("set", "nightly", "maxtasksperchild=none")
    poll(lambda: stats()["max_tasks_per_child"] is None)
    assert len(events_of_this_user()) == 2


def test_a_lower_limit_is_heeded_at_once(program: Program) -> None:
    """Workers end after the task that reaches it, and the work goes on in their successors."""
    poll(lambda: running() == 2)
    tell("set", "nightly", "maxtasksperchild=1")
    program.let(4)
    assert program.result() == "[0, 1, 2, 3]"
    poll(lambda: stats()["worker_exits"]["tasks"] >= 2)


def test_a_stack_shows_where_a_worker_is(program: Program) -> None:
    """The function that it runs, and its lines."""
    poll(lambda: running() == 2)
    for slot in ("0", "1"):
        assert " in wait" in tell("stack", "nightly", slot)


@pytest.mark.parametrize("option", [[], ["--running"]])
def test_a_job_is_cancelled(program: Program, option: list[str]) -> None:
    """What runs of it is finished, or ended; its caller gets an error, and the pool goes on."""
    poll(lambda: running() == 2)
    told = tell("cancel", "nightly", str(job()["id"]), "--yes", *option)
    assert "(map of wait)" in told
    if not option:
        program.let(2)
    assert "Cancel" in program.result()
    poll(lambda: job()["outcome"] == "cancelled")
    poll(lambda: running() == 0)
    assert program.call() == "[1]"
    assert any("cancel" in text for text in events_of_this_user())


def test_an_unknown_job(program: Program) -> None:
    """Says so, and changes nothing."""
    told = obspool("cancel", "nightly", "4711", "--yes")
    assert told.returncode == 1
    assert "4711" in told.stderr
    program.let(4)
    assert program.result() == "[0, 1, 2, 3]"
