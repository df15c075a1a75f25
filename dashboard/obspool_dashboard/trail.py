"""What a worker's memory, CPU and throughput were since the dashboard looks: bounded curves."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from obspool.telemetry.snapshot import Snapshot
    from obspool_dashboard.history import Rates

# Points of a curve. When there are so many, neighbours become one: the curve always spans the whole
# time, ever coarser, and never grows. Even, so that pairs come out even.
MOST_POINTS = 240


class Curve:
    """Values in the order they came, in at most MOST_POINTS means."""

    __slots__ = ("_count", "_per_point", "_sum", "points")

    def __init__(self) -> None:
        self.points: list[float] = []
        self._per_point = 1
        self._sum = 0.0
        self._count = 0

    def add(self, value: float) -> None:
        """Add a value."""
        self._sum += value
        self._count += 1
        if self._count < self._per_point:
            return
        self.points.append(self._sum / self._count)
        self._sum, self._count = 0.0, 0
        if len(self.points) >= MOST_POINTS:
            pairs = zip(self.points[::2], self.points[1::2], strict=True)
            self.points = [(a + b) / 2 for a, b in pairs]
            self._per_point *= 2


@dataclass(frozen=True, slots=True)
class Trail:
    """One slot's curves, from `since` on, through all its generations."""

    since: float
    memory: tuple[float, ...] = ()
    cpu: tuple[float, ...] = ()
    busy: tuple[float, ...] = ()
    items: tuple[float, ...] = ()


NO_TRAIL = Trail(0.0)


class _Curves:
    __slots__ = ("busy", "cpu", "items", "memory", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        self.memory, self.cpu, self.busy, self.items = Curve(), Curve(), Curve(), Curve()


class Trails:
    """The curves of all slots of a pool; a slot that a resize removed is forgotten."""

    def __init__(self) -> None:
        self._slots: dict[int, _Curves] = {}

    def add(self, snapshot: Snapshot, rates: Rates) -> None:
        """Take in a reading and the rates up to it."""
        present = snapshot.present_workers
        self._forget_others(worker.slot for worker in present)
        for worker in present:
            curves = self._slots.get(worker.slot)
            if curves is None:
                curves = self._slots[worker.slot] = _Curves(snapshot.time)
            if worker.resident_memory:
                curves.memory.add(worker.resident_memory)
            lately = rates.workers.get(worker.slot)
            # A slot without a process did nothing; before the second reading nothing is known.
            if lately is not None:
                curves.cpu.add(lately.cpu or 0.0)
                curves.busy.add(lately.busy or 0.0)
                curves.items.add(lately.items or 0.0)

    def of(self, slot: int) -> Trail:
        """Return a slot's curves as they are now."""
        curves = self._slots.get(slot)
        if curves is None:
            return NO_TRAIL
        return Trail(
            since=curves.since,
            memory=tuple(curves.memory.points),
            cpu=tuple(curves.cpu.points),
            busy=tuple(curves.busy.points),
            items=tuple(curves.items.points),
        )

    def _forget_others(self, slots: Iterable[int]) -> None:
        for gone in self._slots.keys() - set(slots):
            del self._slots[gone]


def fitted(points: tuple[float, ...], width: int) -> tuple[float, ...]:
    """Return the points as at most `width` means, so that the whole curve fits."""
    if len(points) <= width or width < 1:
        return points[-width:] if width > 0 else ()
    edges = [round(i * len(points) / width) for i in range(width + 1)]
    parts = (points[a:b] for a, b in pairwise(edges))
    return tuple(sum(part) / len(part) for part in parts)
