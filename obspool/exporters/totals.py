"""Running totals by pool name, over the runs of a batch job.

    run 1 ends ──> total ──┐
    run 2 ends ──> total ──┤
    run 3 lives ───────────┴──> counters: total + what it says now;  gauges: what it says now

A job of three seconds is born at its last values, which `increase()` never sees. Here its name
stays, with what all its runs have counted, and the next run makes it grow. When a name is new, a
scraper that has not met it gets zeros first: so the first run counts as well.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from obspool.exporters import readings
from obspool.exporters.collector import more_labels
from obspool.exporters.encoding import as_label
from obspool.exporters.family import POOL
from obspool.exporters.lines import LabelTexts, Lines
from obspool.telemetry.facts import with_suffix

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from obspool.exporters.family import PoolMetric
    from obspool.exporters.readings import Readings, Series
    from obspool.telemetry.watch import RunKey

    Metrics = Mapping[str, PoolMetric]
    Pairs = tuple[tuple[str, str], ...]

# Gauges that tell of a pool's past: they outlive the keep time, as an alert on a job that runs once
# a night asks for them all day.
LASTING: Final = frozenset({"pool_last_success_timestamp_seconds"})

# Names of pools without a live run, and samples of them, that are kept. Beyond, those whose last
# run ended first go: pools that are named after the moment must not fill the memory.
MAX_NAMES = 500
MAX_SAMPLES = 100_000

# The table's, and programs' own counters: their names are up to the programs.
MAX_METRICS = 1000


@dataclass
class PoolTotals:
    """What is known of a name.

    Attributes:
        name: as it is exported.
        uid: whose pools these are.
        created: when the first run began, in seconds of the UNIX epoch.
        born: when the name was met (CLOCK_MONOTONIC, seconds).
        is_fresh: whether the first run began while we looked, so that it was 0 then.
        base: the sums of the runs that ended, by the name of the metric.
        lasting: gauges that stay, the same.
        now: the last reading of the present run, or of the last one.
        is_live: whether there is a present run.
        ended: when the last run was seen to have ended (CLOCK_MONOTONIC).
    """

    name: str
    uid: int
    created: float
    born: float
    is_fresh: bool
    base: dict[str, Series] = field(default_factory=dict)
    lasting: dict[str, Series] = field(default_factory=dict)
    now: Readings | None = None
    is_live: bool = False
    ended: float = 0.0
    weight: int = 0
    _written: dict[tuple[bool, bool], dict[str, str]] = field(default_factory=dict)
    _lines: dict[tuple[str, bool, Pairs], Lines] = field(default_factory=dict)
    _texts: dict[tuple[tuple[str, ...], Pairs], LabelTexts] = field(default_factory=dict)

    def update(self, reading: Readings) -> None:
        """Take what the present run says."""
        self.now = reading
        self._keep_lasting(reading)
        self._written = {}

    def fold(self, metrics: Metrics, reading: Readings | None, ended: float, *, live: bool) -> None:
        """Add a run that has ended to the totals.

        Args:
            metrics: what they are, by name.
            reading: its last values; None: what it said before.
            ended: now (CLOCK_MONOTONIC).
            live: whether this is the present run, and no other.
        """
        last = self.now if reading is None and live else reading
        if last is not None:
            for name, series in last.series.items():
                if readings.is_total(metrics[name]):
                    self.base[name] = readings.add(self.base.get(name, {}), series)
            self._keep_lasting(last)
        if live or not self.is_live:
            self.now, self.is_live, self.ended = last or self.now, False, ended
        self.weight = sum(map(readings.weight, self.base.values()))
        self._written, self._lines, self._texts = {}, {}, {}

    def lines(
        self, metrics: Metrics, *, openmetrics: bool, gauges: bool, zero: bool
    ) -> dict[str, str]:
        """Return the samples as text, by the name of the metric.

        Args:
            metrics: what they are, by name.
            openmetrics: in which of the two formats.
            gauges: whether the last state is told.
            zero: whether the totals are those from before the first run.
        """
        if not gauges and not self.is_live and self.now is not None:
            self.now, self._written = None, {}  # nobody will ask for it again
        key = (openmetrics, gauges)
        if not zero and key in self._written:
            return self._written[key]
        blocks = {}
        for name, metric in metrics.items():
            series = self._series(metric, gauges=gauges)
            if not series:
                continue
            if zero and readings.is_total(metric):
                series = readings.zeros(series)
            blocks[name] = self._lines_of(metric, openmetrics=openmetrics).filled(series)
        if not self.is_live and not zero:  # it says the same until the next run
            self._written[key] = blocks
            self._lines, self._texts = {}, {}
        return blocks

    def _lines_of(self, metric: PoolMetric, *, openmetrics: bool) -> Lines:
        """Return a metric's lines as they were when it was last told."""
        more = self.now.more.get(metric.name, ()) if self.now is not None else ()
        lines = self._lines.get((metric.name, openmetrics, more))
        if lines is None:
            texts = self._texts.get((metric.labels, more))
            if texts is None:
                base = more_labels(metric, more) | {POOL: as_label(self.name)}
                texts = self._texts[metric.labels, more] = LabelTexts(metric.labels, base)
            # Since when is not told of workers' series, which would be as many again.
            tells = openmetrics and readings.is_total(metric) and "worker" not in metric.labels
            lines = Lines(metric, texts, self.created if tells else None)
            self._lines[metric.name, openmetrics, more] = lines
        return lines

    def _series(self, metric: PoolMetric, *, gauges: bool) -> Series:
        now = self.now.series.get(metric.name, {}) if self.now is not None else {}
        if readings.is_total(metric):
            base = self.base.get(metric.name, {})
            return readings.add(base, now) if self.is_live else base
        if metric.name in LASTING:
            return self.lasting.get(metric.name, {})
        return now if gauges or self.is_live else {}

    def _keep_lasting(self, reading: Readings) -> None:
        for name in LASTING:
            if series := reading.series.get(name):
                self.lasting[name] = series


