"""What a metric is, and the ways to read one from a snapshot; the table is made of these.

A `Read` yields, for a snapshot, the label values and the value of each of the metric's series. A
gauge of something that isn't there now is absent, never 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from obspool.words import WorkerState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from obspool.telemetry.snapshot import Histogram, Snapshot, WorkerSnapshot

PREFIX = "obspool_"

# The label of every series but the exporter's own.
POOL = "pool"


class MetricType(StrEnum):
    """A metric's type, as the exposition formats call it."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    SUMMARY = "summary"


Value: TypeAlias = "float | Histogram"
Reading: TypeAlias = "tuple[tuple[str, ...], Value]"
Read: TypeAlias = "Callable[[Snapshot], Iterable[Reading]]"

Key = TypeVar("Key", bound=str)


@dataclass(frozen=True, slots=True)
class Family:
    """What a metric is, apart from its values.

    Attributes:
        name: without the prefix; a counter's ends in `_total`.
        labels: besides `pool`.
        help: the HELP line: one sentence or two, with the unit's meaning where it isn't plain.
    """

    name: str
    type: MetricType
    labels: tuple[str, ...]
    help: str

    @property
    def full_name(self) -> str:
        """The name as a query writes it."""
        return PREFIX + self.name


@dataclass(frozen=True, slots=True)
class PoolMetric(Family):
    """A metric that is read from snapshots.

    Attributes:
        read: yields the label values, in the order of `labels`, and the value.
        more_labels: further labels that only the snapshot knows, the same for all its series.
    """

    read: Read
    more_labels: Callable[[Snapshot], Iterable[tuple[str, str]]] | None = None


def value(get: Callable[[Snapshot], Value | None]) -> Read:
    """One series, absent while `get` says None."""

    def read(snapshot: Snapshot) -> Iterable[Reading]:
        found = get(snapshot)
        return () if found is None else (((), found),)

    return read


def by(get: Callable[[Snapshot], Mapping[Key, float]], keys: Iterable[Key]) -> Read:
    """One series for each key, 0 where the mapping doesn't have it."""
    cells = tuple((key, (str(key),)) for key in keys)

    def read(snapshot: Snapshot) -> Iterable[Reading]:
        values = get(snapshot)
        return [(labels, values.get(key, 0)) for key, labels in cells]

    return read


def one_hot(get: Callable[[Snapshot], str | None], keys: Iterable[str]) -> Read:
    """One series for each key: 1 for the one that holds, 0 for the others."""
    cells = tuple((key, (str(key),)) for key in keys)

    def read(snapshot: Snapshot) -> Iterable[Reading]:
        now = get(snapshot)
        return [(labels, int(key == now)) for key, labels in cells]

    return read


def worker(get: Callable[[WorkerSnapshot], Value | None]) -> Read:
    """One series for each slot, absent where `get` says None."""

    def read(snapshot: Snapshot) -> Iterable[Reading]:
        for one in snapshot.workers:
            found = get(one)
            if found is not None:
                yield (str(one.slot),), found

    return read


def process(get: Callable[[WorkerSnapshot], float | None]) -> Read:
    """One series for each slot that has a process now."""
    return worker(lambda one: None if one.state == WorkerState.GONE else get(one))


def worker_by(get: Callable[[WorkerSnapshot], Mapping[Key, int]], keys: Iterable[Key]) -> Read:
    """One series for each slot and key."""
    cells = tuple((key, str(key)) for key in keys)

    def read(snapshot: Snapshot) -> Iterable[Reading]:
        for one in snapshot.workers:
            values = get(one)
            slot = str(one.slot)
            for key, label in cells:
                yield (slot, label), values.get(key, 0)

    return read
