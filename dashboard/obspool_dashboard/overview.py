"""All pools of the host at once: a frame for each that lives, with a history of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from obspool.errors import SegmentError
from obspool_dashboard.frame import Frame, next_frame
from obspool_dashboard.history import History

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from obspool.telemetry.registry import Listing, PoolEntry
    from obspool_dashboard.source import Source

# What one look reads: of a host with more pools, the others are listed without numbers.
MOST_POOLS = 64


@dataclass(frozen=True)
class Overview:
    """What one look found.

    Attributes:
        entries: the pools to list.
        frames: by the path of their entry; without those that couldn't be read just now.
    """

    listing: Listing
    entries: Sequence[PoolEntry]
    frames: Mapping[str, Frame]


class Watch:
    """Looks at all pools again and again; what it remembers goes with the pools."""

    def __init__(self, source: Source, target: str | None) -> None:
        """Prepare to list all pools, or those that `target` names."""
        self._source = source
        self._target = target
        self._histories: dict[str, History] = {}

    def look(self) -> Overview:
        """List the pools, and read those that live."""
        listing = self._source.pools()
        entries = listing.entries
        if self._target is not None:
            entries = tuple(self._source.matching(self._target))
        frames: dict[str, Frame] = {}
        for entry in [entry for entry in entries if entry.alive][:MOST_POOLS]:
            frame = self._read(entry)
            if frame is not None:
                frames[entry.path] = frame
        for gone in self._histories.keys() - frames.keys():
            del self._histories[gone]
        return Overview(listing, entries, frames)

    def _read(self, entry: PoolEntry) -> Frame | None:
        try:
            snapshot = self._source.read(entry)
        except (OSError, SegmentError):
            return None  # it went since it was listed; the next listing tells
        return next_frame(self._histories.setdefault(entry.path, History()), snapshot)
