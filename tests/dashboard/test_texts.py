"""Texts of users: never markup, never an order to the terminal."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from tests.dashboard.film import snapshot_at
from tests.dashboard.stage import Stage

if TYPE_CHECKING:
    from obspool.telemetry.snapshot import Snapshot

ODD = [
    "f[int](x)",
    "[/x]",
    "[bold red]f",
    "<lambda>",
    "$f",
    "画像を縮小",
    "f\x1b[31m",
    "a\nb",
    "{0}%s",
]


def _with_text(snapshot: Snapshot, text: str) -> Snapshot:
    workers = tuple(
        dataclasses.replace(worker, function=worker.function and text)
        for worker in snapshot.workers
    )
    return dataclasses.replace(
        snapshot,
        facts=dataclasses.replace(snapshot.facts, name=text, program=text),
        workers=workers,
        jobs=tuple(dataclasses.replace(job, function=text) for job in snapshot.jobs),
        events=tuple(dataclasses.replace(event, text=text) for event in snapshot.events),
    )


@pytest.mark.parametrize("text", ODD)
async def test_names_are_shown_as_they_are(text: str) -> None:
    """In the header, the rows, jobs, events, and in a dialog."""
    shown = text.replace("\x1b", "�").replace("\n", " ")
    async with Stage().open((160, 40)) as stage:
        stage.edit = lambda snapshot: _with_text(snapshot, text)
        await stage.step()
        lines = stage.text.splitlines()
        assert shown in lines[0]
        assert sum(shown in line for line in lines) >= 1 + 6 + 2 + 4
        assert "\x1b" not in stage.text
        await stage.press("X")
        assert f"Terminate {shown} (pid 41822)?" in stage.text


async def test_ascii_only_shows_nothing_else() -> None:
    """Whatever names there are; the states keep different signs."""
    async with Stage(workers=9).open((160, 40), ascii_only=True) as stage:
        stage.edit = lambda snapshot: _with_text(snapshot, "画像を縮小")
        await stage.step()
        assert stage.text.isascii()
        for state in ("* busy", "o idle", "~ starting", "v draining"):
            assert state in stage.text
        for key in ("X", "question_mark"):
            await stage.press(key)
            assert stage.text.isascii(), key
            await stage.press("escape")
        for key in "2345n":
            await stage.press(key)
            assert stage.text.isascii(), key


async def test_a_torn_row_is_marked() -> None:
    """Its values are true alone, not together."""
    async with Stage().open() as stage:
        torn = dataclasses.replace(snapshot_at(0).workers[0], torn=True)
        stage.edit = lambda s: dataclasses.replace(s, workers=(torn, *s.workers[1:]))
        await stage.step()
        assert "● busy?" in stage.text
