"""A snapshot read through the table of metrics, and how readings of several runs are added.

Counters, histograms and summaries are sums, gauges are the latest: that is all that is asked of a
metric here, so a new row of the table needs no word in this module.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from obspool.exporters.family import MetricType
from obspool.telemetry.snapshot import Histogram

if TYPE_CHECKING:
    from collections.abc import Iterable

    from obspool.exporters.family import PoolMetric, Value
    from obspool.telemetry.snapshot import Snapshot

# One metric's values by their labels.
Series: TypeAlias = "dict[tuple[str, ...], Value]"


@dataclass(frozen=True)
class Readings:
    """All that one snapshot says, by the names of metrics.

    Attributes:
        series: the values.
        more: further labels of those metrics that have some.
    """

    series: dict[str, Series]
    more: dict[str, tuple[tuple[str, str], ...]]


def is_total(metric: PoolMetric) -> bool:
    """Tell whether a metric only ever grows, so that runs are added."""
    return metric.type is not MetricType.GAUGE


def read(metrics: Iterable[PoolMetric], snapshot: Snapshot) -> Readings:
    """Read a snapshot."""
    series = {}
    more = {}
    for metric in metrics:
        values = dict(metric.read(snapshot))
        if metric.type is MetricType.SUMMARY:
            values = {labels: _summary(value) for labels, value in values.items()}
        series[metric.name] = values
        if metric.more_labels is not None:
            more[metric.name] = tuple(metric.more_labels(snapshot))
    return Readings(series, more)


def add(base: Series, run: Series) -> Series:
    """Return the sums; what only one of them has is taken as it is."""
    if not base:
        return run
    total = dict(base)
    for labels, value in run.items():
        before = total.get(labels)
        total[labels] = value if before is None else _sum(before, value)
    return total


def zeros(series: Series) -> Series:
    """Return the same series at the value that they had before anything was counted."""
    return {
        labels: Histogram(value.bounds, (0,) * len(value.counts), 0.0)
        if isinstance(value, Histogram)
        else 0
        for labels, value in series.items()
    }


def weight(series: Series) -> int:
    """Return how many samples these are, more or less."""
    return sum(
        len(value.counts) + 2 if isinstance(value, Histogram) else 1 for value in series.values()
    )


def _summary(value: Value) -> Value:
    if isinstance(value, Histogram) and value.bounds:
        return Histogram((), (value.count,), value.sum)
    return value


def _sum(before: Value, value: Value) -> Value:
    if isinstance(before, Histogram) and isinstance(value, Histogram):
        return rebucketed(before, value.bounds) + value
    if isinstance(before, Histogram) or isinstance(value, Histogram):
        return value  # two versions of the table don't agree: the newer is right
    return before + value


def rebucketed(histogram: Histogram, bounds: tuple[float, ...]) -> Histogram:
    """Return the observations in other buckets: none comes below a bound that it may be above.

    A pool may have other bounds than the run of its name before; count and sum stay what they are.
    """
    if histogram.bounds == bounds:
        return histogram
    counts = [0] * (len(bounds) + 1)
    for bound, count in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
        counts[bisect_left(bounds, bound)] += count
    return Histogram(bounds, tuple(counts), histogram.sum)
