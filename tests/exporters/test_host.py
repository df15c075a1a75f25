"""Running totals by name, over the runs of a batch job."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

from obspool import Pool, counter
from obspool.exporters import host as host_module
from obspool.exporters import state, totals
from obspool.exporters.collector import SnapshotCollector
from obspool.exporters.host import Host
from obspool.words import Outcome, PoolOutcome
from tests.exporters.hosts import LivePool, run_pool, series, shown, value
from tests.exporters.samples import key, series_of
from tests.exporters.test_prometheus import needs_promtool
from tests.synthetic import make_snapshot
from tests.synthetic_segment import write_segment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.exporters.samples import Series

DONE = "obspool_items_completed_total"
OURS = ("obspool_exporter_", "process_")


@pytest.fixture
def host() -> Iterator[Host]:
    """An exporter without a port, that keeps ended pools for long."""
    made = Host(3600.0)
    yield made
    made.close()


def done(found: Series, pool: str = "nightly") -> float:
    return value(found, DONE, pool=pool, outcome="ok")


def test_a_live_pool_is_told_as_by_its_own_process(host: Host) -> None:
    """All series of the table, with the labels and values of the pool's own /metrics."""
    pool = LivePool(shown())
    try:
        told = series(host)
        expected = series_of(
            SnapshotCollector(lambda: [next(iter(host.watch.runs.values())).read()]).collect()
        )
    finally:
        pool.end()
    ours = {one: told[one] for one in told if not one[0].startswith(OURS)}
    expected = {one: expected[one] for one in expected if not one[0].startswith(OURS)}
    assert ours == expected


def test_runs_of_a_name_are_added(host: Host) -> None:
    """Three runs between two scrapes, and one that lives: the sum of all four."""
    runs = [run_pool(shown(seed=seed)) for seed in range(3)]
    live = LivePool(shown(seed=9))
    told = series(host)
    live.end()
    everything = [*runs, live.snapshot]
    assert done(told) == sum(one.items_completed[Outcome.OK] for one in everything)
    count = "obspool_task_run_duration_seconds_count"
    assert value(told, count, pool="nightly") == sum(one.task_run.count for one in everything)
    bucket = "obspool_task_run_duration_seconds_bucket"
    assert value(told, bucket, pool="nightly", le="+Inf") == value(told, count, pool="nightly")
    assert value(told, "obspool_pools_ended_total", pool="nightly", outcome="finished") == 3
    assert value(told, "obspool_pool_state", pool="nightly", state="running") == 1
    assert value(told, "obspool_exporter_runs_total") == 4
    assert done(series(host)) == done(told)
    assert value(series(host), "obspool_pools_ended_total", pool="nightly", outcome="finished") == 4


def test_no_total_ever_falls(host: Host) -> None:
    """Whatever begins, ends, and begins anew: fewer workers, other functions, smaller counts."""
    last: dict[object, float] = defaultdict(float)

    def check() -> None:
        told = series(host)
        for one, number in told.items():
            if one[0].endswith(("_total", "_count", "_bucket", "_sum")) and one[0].startswith(
                "obspool_"
            ):
                assert number >= last[one], one
                last[one] = number

    for seed, workers in enumerate((4, 1, 8, 70, 3)):
        pool = LivePool(shown(workers=workers, seed=seed))
        check()
        if seed % 2:
            series(host)
        pool.end(PoolOutcome.ABANDONED)
        check()
    assert (
        value(series(host), "obspool_pools_ended_total", pool="nightly", outcome="abandoned") == 5
    )


def test_a_short_job_grows_from_zero_for_who_stores_it(host: Host) -> None:
    """A name that is new is 0 at the first scrape of each scraper, then what it is."""
    series(host, scraper="a")
    run = run_pool()
    real = run.items_completed[Outcome.OK]
    assert done(series(host, scraper="a")) == 0
    assert done(series(host)) == real, "a person with curl sees what there is"
    assert done(series(host, scraper="b", openmetrics=True)) == 0
    assert done(series(host, scraper="a")) == real
    assert done(series(host, scraper="b")) == real
    run_pool()
    assert done(series(host, scraper="a")) > real, "the next run continues, and needs no zero"


