"""The target goes away, stops, or can't be read."""

from __future__ import annotations

import dataclasses
import threading
from typing import TYPE_CHECKING

import pytest

from obspool.errors import SegmentError
from obspool.words import PoolOutcome
from tests.dashboard.film import snapshot_at
from tests.dashboard.stage import Stage
from tests.synthetic import NOW, make_snapshot

if TYPE_CHECKING:
    from obspool.telemetry.snapshot import Snapshot


@pytest.mark.parametrize(
    ("outcome", "text"),
    [
        (PoolOutcome.FINISHED, "finished, nothing was pending"),
        (PoolOutcome.ABANDONED, "abandoned, terminated with work pending"),
        (PoolOutcome.BROKEN, "broken, it could no longer run work"),
        (PoolOutcome.DIED, "died, its process is gone without a word"),
    ],
)
async def test_the_end_says_how_and_keeps_the_values(outcome: PoolOutcome, text: str) -> None:
    """The last values stay, faded, with their age; the reader rests."""
    async with Stage().open() as stage:
        await stage.step()
        stage.film = lambda seconds: make_snapshot(now=NOW + seconds, outcome=outcome)
        await stage.step()
        assert f"ENDED: {text}." in stage.text
        assert "20 s old" in stage.text
        # Only what still does something is offered.
        for key, offered in (
            ("Back", True),
            ("Quit", True),
            ("Freeze", False),
            ("Interval", False),
        ):
            assert (key in stage.footer) == offered
        assert stage.table.faded
        assert stage.slots == list(range(8))
        assert "avg /s" in stage.text
        stage.now += 40
        stage.screen.show_banner()
        await stage.pilot.pause()
        assert "1m 00s old" in stage.text
        reads = stage.screen.readings
        stage.screen.reader.now()
        stage.screen.reader._thread.join(5)
        assert stage.screen.readings == reads


async def test_a_pool_that_died_without_a_word_is_told_by_its_lock() -> None:
    """Nobody wrote an outcome: the lock is free, and the heartbeat was the last sign."""
    async with Stage().open() as stage:

        def killed(snapshot: Snapshot) -> Snapshot:
            return dataclasses.replace(snapshot, alive=False)

        stage.edit = killed
        await stage.step()
        assert "ENDED: died" in stage.text


async def test_an_end_is_told_while_frozen() -> None:
    """The values stay as frozen; the end isn't hidden."""
    async with Stage().open() as stage:
        await stage.press("space")
        frozen = stage.screen.shown
        stage.film = lambda seconds: make_snapshot(now=NOW + seconds, outcome=PoolOutcome.FINISHED)
        await stage.step()
        assert stage.screen.shown is frozen
        assert "FROZEN" in stage.text
        assert "ENDED: finished" in stage.text
        await stage.press("space")
        assert "FROZEN" not in stage.text
        assert "Freeze" not in stage.footer


async def test_a_segment_that_vanished_is_told_and_may_come_back() -> None:
    """The last values stay, with their age, and control is off while nothing is known."""
    async with Stage().open() as stage:

        def gone(_: Snapshot) -> Snapshot:
            raise SegmentError("[/x] is cut short")

        edit, stage.edit = stage.edit, gone
        await stage.step(7.0)
        assert "CAN'T BE READ: [/x] is cut short." in stage.text
        assert "Values 7 s old" in stage.text
        assert "Terminate" not in stage.footer
        assert stage.table.faded
        stage.edit = edit
        await stage.step()
        assert "CAN'T BE READ" not in stage.text
        assert "Terminate" in stage.footer
        assert not stage.table.faded


async def test_a_reader_that_hangs_stops_nothing() -> None:
    """The screen says so, keys work, and quitting doesn't wait."""
    go_on = threading.Event()
    async with Stage().open() as stage:
        stage.edit = lambda snapshot: (go_on.wait(20), snapshot)[1]
        stage.screen.reader.interval = stage.app.interval = 1.0
        stage.screen.reader.now()
        stage.now += 30
        stage.screen.show_banner()
        await stage.press("I")
        assert "NO READING for 30 s" in stage.text
        assert stage.slots == list(range(7, -1, -1))
        await stage.pilot.press("q")
    assert stage.app.return_code == 0
    go_on.set()


async def test_a_stopped_process_is_told_by_its_heartbeat() -> None:
    """The segment can be read, and its owner doesn't go on."""
    async with Stage().open() as stage:
        stage.film = lambda seconds: _silent(snapshot_at(seconds))
        await stage.step()
        assert "SILENT for 33 s: the pool's process is stopped or stuck" in stage.text
        assert "running, silent" in stage.text
        assert "E End it" in stage.footer


def _silent(snapshot: Snapshot) -> Snapshot:
    return dataclasses.replace(snapshot, heartbeat_time=snapshot.time - 33)
