"""A dashboard on a stage: a made-up pool, a clock that the test moves, and a screen to read."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

from textual import _wait

from obspool_dashboard.app import TopApp
from obspool_dashboard.recorded import RecordedSource, entry_of
from obspool_dashboard.screens.pool import PoolScreen
from obspool_dashboard.widgets.workers import WorkerTable
from tests.dashboard.film import snapshot_at
from tests.helpers import DEADLINE, ConditionNotMetError
from tests.synthetic import NOW

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from textual.pilot import Pilot

    from obspool.telemetry.snapshot import Snapshot

# For each key Pilot waits three times until the process has used next to no CPU for a while: with
# its 20 ms a tenth of a second a key. For what other threads do the tests wait anyway.
_wait.SLEEP_GRANULARITY = 0.005
_wait.SLEEP_IDLE = _wait.SLEEP_GRANULARITY / 20

# So long that the reader reads when the test lets it, and not by itself.
NEVER = 3600.0

Edit = "Callable[[Snapshot], Snapshot]"


class Stage:
    """One dashboard under test."""

    def __init__(
        self, workers: int = 8, *, film: Callable[[float], Snapshot] | None = None
    ) -> None:
        self.now = NOW - 60.0
        self.edit: Callable[[Snapshot], Snapshot] = lambda snapshot: snapshot
        self.film = film or (lambda seconds: snapshot_at(seconds, workers=workers))
        self.source = RecordedSource(nightly=self.read)
        self.app: TopApp
        self.pilot: Pilot[int]

    def read(self) -> Snapshot:
        """Return the snapshot of the stage's time."""
        return self.edit(self.film(self.now - NOW))

    @contextlib.asynccontextmanager
    async def open(
        self, size: tuple[int, int] = (120, 30), *, pick: bool = False, **options: Any
    ) -> AsyncIterator[Stage]:
        """Run the dashboard on the pool, or on the list, and wait until values show."""
        entry = None if pick else entry_of(self.read())
        self.app = TopApp(
            self.source, entry=entry, interval=NEVER, clock=lambda: self.now, **options
        )
        async with self.app.run_test(size=size, notifications=True) as self.pilot:
            if not pick:
                await self.until(lambda: self.screen.latest is not None or self.screen.failure)
            await self.pilot.pause()
            yield self

    @property
    def screen(self) -> PoolScreen:
        """The pool's screen."""
        (screen,) = [s for s in self.app.screen_stack if isinstance(s, PoolScreen)]
        return screen

    @property
    def table(self) -> WorkerTable:
        """The table of workers."""
        return self.screen.query_one(WorkerTable)

    @property
    def slots(self) -> list[int]:
        """The slots from top to bottom."""
        return [row.worker.slot for row in self.table.rows]

    @property
    def text(self) -> str:
        """All that stands on the screen."""
        strips = self.app.screen._compositor.render_strips()
        return "\n".join(strip.text for strip in strips)

    @property
    def grounds(self) -> set[str]:
        """The colours behind all that stands on the screen."""
        styles = [
            segment.style
            for strip in self.app.screen._compositor.render_strips()
            for segment in strip
        ]
        grounds = [style.bgcolor for style in styles if style is not None]
        return {"" if ground is None else ground.name for ground in grounds}

    @property
    def footer(self) -> str:
        """The keys that are offered."""
        return self.text.splitlines()[-1]

    async def step(self, seconds: float = 1.0) -> None:
        """Let time pass and the reader read once."""
        self.now += seconds
        await self.read_again()

    async def read_again(self) -> None:
        """Let the reader read, and wait until the screen has taken it."""
        taken = self.screen.readings
        self.screen.reader.now()
        await self.until(lambda: self.screen.readings > taken)
        await self.pilot.pause()

    async def press(self, *keys: str) -> None:
        """Press keys, one after the other, and wait until each has worked."""
        for key in keys:
            await self.pilot.press(key)
            await self.pilot.pause()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until something is so."""
        end = time.monotonic() + DEADLINE
        while not condition():
            if time.monotonic() > end:
                raise ConditionNotMetError(
                    f"not so within {DEADLINE:g} s; the screen:\n{self.text}"
                )
            await asyncio.sleep(0.002)
            await self.pilot.pause()
