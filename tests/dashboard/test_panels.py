"""The panels of a pool, how one gets to them, and what is copied and filtered there."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING

import pytest

from obspool.telemetry.snapshot import Event, ItemError
from obspool.words import EventKind
from obspool_dashboard.themes import DARK, LIGHT
from tests.dashboard.film import snapshot_at
from tests.dashboard.stage import Stage
from tests.synthetic import NOW

if TYPE_CHECKING:
    from pathlib import Path

    from obspool.telemetry.snapshot import Snapshot

SIZES = [(160, 45), (80, 24), (40, 12)]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_each_panel_has_a_key_at_any_size(size: tuple[int, int]) -> None:
    """One that has no room beside the others is shown alone."""
    told = {
        "1": "SLOT", "2": "imap_unordered" if size[0] > 40 else "resize", "3": "killed",
        "4": "chunksize = 0.2 s", "5": "process",
    }  # fmt: skip
    async with Stage().open(size) as stage:
        for key, text in told.items():
            await stage.press(key)
            assert text in stage.text, key
            assert len(stage.text.splitlines()) == size[1]
            await stage.press("pagedown", "j", "G", "k", "g", "pageup")
            assert text in stage.text, key
        await stage.press("escape")
        assert "SLOT" in stage.text


async def test_a_panel_alone_and_back() -> None:
    """`e` gives a panel all lines; Esc and `e` bring the others back."""
    async with Stage().open() as stage:
        await stage.press("3", "e")
        assert "Workers" not in stage.text.splitlines()[3]
        assert "started: 8 workers by fork" in stage.text
        await stage.press("escape")
        assert "SLOT" in stage.text
        await stage.press("e", "1")
        assert "Events" not in stage.text
        await stage.press("e")
        assert "Events" in stage.text


async def test_a_click_goes_to_a_panel_and_two_to_the_worker() -> None:
    """The mouse does what the keys do, also on the last line."""
    async with Stage().open() as stage:
        await stage.pilot.click("#jobs", offset=(5, 1))
        await stage.pilot.pause()
        assert "Cancel job" in stage.footer
        await stage.pilot.click("#workers", offset=(5, 3), times=2)
        await stage.pilot.pause()
        assert "Worker, slot 2" in stage.text
        await stage.pilot.click("#keys", offset=(stage.footer.index("Back"), 0))
        await stage.pilot.pause()
        assert "SLOT" in stage.text


async def test_a_filter_and_the_cursor() -> None:
    """It is typed below, goes on when Enter closes it, and Esc takes it away."""
    async with Stage().open() as stage:
        await stage.press("j", "slash", *"IDLE")
        assert stage.slots == [2]
        assert "filter: IDLE (1 of 8)" in stage.text
        await stage.press("enter", "I")
        assert stage.slots == [2]
        # The worker goes to work: it no longer matches, and no other slips under the cursor.
        busy = snapshot_at(0).workers[0]
        stage.edit = lambda s: dataclasses.replace(
            s,
            workers=tuple(
                dataclasses.replace(w, state=busy.state) if w.slot == 2 else w for w in s.workers
            ),
        )
        await stage.step()
        assert stage.table.cursor_key == 2
        await stage.press("escape")
        assert len(stage.slots) == 8
        await stage.press("slash", *"nothing here")
        assert "nothing matches 'nothing here'" in stage.text
        await stage.press("escape", "escape")
        assert len(stage.slots) == 8


async def test_sort_and_filter_from_the_command_line() -> None:
    """By a column's title or name."""
    async with Stage().open(sort="rss", pattern="resize") as stage:
        assert stage.table.sort.key == "rss"
        assert set(stage.slots) == {0, 1, 4, 5, 6, 7}


async def test_a_worker_s_page() -> None:
    """What it is in, against the p95; its curves, its generations and why they ended."""

    def past(snapshot: Snapshot) -> Snapshot:
        events = (
            Event(1, NOW - 300, EventKind.WORKER_STARTED, 1, 70, 1, "generation 1"),
            Event(2, NOW - 200, EventKind.WORKER_EXITED, 1, 70, 1, "memory"),
            Event(3, NOW - 200, EventKind.WORKER_STARTED, 2, 71, 1, "generation 1"),
        )
        described = dataclasses.replace(snapshot.workers[1], description="[b]cat.png")
        workers = (snapshot.workers[0], described, *snapshot.workers[2:])
        return dataclasses.replace(snapshot, events=events, workers=workers)

    stage = Stage()
    stage.edit = past
    async with stage.open((120, 40)):
        await stage.press("j", "enter")
        for _ in range(3):
            await stage.step()
        for text in (
            "Worker, slot 1", "[b]cat.png", "times the p95 of its function", "gen 1",
            "curves of the last 3 s", "recycled for its memory, after 1m 40s",
        ):  # fmt: skip
            assert text in stage.text, text
        assert "generation 1" in stage.text
        await stage.press("y")
        assert "[b]cat.png" in stage.app.clipboard
        await stage.press("space")
        before = stage.text.splitlines()[5:30]
        await stage.step()
        assert stage.text.splitlines()[5:30] == before


