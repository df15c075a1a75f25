"""A prometheus_client collector over snapshots: all families of the table, read at scrape time.

prometheus_client's own metric objects cost the hot path 270 to 590 ns an update and a scrape twice
the time; here nothing happens between scrapes. A snapshot enters whole or not at all: one that
can't be read is counted in `obspool_exporter_errors_total`, and the others are served.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from enum import StrEnum
from itertools import accumulate
from typing import TYPE_CHECKING, TypeAlias

from prometheus_client.core import Metric, Sample
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from obspool import _fork
from obspool.exporters.encoding import as_label
from obspool.exporters.family import POOL, PREFIX, MetricType
from obspool.exporters.table import EXPORTER_ERRORS, pool_metrics, user_metrics
from obspool.telemetry.snapshot import Histogram

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from obspool.exporters.family import Family, PoolMetric, Reading
    from obspool.telemetry.snapshot import Snapshot

HISTOGRAMS_VARIABLE = "OBSPOOL_WORKER_HISTOGRAMS"

# Label dictionaries that samples share: a slot has the same one in all families `by worker`.
SharedLabels: TypeAlias = dict[tuple[tuple[str, ...], tuple[str, ...]], dict[str, str]]

_START_TIME = f"{PREFIX}pool_start_time_seconds"

_log = logging.getLogger("obspool")

_NOT_IN_LABEL_NAMES = re.compile(r"[^a-zA-Z0-9_]")

# What a scrape or the format itself sets; a pool's own label of this name would replace it.
_RESERVED_LABELS = frozenset({"job", "instance", "le", "quantile", POOL})


class Problem(StrEnum):
    """What could not be served; the label `reason` of obspool_exporter_errors_total."""

    SOURCE = "source"
    SNAPSHOT = "snapshot"
    DUPLICATE = "duplicate"
    RESPONSE = "response"


class SnapshotCollector(Collector):
    """Turns the snapshots of the moment into prometheus_client's metric families."""

    def __init__(
        self,
        source: Callable[[], Iterable[Snapshot]],
        *,
        worker_histograms: bool | None = None,
    ) -> None:
        """Make a collector; nothing is read before `collect()`.

        Args:
            source: called at each scrape; it may yield lazily, and raise.
            worker_histograms: whether workers have full histograms of run times (pools of up to 64
                slots); by default what OBSPOOL_WORKER_HISTOGRAMS=1 says.
        """
        if worker_histograms is None:
            worker_histograms = os.environ.get(HISTOGRAMS_VARIABLE, "") == "1"
        self._source = source
        self._metrics = pool_metrics(worker_histograms=worker_histograms)
        self._problems = dict.fromkeys(Problem, 0)
        # Reentrant, because a pool collected as garbage at any allocation may count a problem.
        self._lock = threading.RLock()

    def describe(self) -> Iterator[Metric]:
        """Yield all families without samples, so that registering reads no snapshot."""
        for family in (*self._metrics, EXPORTER_ERRORS):
            yield _family(family)

    def collect(self) -> Iterator[Metric]:
        """Yield the families that have samples, each with those of all pools; never raises."""
        _fork.settle()
        families = {metric.name: _family(metric) for metric in self._metrics}
        seen: set[str] = set()
        for snapshot in self._snapshots():
            for metric, samples in self._enter(snapshot, seen):
                if metric.name not in families:  # a program's own
                    families[metric.name] = _family(metric)
                families[metric.name].samples.extend(samples)
        yield from (family for family in families.values() if family.samples)
        yield self._own()

    def count(self, problem: Problem) -> None:
        """Count something that could not be served."""
        with self._lock:
            self._problems[problem] += 1

    def after_fork_in_child(self) -> None:
        """Forget the lock, which another thread of the parent may have held."""
        self._lock = threading.RLock()

    def _snapshots(self) -> Iterator[Snapshot]:
        try:
            yield from self._source()
        except Exception:  # noqa: BLE001 - counted: a pool's trouble must not take the others away
            self._trouble(Problem.SOURCE, "a pool's telemetry could not be read")

    def _enter(self, snapshot: Snapshot, seen: set[str]) -> list[tuple[PoolMetric, list[Sample]]]:
        """Return the snapshot's samples for each metric, none when it can't be served."""
        try:
            pool = as_label(snapshot.facts.name)
            if pool in seen:
                self.count(Problem.DUPLICATE)
                return []
            shared: SharedLabels = {}
            samples = [
                (metric, _samples(metric, snapshot, pool, shared))
                for metric in (*self._metrics, *user_metrics(snapshot))
            ]
        except Exception:  # noqa: BLE001 - counted, for the same reason
            self._trouble(Problem.SNAPSHOT, "a snapshot could not be served")
            return []
        seen.add(pool)
        return samples

    def _trouble(self, problem: Problem, what: str) -> None:
        self.count(problem)
        _log.debug("metrics: %s", what, exc_info=True)

    def _own(self) -> Metric:
        family = _family(EXPORTER_ERRORS)
        name = EXPORTER_ERRORS.full_name
        (label,) = EXPORTER_ERRORS.labels
        with self._lock:
            problems = list(self._problems.items())
        family.samples += [Sample(name, {label: str(key)}, count) for key, count in problems]
        return family