class Totals:
    """All names.

    Attributes:
        metrics: what there is, by name.
        pools: by the name that is exported.
        forgotten: names that were given up, since the start.
    """

    def __init__(self, metrics: Iterable[PoolMetric]) -> None:
        self.metrics = {metric.name: metric for metric in metrics}
        self.pools: dict[str, PoolTotals] = {}
        self.forgotten = 0
        self._present: dict[RunKey, PoolTotals] = {}

    def learn(self, metrics: Iterable[PoolMetric]) -> list[PoolMetric]:
        """Take programs' own metrics in; return those that are served: not names without end."""
        return [
            self.metrics.setdefault(metric.name, metric)
            for metric in metrics
            if metric.name in self.metrics or len(self.metrics) < MAX_METRICS
        ]

    def of(self, key: RunKey) -> PoolTotals | None:
        """Return the name that a present run has."""
        return self._present.get(key)

    def begin(self, key: RunKey, start_time: float, now: float, *, is_fresh: bool) -> PoolTotals:
        """Give a run that lives its name: its own, unless another live one has it."""
        pool = self._named(key, start_time, now, is_fresh=is_fresh, live=True)
        pool.is_live, pool.now = True, None
        self._present[key] = pool
        return pool

    def update(self, key: RunKey, reading: Readings) -> None:
        """Take what a present run says."""
        self._present[key].update(reading)

    def end(
        self,
        key: RunKey,
        reading: Readings | None,
        start_time: float,
        now: float,
        *,
        is_fresh: bool,
    ) -> None:
        """Fold a run that has ended; it need not have been seen before."""
        pool = self._present.pop(key, None)
        live = pool is not None
        if pool is None:
            pool = self._named(key, start_time, now, is_fresh=is_fresh, live=False)
        pool.fold(self.metrics, reading, now, live=live)
        self._forget()

    def _named(
        self, key: RunKey, start_time: float, now: float, *, is_fresh: bool, live: bool
    ) -> PoolTotals:
        uid, wanted = key[0], key[-1]
        owner = self.pools.get(wanted)
        # Two users may well have a pool of one name; which of them is the plain one doesn't change.
        base = wanted if owner is None or owner.uid == uid else f"{wanted}@{uid}"
        for number in itertools.count(1):
            name = with_suffix(base, number)
            pool = self.pools.get(name)
            if pool is None:
                pool = PoolTotals(name, uid, start_time, now, is_fresh)
                self.pools[name] = pool
                return pool
            if pool.uid == uid and not (live and pool.is_live):
                return pool
        raise AssertionError("numbers don't end")  # for the type checker

    def _forget(self) -> None:
        """Give up names without a live run that are too many."""
        ended = [pool for pool in self.pools.values() if not pool.is_live]
        weight = sum(pool.weight for pool in ended)
        if len(ended) <= MAX_NAMES and weight <= MAX_SAMPLES:
            return
        ended.sort(key=lambda pool: pool.ended)
        for count, pool in enumerate(ended):
            if len(ended) - count <= MAX_NAMES and weight <= MAX_SAMPLES:
                return
            weight -= pool.weight
            del self.pools[pool.name]
            self.forgotten += 1
