"""Pools for a host exporter: segments of runs, live and ended."""

from __future__ import annotations

import itertools
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from obspool.telemetry.segment import Segment
from obspool.words import PoolOutcome
from tests.cli.environment import environment
from tests.exporters.samples import key, series_of
from tests.helpers import poll
from tests.synthetic import make_snapshot
from tests.synthetic_segment import fill

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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


class Exporter:
    """`obspool exporter` as a process of its own."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def log(self) -> str:
        """What it has said so far."""
        return self._log.read_text(encoding="utf-8")

    @property
    def url(self) -> str:
        """Where it serves, once it does."""
        return poll(lambda: self._served() or self._ended(), deadline=30, message=lambda: self.log)

    def _served(self) -> str:
        found = re.search(r"served at (\S+)", self.log)
        return found[1] if found else ""

    def _ended(self) -> str:
        assert self.process.poll() is None, self.log
        return ""

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it by a signal, and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=20)


@contextmanager
def exporter(
    log: Path, *options: str, listen: str | None = "0", **variables: str
) -> Iterator[Exporter]:
    """Run the host exporter while the `with` lasts, by default on a free port."""
    where = [] if listen is None else ["--listen", listen]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "obspool", "exporter", *where, *options],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment(**variables),
        )
    try:
        yield Exporter(process, log)
    finally:
        process.kill()
        process.wait()