def _family(family: Family) -> Metric:
    return Metric(family.full_name.removesuffix("_total"), family.help, family.type.value)


def start_times(families: Iterable[Metric]) -> Callable[[Mapping[str, str]], float | None]:
    """Return what tells, by the labels of a series, when its pool was made.

    Not of a worker's series: that would be as much again.
    """
    starts = {
        sample.labels[POOL]: sample.value
        for family in families
        if family.name == _START_TIME
        for sample in family.samples
    }
    return lambda labels: None if "worker" in labels else starts.get(labels.get(POOL, ""))


def _samples(
    metric: PoolMetric, snapshot: Snapshot, pool: str, shared: SharedLabels
) -> list[Sample]:
    """Read one metric from one snapshot."""
    base = {POOL: pool}
    if metric.more_labels is not None:
        base = more_labels(metric, metric.more_labels(snapshot)) | base
        shared = {}
    return samples_of(metric, metric.read(snapshot), base, shared)


def samples_of(
    metric: PoolMetric, readings: Iterable[Reading], base: dict[str, str], shared: SharedLabels
) -> list[Sample]:
    """Return the samples of a metric's readings.

    Args:
        metric: which one.
        readings: label values and value of each series.
        base: the labels that all of them have.
        shared: label dictionaries of metrics with the same base; new ones are added.
    """
    name = metric.full_name
    names = metric.labels
    samples: list[Sample] = []
    for values, value in readings:
        labels = shared.get((names, values))
        if labels is None:
            texts = zip(names, map(as_label, values), strict=True)
            labels = shared[names, values] = {**base, **dict(texts)}
        if isinstance(value, Histogram):
            samples += _distribution(metric.type, name, labels, value)
        else:
            samples.append(Sample(name, labels, _number(value)))
    return samples


def _distribution(
    kind: MetricType, name: str, labels: dict[str, str], value: Histogram
) -> list[Sample]:
    """Return a histogram's samples, cumulated and with +Inf, or a summary's sum and count."""
    cumulated = list(accumulate(value.counts))
    samples: list[Sample] = []
    if kind is MetricType.HISTOGRAM:
        bucket = name + "_bucket"
        bounds = (*map(floatToGoString, value.bounds), "+Inf")
        samples += [
            Sample(bucket, {**labels, "le": le}, count)
            for le, count in zip(bounds, cumulated, strict=True)
        ]
    samples += (
        Sample(name + "_count", labels, cumulated[-1]),
        Sample(name + "_sum", labels, _number(value.sum)),
    )
    return samples


def _number(value: float) -> float:
    # What isn't a number must fail here, where one snapshot is lost, not in the midst of an answer.
    return value if type(value) in {int, float} else float(value)


def more_labels(metric: PoolMetric, pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the labels that a user gave, under names which are valid and nobody else's."""
    labels: dict[str, str] = {}
    for key, text in pairs:
        name = _NOT_IN_LABEL_NAMES.sub("_", key)
        if name in _RESERVED_LABELS or name in metric.labels or not name[:1].isalpha():
            name = f"label_{name}"
        labels.setdefault(name, as_label(text))
    return labels
