"""Where the screens get pools and snapshots from, and where they send commands to."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from obspool.control import client
from obspool.telemetry import registry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from obspool.telemetry.registry import Listing, PoolEntry
    from obspool.telemetry.snapshot import Snapshot


class Command(StrEnum):
    """What a pool can be told to do from the screen."""

    CLOSE = "close"
    TERMINATE = "terminate"


class Source(Protocol):
    """Pools to look at.

    All methods are called in other threads than the screen's: a target that doesn't answer stops
    its reader, never the screen.
    """

    def pools(self) -> Listing:
        """List the pools of this host, ended ones too, and the files that are none."""
        ...

    def matching(self, text: str) -> Sequence[PoolEntry]:
        """Return the pools that a name or a pid means: live ones, or ended ones if none lives."""
        ...

    def read(self, entry: PoolEntry) -> Snapshot:
        """Read a pool.

        Raises:
            SegmentError: what is there can't be read by this version.
            OSError: nothing is there any more.
        """
        ...

    def send(self, entry: PoolEntry, command: Command) -> None:
        """Tell a pool what to do.

        Raises:
            ControlError: it did not do it; the message says why.
        """
        ...


class LiveSource:
    """The pools of this host, as their segments tell."""

    def pools(self) -> Listing:
        """List the pools of this host."""
        return registry.list_pools()

    def matching(self, text: str) -> Sequence[PoolEntry]:
        """Return the pools that a name or a pid means."""
        return registry.matches(text)

    def read(self, entry: PoolEntry) -> Snapshot:
        """Read a pool's segment."""
        return registry.read(entry)

    def send(self, entry: PoolEntry, command: Command) -> None:
        """Send a command over the pool's control socket."""
        client.send(entry.facts, command)