def test_what_ran_before_the_exporter_has_no_zero(host: Host) -> None:
    """A pool that has run for a day when it is first met didn't do all that in a moment."""
    pool = LivePool(shown(age=86_400.0))
    assert done(series(host, scraper="a")) == pool.snapshot.items_completed[Outcome.OK]
    pool.end()


def test_a_late_scraper_is_not_told_of_zeros_long_past(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that comes for the first time gets zeros for names of the last minutes only."""
    run = run_pool()
    host.look()
    monkeypatch.setattr(host_module, "STALE_SECONDS", 0.0)
    assert done(series(host, scraper="new")) == run.items_completed[Outcome.OK]


def test_created_times_are_those_of_the_first_run(host: Host) -> None:
    """In OpenMetrics; for each total of the pool, not for each of its workers."""
    first = run_pool()
    run_pool()
    told = series(host, openmetrics=True)
    created = {one: number for one, number in told.items() if one[0].endswith("_created")}
    assert created
    for number in created.values():
        assert number == pytest.approx(first.facts.start_time, abs=0.001)
    assert key("obspool_items_submitted_created", {"pool": "nightly"}) in created
    assert key("obspool_task_run_duration_seconds_created", {"pool": "nightly"}) in created
    assert not any("worker" in dict(labels) for _, labels in created)
    assert not any(name.endswith("_created") for name, _ in series(host))


def test_the_last_state_is_kept_for_a_while_and_totals_for_good() -> None:
    """After the keep time gauges are gone, but for the time of the last success."""
    host = Host(0.0)
    run = run_pool()
    host.look()
    told = series(host)
    host.close()
    assert done(told) == run.items_completed[Outcome.OK]
    assert key("obspool_pool_state", {"pool": "nightly", "state": "ended"}) not in told
    success = value(told, "obspool_pool_last_success_timestamp_seconds", pool="nightly")
    assert success == pytest.approx(run.last_success_time)
    assert value(told, "obspool_exporter_pools", state="past") == 1


def test_a_run_without_success_keeps_the_last_one(host: Host) -> None:
    """NotSucceededFor needs it all day, also after a run that failed."""
    good = run_pool()
    run_pool(dataclasses.replace(shown(), last_success_time=None))
    told = series(host)
    success = value(told, "obspool_pool_last_success_timestamp_seconds", pool="nightly")
    assert success == pytest.approx(good.last_success_time)


def test_pools_of_one_name_at_a_time_have_their_suffix(host: Host) -> None:
    """As they call themselves; the next run of each continues its own."""
    first, second = LivePool(shown(seed=1)), LivePool(shown(seed=2))
    told = series(host)
    assert done(told) == first.snapshot.items_completed[Outcome.OK]
    assert done(told, "nightly-2") == second.snapshot.items_completed[Outcome.OK]
    first.end()
    second.end()
    assert done(series(host)) == done(told)


def test_two_users_pools_of_one_name_are_two(host: Host, obspool_dir: Path) -> None:
    """The second user's has its uid behind the name, for good."""
    for number, uid in enumerate((1001, 1002, 1001, 1002)):
        host.totals.end(
            (uid, "boot", 1, number, float(number), "nightly"), None, 1.0, 1.0, is_fresh=False
        )
    assert set(host.totals.pools) == {"nightly", "nightly@1002"}


def test_two_live_runs_of_a_name_are_never_one(host: Host) -> None:
    """Two processes without a directory in common may both have a `nightly` in memory."""
    named = [
        host.totals.begin((7, "boot", 1, pid, 1.0, "nightly"), 1.0, 1.0, is_fresh=False).name
        for pid in range(3)
    ]
    assert named == ["nightly", "nightly-2", "nightly-3"]


def test_names_without_end_are_given_up(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those whose last run ended first; never one that lives."""
    monkeypatch.setattr(totals, "MAX_NAMES", 3)
    live = LivePool(shown("live"))
    for number in range(8):
        run_pool(shown(f"job{number}"))
        host.look()
    told = series(host)
    live.end()
    pools = {dict(labels)["pool"] for name, labels in told if name == DONE}
    assert pools == {"live", "job5", "job6", "job7"}
    assert value(told, "obspool_exporter_forgotten_total") == 5


def test_a_pool_that_died_counts_as_that(host: Host, obspool_dir: Path) -> None:
    """A killed pool has its last counts and its outcome."""
    snapshot = make_snapshot(2)
    write_segment(obspool_dir, snapshot, outcome=PoolOutcome.DIED)
    told = series(host)
    assert done(told) == snapshot.items_completed[Outcome.OK]
    assert value(told, "obspool_pools_ended_total", pool="nightly", outcome="died") == 1


def test_a_broken_segment_counts_with_what_it_said_last(host: Host) -> None:
    """Somebody cut the file of a pool that lived: its name's totals don't fall."""
    from tests.telemetry.processes import owner  # noqa: PLC0415

    with owner() as process:
        told = series(host)
        with open(process.path, "r+b") as file:  # noqa: PTH123
            file.truncate(100)
        assert done(series(host)) == done(told)
        assert value(series(host), "obspool_exporter_errors_total", reason="source") >= 1
        process.kill()
    after = series(host)
    assert done(after) == done(told)
    assert value(after, "obspool_exporter_pools", state="running") == 0


def test_skipped_files_are_counted_by_reason(host: Host, obspool_dir: Path) -> None:
    """And the rest is served."""
    run = run_pool()
    (obspool_dir / "foreign.obspool").write_text("no segment")
    told = series(host)
    assert value(told, "obspool_exporter_skipped_files", reason="unreadable") == 1
    assert value(told, "obspool_exporter_skipped_files", reason="refused") == 0
    assert done(told) == run.items_completed[Outcome.OK]


def test_only_the_named_samples_are_told(host: Host) -> None:
    """`name[]` of a request."""
    run_pool()
    text, _ = host.text(openmetrics=True, names=[DONE, "process_open_fds"])
    lines = text.decode().splitlines()
    assert {line.partition("{")[0].split()[0] for line in lines if line[0] != "#"} == {
        DONE,
        "process_open_fds",
    }
    assert lines[-1] == "# EOF"


@needs_promtool
def test_promtool_has_nothing_to_say(host: Host) -> None:
    """About the text of several pools, live, ended and past, and the exporter's own metrics."""
    run_pool()
    run_pool(shown("other"))
    live = LivePool(shown("live", 70))
    text, _ = host.text(openmetrics=False)
    live.end()
    promtool = shutil.which("promtool")
    assert promtool is not None
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, check=False, timeout=30
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def count_rows(number: int) -> int:
    counter("rows").add(3)
    return number


def test_programs_own_counters_are_added(host: Host, tmp_path: Path) -> None:
    """Over the runs of a name, and over a restart; names that are none are left out."""
    for _ in range(2):
        with Pool(1, name="own") as pool:
            pool.map(count_rows, range(10))
    assert value(series(host, openmetrics=True), "obspool_user_rows_total", pool="own") == 60
    run_pool(dataclasses.replace(shown("bad"), user_counters={'x"} 1\n': 1}))
    assert value(series(host), "obspool_user_rows_total", pool="own") == 60
    state.save(tmp_path / "state", host)
    later = Host(3600.0)
    state.load(tmp_path / "state", later)
    assert value(series(later), "obspool_user_rows_total", pool="own") == 60
    later.close()
