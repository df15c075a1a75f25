"""Every key that is shown does what it says."""

from __future__ import annotations

import dataclasses

import pytest

from obspool_dashboard.screens.help import HelpScreen
from obspool_dashboard.screens.pick import PickScreen
from tests.dashboard.film import snapshot_at
from tests.dashboard.stage import Stage


async def test_the_screen_shows_the_pool_and_a_row_for_each_worker() -> None:
    """Facts, numbers, workers, totals, jobs and events stand on one screen."""
    async with Stage().open() as stage:
        await stage.step()
        for text in (
            "nightly", "pid 41822", "fork", "running 00:41", "8 workers", "items/s", "queued",
            "Workers", "SLOT", "resize_image", "all", "imap_unordered", "eta", "lost: killed by",
        ):  # fmt: skip
            assert text in stage.text, text
        assert stage.slots == list(range(8))


async def test_every_key_has_its_action() -> None:
    """No key is bound to nothing, and all that the footer shows are bound."""
    async with Stage().open((200, 40)) as stage:
        for active in stage.screen.active_bindings.values():
            name = active.binding.action.split("(")[0].removeprefix("app.")
            node = stage.app if active.binding.action.startswith("app.") else active.node
            assert hasattr(node, f"action_{name}"), active.binding
        for key in ("Freeze", "Sort", "Close", "Terminate", "Back", "Interval", "Help", "Quit"):
            assert key in stage.footer


@pytest.mark.parametrize("key", ["q", "ctrl+c", "ctrl+q"])
async def test_quit(key: str) -> None:
    """The screen ends with exit code 0."""
    async with Stage().open() as stage:
        await stage.pilot.press(key)
    assert stage.app.return_code == 0


async def test_ctrl_c_quits_from_a_dialog_too() -> None:
    """It is the way out of everything."""
    async with Stage().open() as stage:
        await stage.press("X")
        await stage.pilot.press("ctrl+c")
    assert stage.app.return_code == 0
    assert stage.source.sent == []


async def test_freeze_holds_the_values_and_nothing_else() -> None:
    """Frozen, the sort and the cursor still work, and the banner says so and since when."""
    async with Stage().open() as stage:
        await stage.step()
        done = stage.screen.shown
        await stage.press("space")
        assert "FROZEN for 0 s" in stage.text
        await stage.step(12.0)
        assert stage.screen.shown is done
        assert stage.screen.latest is not done
        assert "FROZEN for 12 s" in stage.text
        await stage.press("G", ">")
        assert "sort: pid" in stage.text
        await stage.press("space")
        assert "FROZEN" not in stage.text
        assert stage.screen.shown is stage.screen.latest


async def test_sort_keys() -> None:
    """`>` and `<` go through the columns in view, `I` turns the order round."""
    async with Stage().open() as stage:
        await stage.press("I")
        assert stage.slots == list(range(7, -1, -1))
        await stage.press(">")
        pids = [row.worker.pid for row in stage.table.rows]
        assert pids == sorted(pids)
        await stage.press("<")
        assert stage.slots == list(range(8))
        await stage.press("<")
        assert stage.table.sort.key == "queue"
        assert "Q▼" in stage.text


async def test_click_on_a_title_sorts_and_again_turns_round() -> None:
    """As everywhere."""
    async with Stage().open() as stage:
        title = stage.text.splitlines()[4]
        where = (title.index("RSS") + 1, 0)
        await stage.pilot.click("#workers", offset=where)
        await stage.pilot.pause()
        sizes = [row.worker.resident_memory for row in stage.table.rows]
        assert sizes == sorted(sizes, reverse=True)
        await stage.pilot.click("#workers", offset=where)
        await stage.pilot.pause()
        assert [row.worker.resident_memory for row in stage.table.rows] == sizes[::-1]


async def test_cursor_keys() -> None:
    """vi's, arrows, pages, ends; and a click."""
    async with Stage(workers=128).open() as stage:
        for keys, slot in (
            (("j",), 1), (("down",), 2), (("k",), 1), (("up",), 0), (("up",), 0),
            (("G",), 127), (("j",), 127), (("g",), 0), (("end",), 127), (("home",), 0),
        ):  # fmt: skip
            await stage.press(*keys)
            assert stage.table.cursor_key == slot, keys
        first, end = stage.table.in_view
        await stage.press("pagedown")
        assert stage.table.cursor_key == end - first - 1
        await stage.press("pageup")
        assert stage.table.cursor_key == 0
        await stage.pilot.click("#workers", offset=(10, 4))
        assert stage.table.cursor_key == 3


