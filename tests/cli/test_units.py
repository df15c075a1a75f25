from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obspool import units
from obspool.cli.table import Column, aligned


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0, "0"), (999, "999"), (1240, "1.24k"), (98_000, "98.0k"), (999_999, "1.00M")],
)
def test_counts(value: float | None, text: str) -> None:
    """Three digits and a unit; a rounded value never shows four."""
    assert units.count(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0, "0"), (0.25, "0.25"), (7.9, "7.9"), (4410, "4.41k")]
)
def test_rates(value: float | None, text: str) -> None:
    """Slow rates keep decimals."""
    assert units.rate(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.0, "0.0 ms"),
        (12e-6, "12 µs"),
        (0.0009996, "1.0 ms"),
        (0.0031, "3.1 ms"),
        (0.09996, "100 ms"),
        (0.412, "412 ms"),
        (0.9996, "1.0 s"),
        (41.24, "41.2 s"),
        (59.96, "1m 00s"),
        (248, "4m 08s"),
        (7500, "2h 05m"),
        (273_600, "3d 04h"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    """The unit that fits, also where rounding brings the next one."""
    assert units.duration(seconds) == text


@pytest.mark.parametrize(
    ("octets", "text"),
    [(None, "-"), (0, "0 B"), (1023, "1.00 KiB"), (212 << 20, "212 MiB"), (-2048, "-2.00 KiB")],
)
def test_sizes(octets: int | None, text: str) -> None:
    """Binary units; a growth may be negative."""
    assert units.size(octets) == text


def test_a_clock() -> None:
    """Days before the hours."""
    assert units.uptime(2537.9) == "00:42:17"
    assert units.uptime(3 * 86400 + 4 * 3600 + 12 * 60 + 7) == "3d 04:12:07"


@given(st.floats(min_value=0, max_value=1e17, allow_nan=False))
def test_widths_never_jump(value: float) -> None:
    """Columns of a live screen are made for these widths."""
    assert len(units.count(value)) <= 5
    assert len(units.rate(value)) <= 5
    assert len(units.size(value)) <= 8
    assert len(units.duration(min(value, 8e6))) <= 7


@given(st.floats(min_value=1e-6, max_value=59.0))
def test_durations_are_right(seconds: float) -> None:
    """What is read back is within the rounding of what was written."""
    number, unit = units.duration(seconds).split(" ")
    scale = {"µs": 1e-6, "ms": 1e-3, "s": 1.0}[unit]
    assert math.isclose(float(number) * scale, seconds, rel_tol=0.06, abs_tol=0.6e-6)


@given(st.text())
def test_nothing_that_steers_a_terminal_is_printable(text: str) -> None:
    """No control, escape or direction character is left."""
    assert not re.search("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e]", units.printable(text))


def test_ordinary_text_stays() -> None:
    """Names in any script are shown as they are."""
    assert units.printable("nächtlich 夜間 🦆") == "nächtlich 夜間 🦆"


def test_columns_line_up_in_any_script() -> None:
    """A wide character takes two cells, a combining one none; long cells are cut."""
    columns = (Column("NAME", right=False), Column("N"))
    rows = [("夜間", "1"), ("e\u0301t\u00e9", "22"), ("x" * 200, "333")]
    lines = list(aligned(columns, rows))
    assert lines[0].endswith("  N")
    assert lines[1] == "夜間" + " " * 56 + "    1"
    assert lines[2] == "e\u0301t\u00e9" + " " * 57 + "   22"
    assert lines[3] == "x" * 59 + "…  333"