def _long(snapshot: Snapshot) -> Snapshot:
    """Give slot 1 long texts, and an error."""
    error = ItemError(NOW - 9, 3, "resize_image", "img_1.png", f"ValueError: {'too long ' * 9}end")
    changed = dataclasses.replace(
        snapshot.workers[1],
        function="a_package.with_modules.and_a_function",
        description="archive/2025/06/img_with_a_long_name.png",
        errors=(dataclasses.replace(error, text="KeyError: [/x]"), error),
    )
    workers = (snapshot.workers[0], changed, *snapshot.workers[2:])
    known = {"a_package.with_modules.and_a_function": snapshot.item_run["resize_image"]}
    return dataclasses.replace(snapshot, workers=workers, item_run=known)


@pytest.mark.parametrize("size", [(40, 60), (80, 40), (160, 40)], ids=str)
async def test_the_last_errors_and_nothing_is_cut(size: tuple[int, int]) -> None:
    """The newest first, with what they were in; what is too long goes on in the next line."""
    stage = Stage()
    stage.edit = _long
    async with stage.open(size):
        await stage.press("j", "enter")
        page = "".join(stage.text.split())
        for text in (
            "a_package.with_modules.and_a_function",
            "archive/2025/06/img_with_a_long_name.png",
            "KeyError: [/x] resize_image img_1.png",
            f"ValueError: {'too long ' * 9}end",
            "the p95 of its function",
        ):
            assert "".join(text.split()) in page, text
        assert page.index("toolong") < page.index("KeyError")
        assert "…" not in stage.text.partition("Past")[0]


async def test_copy_takes_the_line_under_the_cursor() -> None:
    """To paste its pid elsewhere."""
    async with Stage().open() as stage:
        await stage.press("y")
        assert str(snapshot_at(0).workers[0].pid) in stage.app.clipboard
        await stage.press("3", "y")
        assert "SIGKILL" in stage.app.clipboard


def _pictures(directory: Path) -> list[Path]:
    return list(directory.glob("obspool-top-*.svg"))


async def test_f12_writes_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the command was given, loading nothing from elsewhere; a failure is told."""
    monkeypatch.chdir(tmp_path)
    async with Stage().open() as stage:
        await stage.press("f12")
        (picture,) = _pictures(tmp_path)
        svg = picture.read_text(encoding="utf-8")
        assert "resize_image" in svg
        assert "url(http" not in svg
        # Taken by a directory of that name.
        picture.rename(tmp_path / "first.svg")
        picture.mkdir()
        await stage.press("f12")
        assert "can't write" in stage.text


async def test_the_palette_has_what_the_keys_have() -> None:
    """And the themes; it is made from the bindings."""
    async with Stage().open((120, 40)) as stage:
        await stage.press("ctrl+p")
        await stage.until(lambda: "Change the number of workers" in stage.text)
        await stage.press(*"theme light")
        await stage.until(lambda: "Theme light" in stage.text)
        await stage.press("enter")
        await stage.until(lambda: stage.app.theme == "obspool-light")
        await stage.press("ctrl+p")
        await stage.press(*"tuning")
        await stage.until(lambda: "Tuning: chunksize" in stage.text)
        await stage.press("enter")
        await stage.until(lambda: "chunksize = 0.2 s" in stage.text)


def _has_grounds(stage: Stage, known: set[str | None]) -> bool:
    return stage.grounds == known


async def test_a_theme_changes_every_line() -> None:
    """Also of widgets that keep what they have drawn; the way back, too."""
    async with Stage().open((120, 40)) as stage:
        for theme in (LIGHT, DARK, LIGHT):
            stage.app.theme = theme.name
            # The ground, the cursor's row and the line of the keys; nothing of the other theme.
            known = {theme.background, theme.variables["cursor-line"], theme.surface}
            await stage.until(partial(_has_grounds, stage, known))


async def test_the_newest_event_stays_in_view() -> None:
    """As long as the cursor is on it; a cursor elsewhere stays on its event."""
    async with Stage().open() as stage:
        await stage.press("3")
        first = stage.edit

        def later(snapshot: Snapshot) -> Snapshot:
            new = [
                Event(n, NOW, EventKind.COMMAND, None, 1, 0, f"pause number {n}")
                for n in range(5, 60)
            ]
            return dataclasses.replace(snapshot, events=(*snapshot.events, *new))

        stage.edit = later
        await stage.step()
        assert "pause number 59" in stage.text
        stage.edit = first
        await stage.step()
        assert "lost: killed by SIGKILL" in stage.text
        await stage.press("j")
        stage.edit = later
        await stage.step()
        assert "pause number 59" not in stage.text
        assert "started: ready in 0.21 s" in stage.text