async def test_the_cursor_follows_its_worker_not_its_row() -> None:
    """Through sorting, new values, and the recycling of its process."""
    async with Stage().open() as stage:
        await stage.press("j", "j", "j", "j")
        assert stage.table.cursor_key == 4
        await stage.press(">")
        assert stage.table.cursor_key == 4

        def recycled(seconds: float) -> object:
            snapshot = snapshot_at(seconds)
            young = [
                dataclasses.replace(
                    worker,
                    generation=worker.generation + 1,
                    pid=50_000 + int(stage.now) * (worker.slot + 1) * 613 % 4000,
                )
                for worker in snapshot.workers
            ]
            return dataclasses.replace(snapshot, workers=tuple(young))

        stage.film = recycled  # type: ignore[assignment]
        rows = set()
        for _ in range(6):
            await stage.step()
            assert stage.table.cursor is not None
            assert stage.table.cursor.worker.slot == 4
            rows.add(stage.slots.index(4))
        assert len(rows) > 1


async def test_the_cursor_stays_in_view_when_its_worker_moves() -> None:
    """A sort that takes it to the other end of 128 rows takes the view along."""
    async with Stage(workers=128).open() as stage:
        await stage.press("I")
        first, end = stage.table.in_view
        assert stage.table.cursor_key == 0
        assert first <= stage.slots.index(0) < end
        assert "of 128" in stage.text


async def test_a_removed_slot_leaves_the_cursor_beside_it() -> None:
    """A resize takes the last slots away."""
    async with Stage().open() as stage:
        await stage.press("G")
        stage.film = lambda seconds: snapshot_at(seconds, workers=3)
        await stage.step()
        assert stage.table.cursor_key == 2
        assert stage.slots == [0, 1, 2]


async def test_interval_keys() -> None:
    """`+` reads less often, `-` more often, both within their ends."""
    async with Stage().open((200, 40)) as stage:
        stage.app.interval = 1.0
        for key, interval in (("plus", 2.0), ("plus", 5.0), ("minus", 2.0)):
            await stage.press(key)
            assert stage.app.interval == stage.screen.reader.interval == interval
            assert f"every {interval:g} s" in stage.text
        await stage.press(*["minus"] * 9)
        assert stage.app.interval == 0.25
        await stage.press(*["plus"] * 9)
        assert stage.app.interval == 10.0


@pytest.mark.parametrize("key", ["question_mark", "f1"])
async def test_help_is_made_from_the_bindings(key: str) -> None:
    """It names every key that works now, and each column."""
    async with Stage().open((100, 60)) as stage:
        await stage.press(key)
        assert isinstance(stage.app.screen, HelpScreen)
        for text in ("Freeze, or go on", "< ", "Terminate it", "? f1", "^c", "SLOT", "GROWTH"):
            assert text in stage.text
        await stage.press("escape")
        assert not isinstance(stage.app.screen, HelpScreen)


async def test_help_scrolls_on_a_small_terminal() -> None:
    """The last column's line can be reached in twelve lines."""
    async with Stage().open((40, 12)) as stage:
        await stage.press("question_mark")
        assert "maxtasksperchild" not in stage.text
        await stage.press(*["pagedown"] * 16)
        assert "maxtasksperchild" in stage.text.replace("\n", "")
        await stage.press("j", "k", "pageup", "q")
        assert stage.app.screen is stage.screen


async def test_help_leaves_out_what_does_not_work_now() -> None:
    """Read-only, there is nothing to close."""
    async with Stage().open((100, 60), read_only=True) as stage:
        await stage.press("question_mark")
        assert "Close the pool" not in stage.text


async def test_escape_goes_to_the_list() -> None:
    """To pick another pool."""
    async with Stage().open() as stage:
        await stage.press("escape")
        assert isinstance(stage.app.screen, PickScreen)
        await stage.until(lambda: "1 running" in stage.text)
