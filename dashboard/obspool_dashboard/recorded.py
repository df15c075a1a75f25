"""A source that plays back snapshots from memory, for tests, screenshots and measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from obspool.errors import ControlError
from obspool.telemetry.registry import Listing, PoolEntry, Skipped

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from obspool.telemetry.snapshot import Snapshot
    from obspool_dashboard.source import Request


class RecordedSource:
    """Pools by name, each a function that gives its snapshot of now.

    Attributes:
        pools_now: what is read; a function may raise what a reading may raise.
        sent: the commands that pools were told, in order.
        answer: what pools say to a command: a stack, usually nothing.
        before_send: called before a command arrives, as by a pool that takes its time.
        refusal: when set, pools refuse every command with this message.
        untouchable: why the pools' processes may not be ended; empty when they may.
        ended: the pids of those that were, with their workers'.
        skipped: the listing's notes on files that are no pools.
    """

    def __init__(self, **pools_now: Callable[[], Snapshot]) -> None:
        self.pools_now = dict(pools_now)
        self.sent: list[Request] = []
        self.answer = ""
        self.refusal: str | None = None
        self.before_send: Callable[[], object] = lambda: None
        self.untouchable = ""
        self.ended: list[tuple[int, tuple[int, ...]]] = []
        self.skipped: tuple[Skipped, ...] = ()

    def pools(self) -> Listing:
        """List the pools in memory."""
        entries = tuple(entry_of(read()) for read in self.pools_now.values())
        return Listing(entries=entries, skipped=self.skipped)

    def matching(self, text: str) -> Sequence[PoolEntry]:
        """Return the pools with this name or pid."""
        return [
            entry
            for entry in self.pools().entries
            if text in {entry.facts.name, str(entry.facts.pid)}
        ]

    def read(self, entry: PoolEntry) -> Snapshot:
        """Return the pool's snapshot of now."""
        return self.pools_now[entry.path]()

    def send(self, entry: PoolEntry, request: Request) -> str:
        """Remember the command."""
        del entry
        self.before_send()
        if self.refusal is not None:
            raise ControlError(self.refusal)
        self.sent.append(request)
        return self.answer

    def may_end(self, entry: PoolEntry) -> str:
        """Answer as the test wants."""
        del entry
        return self.untouchable

    def end(self, entry: PoolEntry, workers: Sequence[int]) -> str:
        """Remember whom."""
        self.ended.append((entry.facts.pid, tuple(workers)))
        return "ended by SIGTERM"


def entry_of(snapshot: Snapshot) -> PoolEntry:
    """Return the entry that a listing has for a pool in this state."""
    return PoolEntry(
        path=snapshot.facts.name,
        facts=snapshot.facts,
        alive=snapshot.alive,
        state=snapshot.state,
        outcome=snapshot.outcome,
        ended_time=snapshot.ended_time,
    )
