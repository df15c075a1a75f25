"""All pools of the host as one text: what `obspool exporter` serves, and writes for node_exporter.

    Watch ── what began, what ended ──> Totals ──┐
                                                 ├──> text, in either format
    its own counts ──────────────────────────────┘

Two threads use it: one that looks every half a second, and the server's. A look while an answer is
made waits for it.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from prometheus_client import ProcessCollector
from prometheus_client.core import Metric, Sample

from obspool.errors import SegmentError
from obspool.exporters import encoding, host_metrics, readings
from obspool.exporters.collector import HISTOGRAMS_VARIABLE, Problem
from obspool.exporters.table import EXPORTER_ERRORS, pool_metrics, user_metrics
from obspool.exporters.totals import Totals
from obspool.telemetry.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from obspool.exporters.family import Family
    from obspool.exporters.totals import PoolTotals
    from obspool.telemetry.snapshot import Snapshot
    from obspool.telemetry.watch import Run, RunKey

# Looking through /proc: pools without a file in a directory are rare, and live long.
WIDE_SECONDS = 10.0

# Who has asked lately: a scraper that hasn't for so long starts anew.
MAX_SCRAPERS = 64
# A scraper that is new may have met all names but those of the last minutes, from before a restart
# of its own: Prometheus takes a series for gone after five.
STALE_SECONDS = 300.0

_Word = TypeVar("_Word", bound=str)

_log = logging.getLogger("obspool")


@dataclass
class _Timing:
    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        self.count += 1
        self.seconds += seconds


class Host:
    """The pools of a host, and what has been counted under their names.

    Attributes:
        totals: all names.
        watch: what is looked at.
        runs: how many runs were seen.
        changes: how many were folded into the totals.
        lock: held by who looks, and by who makes an answer.
    """

    def __init__(self, keep: float, *, own_process: bool = True) -> None:
        """Start with nothing seen.

        Args:
            keep: how long the last state of an ended pool is told (seconds).
            own_process: whether the text has this process's CPU and memory as well.
        """
        histograms = os.environ.get(HISTOGRAMS_VARIABLE, "") == "1"
        self._table = pool_metrics(worker_histograms=histograms)
        self.totals = Totals(self._table)
        self.watch = Watch()
        self.runs = 0
        self.changes = 0
        self._keep = keep
        self._process = ProcessCollector(registry=None) if own_process else None
        self._problems = dict.fromkeys(Problem, 0)
        self._looks, self._scrapes = _Timing(), _Timing()
        self._started = time.time()
        self._wide_at = 0.0
        self._scrapers: OrderedDict[str, float] = OrderedDict()
        self.lock = threading.RLock()

    def restore(self, totals: Iterable[PoolTotals], done: Iterable[RunKey]) -> None:
        """Go on from what was saved; before the first look."""
        self.totals.pools.update((pool.name, pool) for pool in totals)
        self.watch = Watch(done)

    def look(self) -> int:
        """See what has begun and ended since the last look; return how many runs were new."""
        with self.lock:
            runs = self.runs
            self._look(time.monotonic())
            return self.runs - runs

    def count(self, problem: Problem) -> None:
        """Count something that could not be served."""
        with self.lock:
            self._problems[problem] += 1
        _log.debug("metrics: %s", problem, exc_info=True)

    def text(
        self, *, openmetrics: bool, names: Collection[str] = (), scraper: str | None = None
    ) -> tuple[bytes, bool]:
        """Return what there is to tell now, and whether it is the same for all scrapers.

        Args:
            openmetrics: in which format.
            names: the only samples that are wanted; empty: all.
            scraper: who stores it, as far as that can be told. A name of which it knows nothing yet
                is at zero for it; None: all names are as they are.
        """
        with self.lock:
            begin = time.monotonic()
            self._look(begin)
            self._read()
            new = self._new_to(scraper)
            found = self._text(openmetrics, names, new)
            if scraper is not None:
                self._met(scraper)
            self._scrapes.add(time.monotonic() - begin)
            return found, not new

    def is_anything_new_to(self, scraper: str | None) -> bool:
        """Tell whether there are names of which a scraper knows nothing yet."""
        with self.lock:
            return bool(self._new_to(scraper))

    def close(self) -> None:
        """Let go of all segments."""
        with self.lock:
            self.watch.close()

    # -- looking

    def _look(self, now: float) -> None:
        wide = now >= self._wide_at
        if wide:
            self._wide_at = now + WIDE_SECONDS
        look = self.watch.look(wide=wide)
        for ended in look.ended:
            self._end(ended.run, ended.snapshot)
        for run in look.begun:
            self.runs += 1
            self.totals.begin(
                run.key, run.facts.start_time, now, is_fresh=self._is_fresh(run.facts.start_time)
            )
        self._looks.add(time.monotonic() - now)

    def _end(self, run: Run, snapshot: Snapshot | None) -> None:
        if self.totals.of(run.key) is None:
            self.runs += 1
        reading = None
        if snapshot is None:
            self._problems[Problem.SOURCE] += 1
        else:
            reading = self._reading(snapshot)
        start = run.facts.start_time
        self.totals.end(run.key, reading, start, time.monotonic(), is_fresh=self._is_fresh(start))
        self.changes += 1

    def _is_fresh(self, start_time: float) -> bool:
        # A pool that has run for a day when it is first met (its directory was closed to us) would
        # have its day's work in one scrape interval.
        return start_time >= self._started

    def _read(self) -> None:
        for run in list(self.watch.runs.values()):
            try:
                snapshot = run.read()
            except (OSError, SegmentError):
                self.count(Problem.SOURCE)  # what it said before is told again
                continue
            if not snapshot.alive:
                ended = self.watch.end(run)
                self._end(ended.run, ended.snapshot)
            elif (reading := self._reading(snapshot)) is not None:
                self.totals.update(run.key, reading)

    def _reading(self, snapshot: Snapshot) -> readings.Readings | None:
        try:
            own = self.totals.learn(user_metrics(snapshot))
            return readings.read((*self._table, *own), snapshot)
        except Exception:  # noqa: BLE001 - counted: a pool's trouble must not take the others away
            self.count(Problem.SNAPSHOT)
            return None

    # -- telling

    def _new_to(self, scraper: str | None) -> set[str]:
        """Return the names that a scraper hasn't met."""
        if scraper is None:
            return set()
        last = max(self._scrapers.get(scraper, 0.0), time.monotonic() - STALE_SECONDS)
        return {
            pool.name for pool in self.totals.pools.values() if pool.is_fresh and pool.born > last
        }

    def _met(self, scraper: str) -> None:
        self._scrapers.pop(scraper, None)
        self._scrapers[scraper] = time.monotonic()
        while len(self._scrapers) > MAX_SCRAPERS:
            self._scrapers.popitem(last=False)

    def _text(self, openmetrics: bool, names: Collection[str], new: set[str]) -> bytes:
        oldest = time.monotonic() - self._keep
        metrics = self.totals.metrics
        columns: dict[str, list[str]] = {name: [] for name in metrics}
        states = {"running": 0, "ended": 0, "past": 0}
        for pool in list(self.totals.pools.values()):
            recent = pool.is_live or pool.ended >= oldest
            states["running" if pool.is_live else "ended" if recent else "past"] += 1
            try:
                blocks = pool.lines(
                    metrics, openmetrics=openmetrics, gauges=recent, zero=pool.name in new
                )
            except Exception:  # noqa: BLE001 - counted, for the same reason
                self.count(Problem.SNAPSHOT)
                continue
            for name, block in blocks.items():
                columns[name].append(block)
        parts: list[str] = []
        for name, column in columns.items():
            samples = _chosen("".join(column), names)
            if samples:
                parts += encoding.head(_family(metrics[name]), openmetrics=openmetrics), samples
        for family in self._own(states):
            held = [sample for sample in family.samples if not names or sample.name in names]
            if held:
                parts.append(encoding.head(family, openmetrics=openmetrics))
                parts += encoding.sample_lines(held, {})
        if openmetrics:
            parts.append(encoding.END)
        return "".join(parts).encode()

    def _own(self, states: dict[str, int]) -> Iterable[Metric]:
        own = host_metrics
        yield _labelled(own.POOLS, states)
        yield _labelled(own.SKIPPED, self.watch.skipped())
        yield _labelled(EXPORTER_ERRORS, self._problems)
        for family, value in (own.RUNS, self.runs), (own.FORGOTTEN, self.totals.forgotten):
            made = _family(family)
            made.samples.append(Sample(family.full_name, {}, value))
            yield made
        for family, timing in (own.LOOK, self._looks), (own.SCRAPE, self._scrapes):
            made = _family(family)
            name = family.full_name
            made.samples += (
                Sample(f"{name}_count", {}, timing.count),
                Sample(f"{name}_sum", {}, timing.seconds),
            )
            yield made
        if self._process is not None:
            yield from self._process.collect()


def _family(family: Family) -> Metric:
    return Metric(family.full_name.removesuffix("_total"), family.help, family.type.value)


def _labelled(family: Family, values: Mapping[_Word, int]) -> Metric:
    (label,) = family.labels
    made = _family(family)
    made.samples += [
        Sample(family.full_name, {label: str(key)}, value) for key, value in values.items()
    ]
    return made


def _chosen(lines: str, names: Collection[str]) -> str:
    if not names:
        return lines
    kept = [line for line in lines.split("\n") if line.partition("{")[0] in names]
    return "".join(f"{line}\n" for line in kept)
