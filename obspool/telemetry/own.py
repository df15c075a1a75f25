"""Which segments this very process owns.

A process loses its record lock on a file when it closes *any* descriptor of it. So nothing in the
owner's process may open a segment by its path: it asks here first, and takes the object.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from obspool import _fork

if TYPE_CHECKING:
    from obspool.telemetry.segment import Segment

_segments: WeakValueDictionary[tuple[int, int], Segment] = WeakValueDictionary()


def add(segment: Segment) -> None:
    """Enter a segment whose lock this process has just taken."""
    _segments[_identity(os.fstat(segment.fd))] = segment


def remove(segment: Segment) -> None:
    """Forget a segment: its lock is released, or belongs to the parent of this forked child."""
    for identity, owned in list(_segments.items()):
        if owned is segment:
            del _segments[identity]


def find(status: os.stat_result) -> Segment | None:
    """Return this process's segment in the file with this status, None when it is another's."""
    _fork.settle()
    return _segments.get(_identity(status))


def segments() -> list[Segment]:
    """Return all segments that this process owns."""
    _fork.settle()
    return list(_segments.values())


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
