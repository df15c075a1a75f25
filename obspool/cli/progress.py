"""How far the demo is: tqdm's bar where there is tqdm and a terminal, else a plain line."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Never, Protocol

from obspool import units

if TYPE_CHECKING:
    from tqdm import tqdm

_REDRAW = 0.2  # seconds between two drawings on a terminal
_LINE = 5.0  # seconds between two lines elsewhere


class Progress(Protocol):
    """Shows rounds over the same number of items."""

    def advance(self) -> None:
        """Count one more item."""

    def close(self) -> None:
        """Leave the last state to be seen, and the cursor on a new line."""


class Silent:
    """Shows nothing."""

    def advance(self) -> None:
        """Count nothing."""

    def close(self) -> None:
        """Do nothing."""


def progress(total: int) -> Progress:
    """Return what shows rounds of `total` items best on standard error."""
    if not sys.stderr.isatty():
        return _Plain(total, _LINE, "", "\n")
    try:
        return _Bar(total)
    except ImportError:
        return _Plain(total, _REDRAW, "\r", "")


class _Bar:
    """tqdm's."""

    def __init__(self, total: int) -> None:
        from tqdm import tqdm  # noqa: PLC0415 - of the extra `progress`

        # Its default lock is one between processes, with a helper process of its own; its monitor
        # is a thread. A bar that one thread draws needs neither.
        tqdm.set_lock(threading.RLock())
        tqdm.monitor_interval = 0
        self._round = 1
        self._bar: tqdm[Never] = tqdm(
            total=total, desc="round 1", unit=" files", mininterval=_REDRAW, dynamic_ncols=True
        )

    def advance(self) -> None:
        if self._bar.total == self._bar.n:
            self._round += 1
            self._bar.reset()
            self._bar.set_description(f"round {self._round}", refresh=False)
        self._bar.update()

    def close(self) -> None:
        self._bar.close()


class _Plain:
    """A line that is written over on a terminal, and a line now and then elsewhere."""

    def __init__(self, total: int, interval: float, before: str, after: str) -> None:
        self._total = total
        self._interval = interval
        self._before = before
        self._after = after
        self._done = 0
        self._started = self._shown = time.monotonic()

    def advance(self) -> None:
        self._done += 1
        if time.monotonic() - self._shown >= self._interval:
            self._show()

    def close(self) -> None:
        self._show()
        if not self._after:
            print(file=sys.stderr)

    def _show(self) -> None:
        now = self._shown = time.monotonic()
        rounds, before = divmod(max(0, self._done - 1), self._total)
        done = before + 1 if self._done else 0
        rate = units.rate(self._done / max(1e-9, now - self._started))
        line = f"round {rounds + 1}: {done:,} of {self._total:,} files, {rate}/s"
        print(f"{self._before}{line:50}".rstrip(), end=self._after, file=sys.stderr, flush=True)
