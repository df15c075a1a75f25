"""Rates from the differences of snapshots."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from obspool.words import Outcome, PoolOutcome, WorkerState
from obspool_dashboard.frame import next_frame
from obspool_dashboard.history import MAX_SAMPLES, MAX_SERIES, WINDOW, History
from tests.dashboard.film import snapshot_at
from tests.synthetic import NOW, make_snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable

    from obspool.telemetry.snapshot import Snapshot
    from obspool_dashboard.history import Rates


def _after(snapshots: Iterable[Snapshot], history: History | None = None) -> Rates:
    """Return the rates after these readings."""
    history = history or History()
    rates = [history.add(snapshot) for snapshot in snapshots]
    return rates[-1]


def test_one_reading_has_no_rates() -> None:
    """Before the second reading a rate isn't known, which is not the same as zero."""
    rates = History().add(snapshot_at(0))
    assert rates.items is None
    assert rates.workers == {}


def test_rate_is_the_difference_over_the_time_between() -> None:
    """The time between is that of the snapshots, not of the reader's interval."""
    history = History()
    first, second = snapshot_at(0), snapshot_at(2.5)
    history.add(first)
    rates = history.add(second)
    gained = sum(second.items_completed.values()) - sum(first.items_completed.values())
    assert rates.items == pytest.approx(gained / 2.5)
    assert list(rates.series) == pytest.approx([gained / 2.5])
    assert rates.eta == pytest.approx(
        (second.items_submitted - sum(second.items_completed.values())) / (gained / 2.5)
    )


def test_the_window_slides() -> None:
    """A rate forgets what is older than the window."""
    rates = _after(snapshot_at(float(second)) for second in range(20))
    first, last = snapshot_at(19.0 - WINDOW), snapshot_at(19.0)
    gained = sum(last.items_completed.values()) - sum(first.items_completed.values())
    assert rates.items == pytest.approx(gained / WINDOW)


def test_nothing_grows_with_time() -> None:
    """A day of readings four times a second leaves as much behind as a minute."""
    history = History()
    still = snapshot_at(0)
    times = (NOW + reading * 0.25 for reading in range(20_000))
    rates = _after((dataclasses.replace(still, time=time) for time in times), history)
    assert len(history._samples) <= MAX_SAMPLES
    assert len(rates.series) == MAX_SERIES


def test_a_long_item_counts_as_busy_while_it_runs() -> None:
    """A worker adds its busy time when a slice ends: the slice that runs is added here."""
    rates = _after(snapshot_at(float(second)) for second in range(4))
    assert rates.workers[1].busy == pytest.approx(1.0)
    assert rates.workers[1].items == 0


def test_a_reading_of_the_same_moment_changes_nothing() -> None:
    """Two readings at one time have no difference to divide by."""
    history = History()
    history.add(snapshot_at(0))
    rates = history.add(snapshot_at(1))
    assert history.add(snapshot_at(1)) is rates


def test_counts_that_went_back_are_no_negative_rates() -> None:
    """A torn row may read less than before."""
    history = History()
    history.add(snapshot_at(1))
    before = snapshot_at(0)
    rates = history.add(dataclasses.replace(before, time=NOW + 2))
    assert rates.items == 0
    assert all(worker.items == 0 for worker in rates.workers.values())


def test_a_slot_that_comes_later_has_rates_from_then_on() -> None:
    """A resize adds slots while we look."""
    history = History()
    history.add(snapshot_at(0, workers=4))
    assert history.add(snapshot_at(1, workers=5)).workers[4].items is None
    rates = _after((snapshot_at(float(second), workers=5) for second in range(2, 9)), history)
    assert rates.workers[4].items


def test_jobs_have_a_rate_and_an_end() -> None:
    """The time that a job still takes is what is left over its own rate."""
    history = History()
    history.add(snapshot_at(0))
    snapshot = snapshot_at(1)
    rates = history.add(snapshot).jobs[2]
    job = snapshot.jobs[0]
    assert rates.items
    assert rates.eta == pytest.approx(((job.items_total or 0) - job.items_done) / rates.items)


def test_a_job_that_came_later_has_a_rate_at_once() -> None:
    """Since its submission, when that is within the window."""
    young = dataclasses.replace(
        snapshot_at(0).jobs[0], id=9, submitted_time=NOW + 1.5, items_ok=30, items_error=0
    )
    second = dataclasses.replace(snapshot_at(2), jobs=(young,))
    rates = _after([snapshot_at(0), second])
    assert rates.jobs[9].items == pytest.approx(30 / 0.5)


def test_a_job_of_unknown_length_has_no_eta() -> None:
    """An iterator's length isn't known until it ends."""

    def endless(second: float) -> Snapshot:
        snapshot = snapshot_at(second)
        job = dataclasses.replace(snapshot.jobs[0], items_total=None)
        return dataclasses.replace(snapshot, jobs=(job,))

    rates = _after([endless(0), endless(1)])
    assert rates.jobs[2].eta is None
    assert rates.jobs[2].items


def test_an_ended_pool_has_the_averages_of_its_life() -> None:
    """There is no rate of now any more, and the last one would be a lie."""
    snapshot = make_snapshot(outcome=PoolOutcome.FINISHED)
    frame = next_frame(History(), snapshot)
    lived = (snapshot.ended_time or 0) - snapshot.facts.start_time
    assert frame.rates.items == pytest.approx(sum(snapshot.items_completed.values()) / lived)
    assert frame.rates.busy is not None
    assert 0.9 < frame.rates.busy <= 1


def test_an_item_is_stuck_when_it_takes_far_longer_than_its_like() -> None:
    """41 s where 95 of 100 take 8 ms stands out; the same 41 s of an unknown function doesn't."""
    frame = next_frame(History(), snapshot_at(0))
    assert [row.worker.slot for row in frame.workers if row.stuck] == [1]
    unknown = dataclasses.replace(snapshot_at(0), item_run={})
    assert not any(row.stuck for row in next_frame(History(), unknown).workers)


def test_gone_workers_do_not_drag_the_busy_share_down() -> None:
    """The share is of the workers there are."""

    def without_slot_3(second: float) -> Snapshot:
        snapshot = snapshot_at(second)
        gone = dataclasses.replace(snapshot.workers[3], state=WorkerState.GONE)
        workers = (*snapshot.workers[:3], gone, *snapshot.workers[4:])
        return dataclasses.replace(snapshot, workers=workers)

    rates = _after(without_slot_3(float(second)) for second in range(3))
    assert rates.workers[3].busy is None
    assert rates.busy == pytest.approx(
        sum(rates.workers[slot].busy or 0 for slot in (0, 1, 2, 4, 5, 6, 7)) / 7
    )


def test_done_counts_all_outcomes() -> None:
    """An item that failed is done too."""
    frame = next_frame(History(), snapshot_at(0))
    items = frame.snapshot.items_completed
    assert frame.done == sum(items.values())
    assert frame.errors == items[Outcome.ERROR]
