"""Runs that are added: counters and histograms sum, whatever the table has."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obspool.exporters import readings
from obspool.exporters.readings import add, rebucketed, zeros
from obspool.exporters.table import pool_metrics
from obspool.telemetry.snapshot import Histogram
from tests.synthetic import make_snapshot

METRICS = pool_metrics()
BOUNDS = st.sets(st.sampled_from([0.5, 1.0, 2.0, 4.0, 5.0, 7.0])).map(
    lambda bounds: tuple(sorted(bounds))
)


def test_every_total_of_the_table_adds_up() -> None:
    """Twice a run is twice each of its totals, of all metrics that aren't gauges."""
    once = readings.read(METRICS, make_snapshot(3))
    for metric in METRICS:
        series = once.series[metric.name]
        if not readings.is_total(metric):
            continue
        for labels, value in add(series, series).items():
            single = series[labels]
            if isinstance(value, Histogram):
                assert isinstance(single, Histogram)
                assert value.counts == tuple(2 * count for count in single.counts)
                assert value.sum == pytest.approx(2 * single.sum)
            else:
                assert not isinstance(single, Histogram)
                assert value == pytest.approx(2 * single)


def test_series_of_one_run_only_stay() -> None:
    """A function that only one run called, a slot that only one run had."""
    assert add({("a",): 1}, {("b",): 2}) == {("a",): 1, ("b",): 2}
    assert add({}, {("b",): 2}) == {("b",): 2}
    assert add({("a",): 1}, {}) == {("a",): 1}


def test_zeros_have_the_same_series() -> None:
    """And the same buckets."""
    histogram = Histogram((1.0,), (2, 3), 4.0)
    assert zeros({("a",): 7, ("b",): histogram}) == {
        ("a",): 0,
        ("b",): Histogram((1.0,), (0, 0), 0.0),
    }


@settings(deadline=None)
@given(
    old=BOUNDS,
    bounds=BOUNDS,
    numbers=st.lists(st.integers(0, 1000), min_size=7, max_size=7),
)
def test_other_bounds_lose_nothing(
    old: tuple[float, ...], bounds: tuple[float, ...], numbers: list[int]
) -> None:
    """Count and sum stay; no observation comes below a bound that it may have been above."""
    before = Histogram(old, tuple(numbers[: len(old) + 1]), 12.5)
    after = rebucketed(before, bounds)
    assert after.bounds == bounds
    assert (after.count, after.sum) == (before.count, before.sum)
    for place, bound in enumerate(bounds):
        surely_below = sum(
            count
            for upper, count in zip(before.bounds, before.counts, strict=False)
            if upper <= bound
        )
        assert sum(after.counts[: place + 1]) == surely_below


def test_a_pool_with_its_own_bounds_continues_the_name() -> None:
    """The newer bounds are taken."""
    total = add({(): Histogram((1.0, 2.0), (1, 2, 3), 9.0)}, {(): Histogram((1.5,), (10, 20), 1.0)})
    assert total == {(): Histogram((1.5,), (11, 25), 10.0)}


def test_a_summary_is_kept_without_buckets() -> None:
    """A worker's run time has a sum and a count only, in 1,024 slots that is most of the room."""
    found = readings.read(METRICS, make_snapshot(1))
    (value,) = found.series["worker_item_run_duration_seconds"].values()
    assert isinstance(value, Histogram)
    assert value.bounds == ()
    assert value.count == make_snapshot(1).workers[0].item_run.count


def test_facts_of_the_pool_are_kept() -> None:
    """OBSPOOL_LABELS are on pool_info alone."""
    snapshot = make_snapshot(1)
    facts = dataclasses.replace(snapshot.facts, labels=(("dag", "x"),))
    found = readings.read(METRICS, dataclasses.replace(snapshot, facts=facts))
    assert found.more == {"pool_info": (("dag", "x"),)}
