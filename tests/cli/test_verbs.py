"""The commands that steer a pool: what it is sent, and what the person is told."""

from __future__ import annotations

from typing import Any

import pytest

from obspool.control.protocol import Command, Request
from obspool.errors import ControlError
from tests.cli.pools import obspool, sham_pool
from tests.cli.terminal import Terminal

VERBS: list[tuple[list[str], dict[str, Any], str]] = [
    (["pause"], {}, "pauses: what runs is finished, nothing new begins until `obspool resume`."),
    (["resume"], {}, "goes on with the 1,204 queued."),
    (["resize", "4"], {"workers": 4}, "goes from 2 workers to 4."),
    (["resize", "1"], {"workers": 1}, "goes from 2 workers to 1; busy ones finish what they run."),
    (["recycle"], {"slot": None}, "replaces its workers, a few at a time, as they finish"),
    (["recycle", "--slot", "0"], {"slot": 0}, "replaces the worker of slot 0, once"),
    (["set", "maxtasksperchild=1"], {"maxtasksperchild": 1}, "replaces a worker after 1 task."),
    (["set", "maxtasksperchild=none"], {"maxtasksperchild": None}, "replaces no worker for the"),
    (["stack", "1"], {"slot": 1}, "has no stack to show of slot 1."),
    (["cancel", "7", "--yes"], {"job": 7, "running": False}, "cancels job 7: what runs of it is f"),
    (
        ["cancel", "7", "--yes", "--running"],
        {"job": 7, "running": True},
        "what runs of it is ended",
    ),
    (["close"], {}, "closes: 0 running tasks and 1,204 queued are finished, then its workers end."),
    (["terminate", "--yes"], {}, "terminates."),
]


@pytest.mark.parametrize(("words", "arguments", "said"), VERBS)
def test_a_pool_is_told_and_so_is_the_person(
    words: list[str], arguments: dict[str, Any], said: str
) -> None:
    """The pool gets every argument, and one sentence says what it will do."""
    verb, *rest = words
    with sham_pool("nightly") as pool:
        pool.set("tasks_queued", 1204)
        shown = obspool(verb, "nightly", *rest)
        assert (shown.returncode, shown.stderr) == (0, "")
        ((request, _),) = pool.target.requests
    assert request == Request("nightly", Command(verb), arguments)
    assert shown.stdout.startswith("nightly (pid ")
    assert said in shown.stdout
    assert shown.stdout.count("\n") == 1


def test_every_command_has_a_verb() -> None:
    """A new one is added above."""
    assert {words[0] for words, _, _ in VERBS} == set(Command)


def test_a_stack_is_printed_as_it_is() -> None:
    """Line by line, with what could steer the terminal replaced."""
    with sham_pool("nightly") as pool:
        pool.target.text = 'Thread 0x1 "\x1b[31mred":\n  File "job.py", line 7 in work\n'
        shown = obspool("stack", "nightly", "0").stdout
    assert shown == 'Thread 0x1 "�[31mred":\n  File "job.py", line 7 in work\n'


@pytest.mark.parametrize(("words", "_arguments", "_said"), VERBS)
def test_a_refusal_is_exit_code_1(words: list[str], _arguments: dict[str, Any], _said: str) -> None:
    """With the pool's own words."""
    verb, *rest = words
    with sham_pool("nightly") as pool:
        pool.target.error = ControlError("it is too late")
        shown = obspool(verb, "nightly", *rest)
    assert (shown.returncode, shown.stdout) == (1, "")
    assert f"did not obey `{verb}`: it is too late" in shown.stderr


@pytest.mark.parametrize("running", [False, True])
def test_cancel_asks_on_a_terminal(running: bool) -> None:
    """Which job of which pool, and what is lost."""
    with sham_pool("nightly") as pool:
        pool.add_job(7, "check", total=200, done=10)
        with Terminal("cancel", "nightly", "7", *["--running"] * running) as terminal:
            terminal.wait_for(
                r"Cancel job 7 \(map of check\) of nightly \(pid \d+\)\? "
                r"Lost: 190 items without a result, "
                rf"{'also' if running else 'but for'} what runs\. \[y/N\]"
            )
            terminal.type("y\n")
            assert terminal.wait() == 0
        assert pool.arguments == [{"job": 7, "running": running}]


def test_cancel_without_a_terminal_wants_yes() -> None:
    """Also for a job that has no row: apply's haven't, and old ones no more."""
    with sham_pool("nightly") as pool:
        shown = obspool("cancel", "nightly", "7", text="y\n")
        assert pool.commands == []
    assert shown.returncode == 2
    assert "cancel loses work (what has no result yet, but for what runs)" in shown.stderr
    assert "say --yes" in shown.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["pause"],
        ["resize", "nightly"],
        ["resize", "nightly", "0"],
        ["resize", "nightly", "two"],
        ["resize", "nightly", "1.5"],
        ["recycle", "nightly", "--slot", "-1"],
        ["recycle", "nightly", "--slot", "9" * 30],
        ["recycle", "nightly", "1"],
        ["stack", "nightly"],
        ["stack", "nightly", "all"],
        ["cancel", "nightly"],
        ["cancel", "nightly", "0"],
        ["set", "nightly", "5"],
        ["set", "nightly", "maxtasksperchild"],
        ["set", "nightly", "maxtasksperchild="],
        ["set", "nightly", "maxtasksperchild=0"],
        ["set", "nightly", "processes=5"],
        ["close", "nightly", "--yes"],
    ],
)
def test_wrong_arguments_are_exit_code_2(words: list[str]) -> None:
    """No pool is told anything, and a line says what is wrong."""
    with sham_pool("nightly") as pool:
        shown = obspool(*words)
        assert pool.commands == []
    assert (shown.returncode, shown.stdout) == (2, "")
    assert "obspool" in shown.stderr
    assert "invalid" not in shown.stderr  # argparse's own word, which doesn't say what is right
