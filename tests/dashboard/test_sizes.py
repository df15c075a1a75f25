"""Any size of terminal, any number of workers."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from tests.dashboard.stage import Stage

SIZES = [(160, 45), (120, 30), (100, 30), (80, 24), (40, 12), (20, 5)]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("workers", [0, 2, 128])
async def test_every_line_is_as_wide_as_the_screen(size: tuple[int, int], workers: int) -> None:
    """And the pool's name, its state and a row are there where there is any room."""
    async with Stage(workers=workers).open(size) as stage:
        await stage.step()
        lines = stage.text.splitlines()
        assert len(lines) == size[1]
        assert {cell_len(line) for line in lines} == {size[0]}
        assert "nightly" in lines[0]
        if size[0] >= 40:
            assert "running" in lines[0]
            assert "SLOT" in stage.text
            assert ("no workers" in stage.text) == (workers == 0)
            assert "? Help" in stage.footer
        await stage.press("X")
        assert "Cancel" in stage.text or size[0] < 40


async def test_what_a_narrow_terminal_leaves_out() -> None:
    """40x12 is the table; 80x24 has jobs and events too; all keys but the rarest show."""
    async with Stage(workers=128).open((40, 12)) as stage:
        assert "Events" not in stage.text
        assert "Jobs" not in stage.text
        assert stage.text.count("resize_image") >= 3
        for text in ("◐ start ", "● busy", "○ idle"):
            assert text in stage.text
        assert " all " in stage.text
    async with Stage(workers=128).open((80, 24)) as stage:
        for text in ("Jobs", "Events", "1-10 of 128", "RSS", "Details"):
            assert text in stage.text


async def test_the_screen_follows_a_resize() -> None:
    """Panels and columns come and go with the room."""
    async with Stage(workers=128).open((160, 45)) as stage:
        await stage.press("G")
        await stage.pilot.resize_terminal(40, 12)
        await stage.pilot.pause()
        assert "Events" not in stage.text
        first, end = stage.table.in_view
        assert first <= stage.slots.index(127) < end
        await stage.pilot.resize_terminal(160, 45)
        await stage.pilot.pause()
        assert "Events" in stage.text
        assert "GROWTH" in stage.text
