"""Where the screens get pools and snapshots from, and where they send commands to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from obspool.control.protocol import Command, Request
from obspool.telemetry import registry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from obspool.telemetry.registry import Listing, PoolEntry
    from obspool.telemetry.snapshot import Snapshot


__all__ = ["Command", "LiveSource", "Request", "Source"]


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

    def send(self, entry: PoolEntry, request: Request) -> str:
        """Tell a pool what to do, and return the text that was asked for (a stack).

        Raises:
            ControlError: it did not do it; the message says why.
        """
        ...

    def may_end(self, entry: PoolEntry) -> str:
        """Say why the pool's process may not be ended by signals; empty when it may.

        Called in the screen's thread: it answers at once.
        """
        ...

    def end(self, entry: PoolEntry, workers: Sequence[int]) -> str:
        """End the pool's process and these workers of its by signals, and say what it took.

        Raises:
            ControlError: it could not be done; the message says why.
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

    def send(self, entry: PoolEntry, request: Request) -> str:
        """Send a command over the pool's control socket."""
        # Sockets, JSON: nothing that the first frame should wait for.
        from obspool.control import client  # noqa: PLC0415

        return client.send(entry.facts, request.command, request.arguments)

    def may_end(self, entry: PoolEntry) -> str:
        """Look whose process it is, and in which namespace."""
        # Hardly ever needed, and psutil, which it imports, would delay the first frame.
        from obspool_dashboard.ending import refusal  # noqa: PLC0415

        return refusal(entry.facts)

    def end(self, entry: PoolEntry, workers: Sequence[int]) -> str:
        """Send the signals."""
        from obspool_dashboard.ending import end_processes  # noqa: PLC0415 - as above

        return end_processes(entry.facts, workers)
