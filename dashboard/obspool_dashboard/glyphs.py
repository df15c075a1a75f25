"""The few signs the screen is drawn with, once for any terminal and once for ASCII only.

Each state has a sign of its own, so that the screen says the same without colour.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size

from obspool.units import printable
from obspool.words import WorkerState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Glyphs:
    """One set of signs.

    Attributes:
        levels: a sparkline's heights in one line, the lowest first.
        unknown: stands for a character that the terminal must not or can't show.
    """

    ascii_only: bool
    states: Mapping[WorkerState, str]
    levels: str
    full: str
    empty: str
    rule: str
    dot: str
    ellipsis: str
    up: str
    down: str
    alert: str
    unknown: str
    micro: str

    def printable(self, text: str) -> str:
        """Make text of others safe to print, in ASCII only where that is asked."""
        safe = printable(text, self.unknown)
        if not self.ascii_only or safe.isascii():
            return safe
        return "".join(letter if letter.isascii() else self.unknown for letter in safe)

    def fit(self, text: str, width: int) -> str:
        """Cut or fill `text` to `width` cells; what is cut is marked."""
        missing = width - cell_len(text)
        if missing >= 0:
            return text + " " * missing
        if width <= cell_len(self.ellipsis):
            return set_cell_size(text, width)
        return set_cell_size(text, width - cell_len(self.ellipsis)) + self.ellipsis

    def bar(self, share: float, width: int) -> tuple[str, str]:
        """Return the done and the open part of a progress bar of `width` cells."""
        done = round(min(1.0, max(0.0, share)) * width)
        return self.full * done, self.empty * (width - done)

    def sparkline(self, values: Sequence[float], lowest: float = 0.0, highest: float = 0.0) -> str:
        """Draw values in one line, one cell each; one above nothing is never drawn as nothing.

        Args:
            values: from left to right.
            lowest: what is drawn as nothing, so that small changes of large values show.
            highest: what is drawn as full, unless a value is higher.
        """
        high = max(highest, max(values, default=lowest)) - lowest
        steps = len(self.levels) - 1
        heights = [round((value - lowest) / high * steps) if high > 0 else 0 for value in values]
        pairs = zip(values, heights, strict=True)
        return "".join(self.levels[max(value > 0, height)] for value, height in pairs)


UNICODE = Glyphs(
    ascii_only=False,
    states={
        WorkerState.STARTING: "◐",
        WorkerState.IDLE: "○",
        WorkerState.BUSY: "●",
        WorkerState.DRAINING: "◒",
        WorkerState.GONE: "×",
    },
    levels=" ▁▂▃▄▅▆▇█",
    full="━",
    empty="─",
    rule="─",
    dot="·",
    ellipsis="…",
    up="▲",
    down="▼",
    alert="!",
    unknown="�",
    micro="µs",
)

ASCII = Glyphs(
    ascii_only=True,
    states={
        WorkerState.STARTING: "~",
        WorkerState.IDLE: "o",
        WorkerState.BUSY: "*",
        WorkerState.DRAINING: "v",
        WorkerState.GONE: "x",
    },
    levels=" .:-=+*#",
    full="#",
    empty="-",
    rule="-",
    dot="-",
    ellipsis="~",
    up="^",
    down="v",
    alert="!",
    unknown="?",
    micro="us",
)
