"""Pools for a host exporter: segments of runs, live and ended."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from obspool.telemetry.segment import Segment
from obspool.words import PoolOutcome
from tests.exporters.samples import key, series_of
from tests.synthetic import make_snapshot
from tests.synthetic_segment import fill

if TYPE_CHECKING:
    from obspool.exporters.host import Host
    from obspool.telemetry.snapshot import Snapshot
    from tests.exporters.samples import Series

_start = itertools.count()


def shown(name: str = "nightly", workers: int = 2, *, seed: int = 0, age: float = 0.0) -> Snapshot:
    """Return what a run shows that began `age` seconds ago; two are never the same run."""
    # make_snapshot's pools are 2,537 s old.
    now = time.time() + 2537.0 - age + next(_start) * 1e-3
    return make_snapshot(workers, name=name, now=now, seed=seed)


class LivePool:
    """A segment of this process, which lives until `end`."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.segment = Segment.create(snapshot.facts, len(snapshot.workers))
        self.show(snapshot)

    def show(self, snapshot: Snapshot) -> None:
        """Show other numbers."""
        self.snapshot = snapshot
        fill(self.segment.cells, self.segment.layout, snapshot)

    def end(self, outcome: PoolOutcome = PoolOutcome.FINISHED) -> None:
        """End it with the numbers that it shows."""
        self.segment.close(outcome)


def run_pool(snapshot: Snapshot | None = None) -> Snapshot:
    """Have a pool live and end between two looks; return what it showed last."""
    pool = LivePool(snapshot or shown())
    pool.end()
    return pool.snapshot


def series(host: Host, *, openmetrics: bool = False, scraper: str | None = None) -> Series:
    """Return all samples that a host tells, read by the client's parser; none is there twice."""
    text = host.text(openmetrics=openmetrics, scraper=scraper)[0].decode()
    return series_of((read_openmetrics if openmetrics else read_text)(text))


def value(found: Series, name: str, **labels: str) -> float:
    """Return a sample's value."""
    return found[key(name, labels)]
