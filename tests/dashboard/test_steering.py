"""Steering a pool: every command by its key, for what was under the cursor when it was pressed."""

from __future__ import annotations

import dataclasses
import threading

import pytest

from obspool.words import PoolState
from obspool_dashboard.screens.confirm import ConfirmScreen, NumberScreen
from obspool_dashboard.screens.stack import StackScreen
from obspool_dashboard.source import Command, Request
from tests.dashboard.film import snapshot_at
from tests.dashboard.stage import Stage

STACK = 'Thread 0x7f (most recent call first):\n  File "/app/[x].py", line 7 in resize_image\n'


# Textual's own, and the pool's: no dialog.
SCREENS = 2


def _request(command: Command, **arguments: int | None) -> Request:
    return Request("nightly", command, arguments)


async def test_pause_and_resume_share_a_key() -> None:
    """Nothing is lost by either, so nothing is asked; the footer says which it is."""
    async with Stage().open() as stage:
        assert "p Pause" in stage.footer
        await stage.press("p")
        await stage.until(lambda: stage.source.sent == [_request(Command.PAUSE)])
        await stage.until(lambda: "nightly was told to pause" in stage.text)
        stage.edit = lambda s: dataclasses.replace(s, state=PoolState.PAUSED)
        await stage.step()
        assert "p Resume" in stage.footer
        await stage.press("p")
        await stage.until(lambda: stage.source.sent[1:] == [_request(Command.RESUME)])


@pytest.mark.parametrize(
    ("key", "typed", "wrong", "request_"),
    [
        ("n", "16", "0", _request(Command.RESIZE, workers=16)),
        ("m", "50", "x", _request(Command.SET, maxtasksperchild=50)),
        ("m", "", "-1", _request(Command.SET, maxtasksperchild=None)),
    ],
    ids=["resize", "max tasks", "no limit"],
)
async def test_numbers_are_asked_for(key: str, typed: str, wrong: str, request_: Request) -> None:
    """The present one stands in the field; a wrong one is told, and nothing is sent."""
    async with Stage().open() as stage:
        await stage.press(key)
        assert isinstance(stage.app.screen, NumberScreen)
        await stage.press("backspace", *wrong, "enter")
        assert "Needed: a whole number of" in stage.text
        assert stage.source.sent == []
        await stage.press(*["backspace"] * 4, *typed, "enter")
        await stage.until(lambda: stage.source.sent == [request_])
        await stage.press(key, "escape", key, "tab", "enter")
        assert len(stage.app.screen_stack) == SCREENS
        assert stage.source.sent == [request_]


async def test_recycle_the_worker_under_the_cursor_or_all() -> None:
    """The worker is the one of the moment when the key was pressed."""
    async with Stage().open() as stage:
        await stage.press("j", "j", "R")
        text = " ".join(stage.text.split())
        assert "Nothing is lost" in text
        assert "Slot 2" in text
        assert stage.app.focused is not None
        assert stage.app.focused.id == "cancel"
        stage.table.action_move(1)
        await stage.press("right", "enter")
        await stage.until(lambda: stage.source.sent == [_request(Command.RECYCLE, slot=2)])
        await stage.press("R", "right", "right", "enter")
        await stage.until(lambda: stage.source.sent[1:] == [_request(Command.RECYCLE, slot=None)])


async def test_cancel_a_job() -> None:
    """Only from the jobs, only one in progress; what is lost is told; keeping is the default."""
    async with Stage().open() as stage:
        assert "Cancel job" not in stage.footer
        await stage.press("K")
        assert stage.app.screen is stage.screen
        await stage.press("2")
        assert "Cancel job" in stage.footer
        await stage.press("K")
        assert isinstance(stage.app.screen, ConfirmScreen)
        text = " ".join(stage.text.split())
        assert "Cancel job 2, imap_unordered of resize_image, of nightly" in text
        assert "items without a result" in text
        await stage.press("enter")
        assert stage.source.sent == []
        await stage.press("K", "right", "enter", "K", "left", "enter")
        await stage.until(lambda: len(stage.source.sent) == 2)
        queued, running = sorted(request.arguments["running"] for request in stage.source.sent)
        assert (queued, running) == (False, True)
        await stage.press("j")
        assert "Cancel job" not in stage.footer


async def test_the_stack_of_a_worker_now() -> None:
    """In a screen of its own; a key takes it anew, another one copies it."""
    async with Stage().open() as stage:
        stage.source.answer = STACK
        await stage.press("j", "s")
        assert isinstance(stage.app.screen, StackScreen)
        await stage.until(lambda: "/app/[x].py:7" in stage.text)
        assert "Stack of slot 1 of nightly" in stage.text
        assert stage.source.sent == [_request(Command.STACK, slot=1)]
        stage.source.refusal = "slot 1 [/x] was stopped"
        await stage.press("s")
        await stage.until(lambda: "slot 1 [/x] was stopped" in stage.text)
        stage.source.refusal = None
        await stage.press("r")
        await stage.until(lambda: "resize_image" in stage.text)
        await stage.press("y")
        assert stage.app.clipboard == STACK
        await stage.press("escape")
        assert len(stage.app.screen_stack) == SCREENS


async def test_a_pool_that_does_not_answer_stops_nothing() -> None:
    """The screen goes on while a command waits for its answer."""
    go_on = threading.Event()
    async with Stage().open() as stage:
        stage.source.before_send = lambda: go_on.wait(20)
        await stage.press("s")
        assert "asking the pool" in stage.text
        await stage.press("escape", "I")
        assert stage.slots == list(range(7, -1, -1))
        go_on.set()
        await stage.until(lambda: stage.source.sent)


async def test_a_silent_process_may_be_ended_by_signals() -> None:
    """After a question that names the program and what is lost; not where it isn't ours."""
    stage = Stage(film=lambda s: dataclasses.replace(snapshot_at(s), heartbeat_time=1.0e9))
    async with stage.open() as stage:
        assert "E ends it." in stage.text
        await stage.press("E")
        text = " ".join(stage.text.split())
        assert "End the process of nightly (pid 41822)?" in text
        assert "the whole program nightly.py" in text
        assert "Lost: 8 workers, 6 running tasks" in text
        await stage.press("enter", "E", "right", "enter")
        await stage.until(lambda: stage.source.ended)
        pids = tuple(worker.pid for worker in snapshot_at(0).workers)
        assert stage.source.ended == [(41822, pids)]
        await stage.until(lambda: "nightly: ended by SIGTERM" in stage.text)
        stage.source.untouchable = "it belongs to uid 7"
        await stage.step()
        assert "E End it" not in stage.footer
        await stage.press("E")
        assert stage.app.screen is stage.screen


async def test_a_pool_that_answers_is_not_ended_by_signals() -> None:
    """It is told instead."""
    async with Stage().open() as stage:
        await stage.press("E")
        assert stage.app.screen is stage.screen


async def test_read_only_has_none_of_these() -> None:
    """Neither shown nor in effect, a silent process's end included."""
    stage = Stage(film=lambda s: dataclasses.replace(snapshot_at(s), heartbeat_time=1.0e9))
    async with stage.open(read_only=True) as stage:
        await stage.press("2")
        for key in "pnRmsKcXE":
            await stage.press(key)
            assert stage.app.screen is stage.screen, key
        await stage.press("1", "s", "R")
        assert stage.app.screen is stage.screen
        assert stage.source.sent == []
        assert "Pause" not in stage.footer
