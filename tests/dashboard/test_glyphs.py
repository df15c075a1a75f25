"""Signs: safe texts, exact widths, bars and curves."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from obspool_dashboard.glyphs import ASCII, UNICODE


@pytest.mark.parametrize(
    "text", ["", "resize", "f[int](x)", "[/x]", "画像を縮小", "e\u0301t", "a" * 50]
)
@pytest.mark.parametrize("width", [0, 1, 2, 5, 10])
def test_fit_gives_exactly_that_many_cells(text: str, width: int) -> None:
    """Also with characters that are two cells wide, or none."""
    for glyphs in (UNICODE, ASCII):
        assert cell_len(glyphs.fit(glyphs.printable(text), width)) == width


def test_printable_leaves_nothing_that_acts_on_the_terminal() -> None:
    """An escape sequence is text here."""
    assert UNICODE.printable("a\x1b[2Jb\n") == "a�[2Jb "
    assert ASCII.printable("\u202egrün\x1b") == "?gr?n?"


def test_bars_are_as_wide_as_asked() -> None:
    """Whatever the share, also beyond both ends."""
    for share in (-1.0, 0.0, 0.5, 0.999, 1.0, 7.0):
        full, empty = UNICODE.bar(share, 20)
        assert len(full) + len(empty) == 20
    assert UNICODE.bar(1.0, 20)[1] == ""


def test_a_little_is_never_drawn_as_nothing() -> None:
    """One item in a second beside thousands in another still shows."""
    assert UNICODE.sparkline([0, 1, 5000]) == " ▁█"
    assert UNICODE.sparkline([0, 0]) == "  "
    assert UNICODE.sparkline([]) == ""
