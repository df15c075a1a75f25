"""The list of pools: waiting for one, picking one of several, and telling ended ones apart."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING

from obspool.telemetry.registry import Skipped
from obspool.telemetry.snapshot import Event
from obspool.words import EventKind, Outcome, PoolOutcome, WorkerState
from obspool_dashboard.screens.pick import PickScreen
from obspool_dashboard.screens.pool import PoolScreen
from obspool_dashboard.widgets.pools import PoolTable
from tests.dashboard.film import CONTROLLED, snapshot_at
from tests.dashboard.stage import Stage
from tests.synthetic import NOW, make_snapshot

if TYPE_CHECKING:
    from obspool.telemetry.snapshot import Snapshot


def _pool(name: str, pid: int, outcome: PoolOutcome | None = None) -> Snapshot:
    facts = dataclasses.replace(CONTROLLED, pid=pid)
    return make_snapshot(2, name=name, now=NOW, outcome=outcome, facts=facts)


def _stage(*pools: Snapshot) -> Stage:
    stage = Stage()
    stage.now = NOW
    stage.source.pools_now = {pool.facts.name: partial(_same, pool) for pool in pools}
    return stage


def _same(snapshot: Snapshot) -> Snapshot:
    return snapshot


def _picking(stage: Stage) -> PickScreen:
    assert isinstance(stage.app.screen, PickScreen)
    return stage.app.screen


async def test_none_running_says_so_and_how_to_get_one() -> None:
    """And attaches as soon as one appears."""
    stage = _stage()
    async with stage.open(pick=True):
        await stage.until(lambda: "No pool runs" in stage.text)
        assert "from obspool import Pool" in stage.text
        assert "obspool demo" in stage.text
        assert "This attaches as soon as one appears." in stage.text
        stage.source.pools_now["nightly"] = partial(snapshot_at, 0)
        _picking(stage).reader.now()
        await stage.until(lambda: isinstance(stage.app.screen, PoolScreen))
        await stage.until(lambda: "pid 41822" in stage.text)


async def test_several_are_a_live_list_to_pick_from() -> None:
    """With a key for those who read, and a double click for others."""
    stage = _stage(_pool("alpha", 11), _pool("beta", 22))
    async with stage.open(pick=True):
        await stage.until(lambda: "2 running, 0 ended" in stage.text)
        assert "alpha" in stage.text
        assert "beta" in stage.text
        assert "Attach" in stage.footer
        stage.source.pools_now["gamma"] = partial(_same, _pool("gamma", 33))
        _picking(stage).reader.now()
        await stage.until(lambda: "3 running" in stage.text)
        await stage.press("j", "enter")
        await stage.until(lambda: isinstance(stage.app.screen, PoolScreen))
        assert stage.screen.entry.facts.name == "beta"


async def test_a_double_click_attaches() -> None:
    """One click only chooses."""
    stage = _stage(_pool("alpha", 11), _pool("beta", 22))
    async with stage.open(pick=True):
        await stage.until(lambda: "2 running" in stage.text)
        await stage.pilot.click(PoolTable, offset=(5, 2))
        table = _picking(stage).query_one(PoolTable)
        assert table.cursor is not None
        assert table.cursor.entry.facts.name == "beta"
        await stage.pilot.double_click(PoolTable, offset=(5, 2))
        await stage.until(lambda: isinstance(stage.app.screen, PoolScreen))
        assert stage.screen.entry.facts.name == "beta"


async def test_ended_pools_are_told_apart_and_can_be_looked_at() -> None:
    """They stand below those that run, with how and when they ended."""
    stage = _stage(_pool("zeta", 1), _pool("eta", 2), _pool("alpha", 11, PoolOutcome.ABANDONED))
    async with stage.open(pick=True):
        await stage.until(lambda: "2 running, 1 ended" in stage.text)
        rows = [line for line in stage.text.splitlines() if "nightly.py" in line]
        assert ["eta" in rows[0], "zeta" in rows[1], "alpha" in rows[2]] == [True] * 3
        assert "abandoned" in rows[2]
        assert "20 s" in rows[2]
        await stage.press("G", "enter")
        await stage.until(lambda: "ENDED: abandoned" in stage.text)
        await stage.press("escape")
        await stage.until(lambda: "2 running" in stage.text)


async def test_only_ended_ones_still_waits() -> None:
    """What ended can be looked at meanwhile."""
    stage = _stage(_pool("alpha", 11, PoolOutcome.FINISHED))
    async with stage.open(pick=True):
        await stage.until(lambda: "0 running, 1 ended" in stage.text)
        assert "No pool runs" in stage.text
        assert "finished" in stage.text


async def test_a_target_that_means_several_lists_those() -> None:
    """A pid with several pools."""
    stage = _stage(_pool("alpha", 11), _pool("beta", 11), _pool("gamma", 33))
    async with stage.open(pick=True, target="11"):
        await stage.until(lambda: "2 running" in stage.text)
        assert "gamma" not in stage.text


async def test_files_that_are_no_pools_are_told() -> None:
    """And the rest is listed all the same."""
    stage = _stage(_pool("alpha", 11), _pool("beta", 22))
    stage.source.skipped = (
        Skipped("x.segment", "[/x] is of version 9"), Skipped("y.segment", "cut short"),
    )  # fmt: skip
    async with stage.open(pick=True):
        await stage.until(lambda: "2 running" in stage.text)
        assert "SKIPPED x.segment: [/x] is of version 9 (and 1 more)" in stage.text


async def test_the_worst_stands_first_and_stands_out() -> None:
    """Silent, crash-looping, stalled; then those that are well, then those that have ended."""
    well = dataclasses.replace(make_snapshot(1, now=NOW), facts=CONTROLLED)
    silent = dataclasses.replace(well, heartbeat_time=NOW - 40)
    lost = [Event(n, NOW - n, EventKind.WORKER_EXITED, 0, 7, n, "lost: SIGKILL") for n in range(5)]
    crashing = dataclasses.replace(well, events=tuple(lost))
    idle = tuple(dataclasses.replace(w, state=WorkerState.IDLE) for w in well.workers)
    still = [dataclasses.replace(w, task_start_time=None, item_start_time=None) for w in idle]
    stalled = dataclasses.replace(well, workers=tuple(still))
    died = _pool("e", 5, PoolOutcome.DIED)
    pools = {"a": well, "b": stalled, "c": crashing, "d": silent, "e": died}
    stage = _stage(
        *(
            dataclasses.replace(pool, facts=dataclasses.replace(pool.facts, name=name))
            for name, pool in pools.items()
        )
    )
    async with stage.open((140, 30), pick=True):
        await stage.until(lambda: "4 running, 1 ended" in stage.text)
        # A minute later nothing has moved in b.
        for name, read in list(stage.source.pools_now.items()):
            later = dataclasses.replace(read(), time=NOW + 60)
            if name in "abc":
                moved = {**later.items_completed, Outcome.OK: 10**6 * (name == "a")}
                later = dataclasses.replace(
                    later,
                    heartbeat_time=NOW + 60,
                    items_completed=moved if name == "a" else later.items_completed,
                    events=tuple(dataclasses.replace(e, time=e.time + 60) for e in later.events),
                )
            stage.source.pools_now[name] = partial(_same, later)
        _picking(stage).reader.now()
        await stage.until(lambda: "stalled" in stage.text)
        table = _picking(stage).query_one(PoolTable)
        assert [row.entry.facts.name for row in table.rows] == ["d", "c", "b", "a", "e"]
        for text in ("!silent 1m 40s", "!5 crashes", "!stalled", "died"):
            assert text in stage.text


async def test_sorting_and_help_work_here_too() -> None:
    """The same table, the same keys."""
    stage = _stage(_pool("alpha", 22), _pool("beta", 11))
    async with stage.open((100, 60), pick=True):
        await stage.until(lambda: "2 running" in stage.text)
        table = _picking(stage).query_one(PoolTable)
        assert table.sort.key == "trouble"
        while table.sort.key != "pid":
            await stage.press("<")
        assert [row.entry.facts.name for row in table.rows] == ["beta", "alpha"]
        await stage.press("I")
        assert [row.entry.facts.name for row in table.rows] == ["alpha", "beta"]
        await stage.press("question_mark")
        assert "Attach" in stage.text
        assert "how long ago it ended" in stage.text
