"""The writer of answers against prometheus_client's own."""

from __future__ import annotations

import dataclasses
import gzip
import math
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import exposition
from prometheus_client.core import Metric, Sample
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics

from obspool.exporters import encoding
from obspool.exporters.collector import SnapshotCollector, start_times
from tests.exporters.samples import series_of
from tests.synthetic import make_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable


class _Fixed:
    """A registry of families that are given."""

    def __init__(self, *families: Metric) -> None:
        self.families = families

    def collect(self) -> tuple[Metric, ...]:
        return self.families


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBERS = st.one_of(
    st.integers(-(2**63), 2**63),
    st.floats(),
    st.sampled_from([0, 999_999, 1_000_000, 999_999.5, 1e6, 1e-5, 1e300, math.inf, math.nan]),
)


@given(text=TEXTS, value=NUMBERS, kind=st.sampled_from(["counter", "gauge"]), help_text=TEXTS)
def test_any_label_and_value_is_written_as_by_the_client(
    text: str, value: float, kind: str, help_text: str
) -> None:
    """Escaping and numbers are prometheus_client's, in both formats."""
    family = Metric("obspool_x", help_text, kind)
    name = "obspool_x_total" if kind == "counter" else "obspool_x"
    family.samples = [Sample(name, {"z": text, "a": "1"}, value), Sample(name, {}, value)]
    registry = _Fixed(family)
    assert encoding.encode([family], openmetrics=False) == exposition.generate_latest(registry)
    assert encoding.encode([family], openmetrics=True) == openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("workers", [0, 1, 8, 70])
@pytest.mark.parametrize("histograms", [False, True])
def test_a_pool_is_written_as_by_the_client(workers: int, *, histograms: bool) -> None:
    """All of the table's families are prometheus_client's text, byte for byte."""
    snapshot = dataclasses.replace(
        make_snapshot(workers), item_run={'f"\\\n': make_snapshot(1).task_run}
    )
    collector = SnapshotCollector(lambda: [snapshot], worker_histograms=histograms)
    text = encoding.encode(collector.collect(), openmetrics=False)
    assert text == exposition.generate_latest(collector)
    text = encoding.encode(collector.collect(), openmetrics=True)
    assert text == openmetrics.generate_latest(collector)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("histograms", [False, True])
def test_openmetrics_is_read_by_its_own_parser(*, histograms: bool) -> None:
    """The strict parser accepts the answer and finds each sample."""
    collector = SnapshotCollector(
        lambda: [make_snapshot(name="ä"), make_snapshot(70, name="b")], worker_histograms=histograms
    )
    text = encoding.encode(collector.collect(), openmetrics=True).decode()
    read = read_openmetrics(text)  # type: ignore[no-untyped-call]
    assert series_of(read) == series_of(collector.collect())


def test_openmetrics_tells_since_when_a_pool_counts() -> None:
    """Each series of a counter or histogram, but those of single workers; the parser takes it."""
    collector = SnapshotCollector(lambda: [make_snapshot(name="a"), make_snapshot(name="b")])
    families = list(collector.collect())
    since = start_times(families)
    text = encoding.encode(families, openmetrics=True, since=since).decode()
    created = {
        (name, dict(labels)["pool"]): value
        for (name, labels), value in series_of(
            read_openmetrics(text)  # type: ignore[no-untyped-call]
        ).items()
        if name.endswith("_created")
    }
    start = make_snapshot().facts.start_time
    assert all(value == pytest.approx(start, abs=0.001) for value in created.values())
    for pool in "ab":
        assert ("obspool_items_submitted_created", pool) in created
        assert ("obspool_tasks_completed_created", pool) in created
        assert ("obspool_task_run_duration_seconds_created", pool) in created
        assert ("obspool_worker_startup_seconds_created", pool) in created
    assert not any(name.startswith("obspool_worker_tasks") for name, _ in created)
    assert b"_created" not in encoding.encode(families, openmetrics=False, since=since)


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain;version=0.0.4", False),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5", True),
        ("text/html,application/xhtml+xml", False),
    ],
)
def test_the_format_follows_the_accept_header(accept: str, *, wanted: bool) -> None:
    """As prometheus_client decides it."""
    assert encoding.wants_openmetrics(accept) is wanted


def test_a_version_of_nonsense_gets_some_format() -> None:
    """The client compares words with numbers there, and raises; which format is its affair."""
    accept = "application/openmetrics-text; version=nonsense"
    assert encoding.wants_openmetrics(accept) in {False, True}


def test_compression_follows_the_header() -> None:
    """Gzip for those who take it, nothing for the others."""
    packed = encoding.compress(b"x" * 1000, "br, gzip")
    assert packed is not None
    assert gzip.decompress(packed) == b"x" * 1000
    assert encoding.compress(b"x" * 1000, "br") is None


def test_it_is_faster_than_the_client() -> None:
    """Its reason to be: a third of the time of prometheus_client 0.26, half of 0.20's."""
    families = list(SnapshotCollector(lambda: [make_snapshot(200)]).collect())
    registry = _Fixed(*families)

    def best(call: Callable[[], object]) -> float:
        times = []
        for _ in range(7):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        return min(times)

    own = best(lambda: encoding.encode(families, openmetrics=True))
    client = best(lambda: openmetrics.generate_latest(registry))  # type: ignore[no-untyped-call]
    assert own < client / 1.3  # on a loaded machine
