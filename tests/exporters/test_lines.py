"""Lines that are kept from scrape to scrape, against what the client writes."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.core import Metric, Sample

from obspool.exporters import encoding
from obspool.exporters.collector import SnapshotCollector, start_times
from obspool.exporters.family import MetricType, PoolMetric
from obspool.exporters.host import Host
from obspool.exporters.lines import LabelTexts, Lines
from obspool.telemetry.snapshot import Histogram
from tests.exporters.hosts import LivePool, shown
from tests.exporters.test_encoding import NUMBERS, TEXTS

if TYPE_CHECKING:
    from obspool.exporters.readings import Series
    from obspool.telemetry.snapshot import Snapshot

COUNTED = PoolMetric("x_total", MetricType.COUNTER, ("function",), "Help.", lambda _: ())
TIMED = PoolMetric("x_seconds", MetricType.HISTOGRAM, ("function",), "Help.", lambda _: ())


def lines_of(metric: PoolMetric, created: float | None = None) -> Lines:
    return Lines(metric, LabelTexts(metric.labels, {"pool": "50%s\n%"}), created)


@given(function=TEXTS, rows=st.lists(st.lists(NUMBERS, min_size=2, max_size=2), max_size=4))
def test_any_label_and_value_is_written_as_by_the_client(
    function: str, rows: list[list[float]]
) -> None:
    """Whatever the values were before, and percent signs in labels are nothing but that."""
    lines = lines_of(COUNTED)
    for first, second in rows:
        family = Metric("obspool_x", "Help.", "counter")
        family.samples = [
            Sample("obspool_x_total", {"pool": "50%s\n%", "function": label}, value)
            for label, value in ((function, first), (f"{function}%d", second))
        ]
        text = lines.filled({(function,): first, (f"{function}%d",): second})
        assert text == "".join(encoding.sample_lines(family.samples, {}))


def test_series_may_come_and_go() -> None:
    """Lines are of the series that are there now, in their order, with the buckets of now."""
    lines = lines_of(TIMED, created=7.0)
    alone: Series = {("f",): Histogram((1.0,), (2, 3), 4.5)}
    both: Series = {("g",): Histogram((2.0,), (1, 1), 2.5), ("f",): Histogram((2.0,), (4, 3), 8.5)}
    first, second = lines.filled(alone), lines.filled(both)
    assert first.count("_bucket") == 2
    values = [line.rpartition(" ")[2] for line in first.splitlines()]
    assert values == ["2.0", "5.0", "5.0", "4.5", "7.000"]
    assert second.count("_bucket") == 4
    assert 'function="g",le="2.0"' in second.splitlines()[0]
    assert lines.filled(alone) == first


def test_what_is_no_number_is_an_error() -> None:
    """One pool's trouble shows where it can be counted, not as text that no scraper can read."""
    with pytest.raises(ValueError, match="many"):
        lines_of(COUNTED).filled({("f",): "many"})  # type: ignore[dict-item]


def bodies(host: Host, snapshot: Snapshot, *, openmetrics: bool) -> tuple[list[str], list[str]]:
    """Return a pool's lines as the host tells them, and as the pool's own process does."""
    told = host.text(openmetrics=openmetrics)[0].decode()
    families = list(SnapshotCollector(lambda: [snapshot]).collect())
    since = start_times(families)
    own = encoding.encode(families, openmetrics=openmetrics, since=since).decode()
    kept = [
        [
            line
            for line in text.split("\n")
            if "obspool_exporter" not in line and "process_" not in line
        ]
        for text in (told, own)
    ]
    return kept[0], kept[1]


@pytest.mark.parametrize("openmetrics", [False, True])
def test_scrapes_of_a_host_are_the_clients_text(*, openmetrics: bool) -> None:
    """Byte for byte, at the first scrape and when the numbers have changed."""
    host = Host(300.0, own_process=False)
    first = shown("a", 70)
    pool = LivePool(first)
    try:
        for snapshot in (first, shown(first.facts.name, 70, seed=1)):
            pool.show(dataclasses.replace(snapshot, facts=first.facts))
            host.look()
            read = next(iter(host.watch.runs.values())).read()
            told, own = bodies(host, read, openmetrics=openmetrics)
            assert told == own
    finally:
        pool.end()
        host.close()
