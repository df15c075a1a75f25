"""Closing and terminating: asked first, Cancel by default, and only where it can be done."""

from __future__ import annotations

import dataclasses

import pytest

from obspool.words import PoolOutcome, PoolState
from obspool_dashboard.screens.confirm import ConfirmScreen
from obspool_dashboard.source import Command, Request
from tests.dashboard.film import snapshot_at
from tests.dashboard.stage import Stage
from tests.synthetic import make_snapshot


@pytest.mark.parametrize("key", ["c", "X"])
@pytest.mark.parametrize("answer", ["enter", "escape"])
async def test_the_default_is_cancel(key: str, answer: str) -> None:
    """Whoever goes on typing loses nothing."""
    async with Stage().open() as stage:
        await stage.press(key)
        assert isinstance(stage.app.screen, ConfirmScreen)
        assert stage.app.focused is not None
        assert stage.app.focused.id == "cancel"
        await stage.press(answer)
        assert stage.app.screen_stack[-1] is stage.screen
        assert stage.source.sent == []


async def test_terminate_names_what_is_lost() -> None:
    """In numbers of the newest reading."""
    async with Stage().open() as stage:
        await stage.press("X")
        text = " ".join(stage.text.split())
        assert "Terminate nightly (pid 41822)?" in text
        assert "Lost: 8 workers, 6 running tasks, 194 queued" in text
        assert "PoolTerminatedError" in text
        assert "ValueError" in text


async def test_close_says_what_it_means_for_the_program() -> None:
    """Nothing is lost, but the next call raises."""
    async with Stage().open() as stage:
        await stage.press("c")
        text = " ".join(stage.text.split())
        assert "Nothing is lost: 6 running tasks and 194 queued still run" in text
        assert "next call on this pool raises ValueError" in text


@pytest.mark.parametrize("move", ["tab", "left", "right", "shift+tab"])
@pytest.mark.parametrize(("key", "command"), [("c", Command.CLOSE), ("X", Command.TERMINATE)])
async def test_the_other_button_does_it(key: str, command: Command, move: str) -> None:
    """And the pool is told once."""
    async with Stage().open() as stage:
        await stage.press(key, move, "enter")
        await stage.until(lambda: stage.source.sent)
        assert stage.source.sent == [Request("nightly", command)]
        await stage.until(lambda: f"nightly was told to {command}" in stage.text)


async def test_a_click_does_it() -> None:
    """The mouse works in dialogs."""
    async with Stage().open() as stage:
        await stage.press("X")
        await stage.pilot.click("#answer-0")
        await stage.until(lambda: stage.source.sent == [Request("nightly", Command.TERMINATE)])


async def test_a_refusal_is_shown_as_it_is() -> None:
    """A ControlError says to whom, why, and what to do; its brackets aren't markup."""
    async with Stage().open() as stage:
        stage.source.refusal = "pool '[/x]' [bold]did not answer"
        await stage.press("X", "tab", "enter")
        await stage.until(lambda: "[bold]did not answer" in stage.text)
        assert "[/x]" in stage.text


async def test_the_target_is_fixed_when_the_dialog_opens() -> None:
    """Another pool of the same name that appears meanwhile isn't meant."""
    async with Stage().open() as stage:
        asked = stage.screen.entry
        await stage.press("X")
        stage.screen.entry = dataclasses.replace(
            asked, facts=dataclasses.replace(asked.facts, name="another")
        )
        await stage.press("tab", "enter")
        await stage.until(lambda: stage.source.sent == [Request("nightly", Command.TERMINATE)])


async def test_read_only_has_no_such_keys() -> None:
    """Neither in the footer, nor in effect; and the header says so."""
    async with Stage().open(read_only=True) as stage:
        assert "read-only" in stage.text
        assert "Close" not in stage.footer
        await stage.press("c", "X")
        assert stage.app.screen is stage.screen


async def test_a_pool_without_a_socket_has_no_such_keys() -> None:
    """OBSPOOL_CONTROL=0 leaves it out."""
    async with Stage(film=lambda seconds: make_snapshot(now=1.75e9 + seconds)).open() as stage:
        assert "Close" not in stage.footer
        await stage.press("c", "X")
        assert stage.app.screen is stage.screen


async def test_a_closing_pool_can_only_be_terminated() -> None:
    """What was asked for already isn't offered again."""
    async with Stage().open() as stage:
        stage.edit = lambda s: dataclasses.replace(s, state=PoolState.CLOSING)
        await stage.step()
        assert "closing" in stage.text
        assert "Close" not in stage.footer
        assert "Terminate" in stage.footer
        await stage.press("c")
        assert stage.app.screen is stage.screen


async def test_an_ended_pool_has_no_such_keys() -> None:
    """There is nobody to be told."""
    async with Stage().open() as stage:
        stage.film = lambda seconds: dataclasses.replace(
            snapshot_at(seconds), alive=False, state=PoolState.ENDED, outcome=PoolOutcome.FINISHED
        )
        await stage.step()
        assert "Terminate" not in stage.footer
        await stage.press("c", "X")
        assert stage.app.screen is stage.screen
