"""The collector's answers, each metric against the snapshot it was read from."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from obspool.exporters.collector import Problem, SnapshotCollector
from obspool.exporters.table import pool_metrics
from obspool.telemetry.snapshot import Histogram
from obspool.words import JobKind, Outcome, PoolOutcome, WorkerState
from tests.exporters.samples import key, series_of
from tests.synthetic import make_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from obspool.telemetry.snapshot import Snapshot, WorkerSnapshot
    from tests.exporters.samples import Series

Expected = dict[tuple[str, ...], float]

WORK = ("ok", "error", "timeout", "cancelled", "lost")
STAGES = ("queued", "dispatched", "running", "result")
STATES = ("starting", "idle", "busy", "draining")


def slots(get: Callable[[WorkerSnapshot], float | None]) -> Callable[[Snapshot], Expected]:
    """Expect one value for each slot that has one."""
    return lambda s: {
        (str(worker.slot),): value for worker in s.workers if (value := get(worker)) is not None
    }


def living(get: Callable[[WorkerSnapshot], float | None]) -> Callable[[Snapshot], Expected]:
    """Expect one value for each slot with a process."""
    return slots(lambda worker: None if worker.state == "gone" else get(worker))


def one(get: Callable[[Snapshot], float]) -> Callable[[Snapshot], Expected]:
    """Expect one value."""
    return lambda s: {(): get(s)}


def words(get: Callable[[Snapshot], Any], names: Iterable[str]) -> Callable[[Snapshot], Expected]:
    """Expect one value for each word."""
    return lambda s: {(name,): get(s)[name] for name in names}


def one_of(get: Callable[[Snapshot], str | None], names: str) -> Callable[[Snapshot], Expected]:
    """Expect 1 for one word and 0 for the others."""
    return lambda s: {(name,): float(name == get(s)) for name in names.split()}


# Written out once more, apart from the table: what each name and label must say of a snapshot.
COUNTERS_AND_GAUGES: dict[str, Callable[[Snapshot], Expected]] = {
    "build_info": lambda s: {(s.facts.version, s.facts.python): 1},
    "pool_start_time_seconds": one(lambda s: s.facts.start_time),
    "pool_state": one_of(lambda s: s.state, "running paused closing ended"),
    "pools_ended_total": one_of(lambda s: s.outcome, "finished abandoned broken died"),
    "pool_last_success_timestamp_seconds": one(lambda s: s.last_success_time or -1),
    "workers_configured": one(lambda s: s.workers_configured),
    "max_tasks_per_child": one(lambda s: s.max_tasks_per_child or 0),
    "workers": lambda s: {
        (state,): sum(worker.state == state for worker in s.workers) for state in STATES
    },
    "jobs_submitted_total": words(lambda s: s.jobs_submitted, JobKind),
    "jobs_completed_total": words(lambda s: s.jobs_completed, WORK),
    "jobs_in_progress": one(lambda s: s.jobs_in_progress),
    "tasks_submitted_total": words(lambda s: s.tasks_submitted, JobKind),
    "tasks_completed_total": words(lambda s: s.tasks_completed, WORK),
    "items_submitted_total": one(lambda s: s.items_submitted),
    "items_completed_total": words(lambda s: s.items_completed, (*WORK, "skipped")),
    "tasks": words(lambda s: dataclasses.asdict(s.tasks), STAGES),
    "queue_oldest_task_timestamp_seconds": one(lambda s: s.queue_oldest_time or -1),
    "task_bytes_total": words(lambda s: s.task_bytes, ("in", "out")),
    "serialize_seconds_total": lambda s: {
        (where, step): getattr(s.serialize_seconds, f"{where}_{step}")
        for where in ("parent", "worker")
        for step in ("dump", "load")
    },
    "scheduler_busy_seconds_total": one(lambda s: s.scheduler_busy_seconds),
    "worker_idle_seconds_total": words(
        lambda s: s.idle_seconds, ("no_work", "starved", "tail", "paused", "recycling")
    ),
    "worker_memory_growth_bytes_total": one(lambda s: s.worker_memory_growth),
    "tasks_stolen_total": one(lambda s: s.tasks_stolen),
    "items_retried_total": one(lambda s: s.items_retried),
    "callback_errors_total": one(lambda s: s.callback_errors),
    "telemetry_errors_total": one(lambda s: s.telemetry_errors),
    "worker_exits_total": words(
        lambda s: s.worker_exits,
        ["tasks", "memory", "age", "lost", "timeout", "resize", "command", "shutdown"],
    ),
    "worker_tasks_total": lambda s: {
        (str(w.slot), word): w.tasks[Outcome(word)] for w in s.workers for word in WORK
    },
    "worker_items_total": slots(lambda w: sum(w.items[Outcome(word)] for word in WORK)),
    "worker_busy_seconds_total": slots(lambda w: w.busy_seconds),
    "worker_cpu_seconds_total": slots(lambda w: w.cpu_seconds),
    "worker_restarts_total": slots(lambda w: w.restarts),
    "worker_state": lambda s: {
        (str(w.slot), state): float(w.state == state)
        for w in s.workers
        for state in (*STATES, "gone")
    },
    "worker_queue_tasks": living(lambda w: w.queue_tasks),
    "worker_resident_memory_bytes": living(lambda w: w.resident_memory or None),
    "worker_start_time_seconds": living(lambda w: w.start_time),
    "worker_process_tasks": living(lambda w: w.process_tasks),
    "worker_pid": living(lambda w: w.pid),
    "worker_generation": living(lambda w: w.generation),
    "worker_task_start_time_seconds": living(lambda w: w.task_start_time),
}  # fmt: skip

HISTOGRAMS: dict[str, Callable[[Snapshot], dict[tuple[str, ...], Histogram]]] = {
    "task_queue_wait_seconds": lambda s: {(): s.task_wait},
    "task_run_duration_seconds": lambda s: {(): s.task_run},
    "task_result_wait_seconds": lambda s: {(): s.task_result_wait},
    "item_run_duration_seconds": lambda s: {(name,): run for name, run in s.item_run.items()},
    "worker_startup_seconds": lambda s: {(): s.worker_startup},
    "task_items": lambda s: {(): s.task_items},
    "worker_lifetime_tasks": lambda s: {(): s.worker_lifetime_tasks},
    "job_duration_seconds": lambda s: {(kind,): s.job_duration[kind] for kind in JobKind},
    "worker_item_run_duration_seconds": lambda s: {(str(w.slot),): w.item_run for w in s.workers},
}

SNAPSHOTS = {
    "running": make_snapshot(),
    "finished": make_snapshot(seed=3, outcome=PoolOutcome.FINISHED),
    "abandoned": make_snapshot(2, seed=4, outcome=PoolOutcome.ABANDONED),
    "large": make_snapshot(70),
}
each_snapshot = pytest.mark.parametrize("snapshot", SNAPSHOTS.values(), ids=SNAPSHOTS)


def collected(*snapshots: Snapshot, histograms: bool = False) -> Series:
    """Return what a collector over these snapshots yields, by series."""
    return series_of(SnapshotCollector(lambda: snapshots, worker_histograms=histograms).collect())


def named(series: Series, name: str) -> dict[tuple[tuple[str, str], ...], float]:
    """Return the series of one name by their sorted labels."""
    return {tuple(sorted(labels)): value for (one, labels), value in series.items() if one == name}


def test_all_of_the_table_is_tested() -> None:
    """A metric can't enter the table without an expectation here."""
    names = {metric.name for metric in pool_metrics()}
    assert names == {*COUNTERS_AND_GAUGES, *HISTOGRAMS, "pool_info"}


@each_snapshot
@pytest.mark.parametrize("name", COUNTERS_AND_GAUGES)
def test_a_counter_or_gauge_says_what_the_snapshot_says(name: str, snapshot: Snapshot) -> None:
    """Each has exactly the expected series, with the pool's label, and their values."""
    labels = next(metric.labels for metric in pool_metrics() if metric.name == name)
    expected = {
        tuple(sorted({"pool": "nightly", **dict(zip(labels, values, strict=True))}.items())): value
        for values, value in COUNTERS_AND_GAUGES[name](snapshot).items()
        if value != -1  # is None in the snapshot: absent
    }
    assert named(collected(snapshot), f"obspool_{name}") == expected


@each_snapshot
@pytest.mark.parametrize("name", HISTOGRAMS)
def test_a_histogram_is_cumulated_up_to_infinity(name: str, snapshot: Snapshot) -> None:
    """Buckets count all below their bound; +Inf's and `_count` are all observations."""
    labels = next(metric.labels for metric in pool_metrics() if metric.name == name)
    series = collected(snapshot, histograms=True)
    short = name == "worker_item_run_duration_seconds" and len(snapshot.workers) > 64
    full = f"obspool_{name}"
    expected_buckets = {}
    for values, histogram in HISTOGRAMS[name](snapshot).items():
        own = {"pool": "nightly", **dict(zip(labels, values, strict=True))}
        assert series[key(f"{full}_count", own)] == sum(histogram.counts)
        assert series[key(f"{full}_sum", own)] == histogram.sum
        if not short:
            for place, bound in enumerate(histogram.bounds):
                le = {"le": str(float(bound)), **own}
                expected_buckets[key(f"{full}_bucket", le)] = sum(histogram.counts[: place + 1])
        expected_buckets[key(f"{full}_bucket", {"le": "+Inf", **own})] = sum(histogram.counts)
    assert {k: v for k, v in series.items() if k[0] == f"{full}_bucket"} == expected_buckets


def test_workers_have_sum_and_count_by_default() -> None:
    """Each worker's mean run time is there without the price of its histogram."""
    series = collected(make_snapshot())
    full = "obspool_worker_item_run_duration_seconds"
    assert {name for name, _ in series if name.startswith(full)} == {f"{full}_sum", f"{full}_count"}


@pytest.mark.parametrize(
    ("variable", "kind"), [("1", "histogram"), ("0", "summary"), (None, "summary")]
)
def test_the_environment_asks_for_worker_histograms(
    monkeypatch: pytest.MonkeyPatch, variable: str | None, kind: str
) -> None:
    """OBSPOOL_WORKER_HISTOGRAMS=1 makes the workers' run time a histogram."""
    if variable is None:
        monkeypatch.delenv("OBSPOOL_WORKER_HISTOGRAMS", raising=False)
    else:
        monkeypatch.setenv("OBSPOOL_WORKER_HISTOGRAMS", variable)
    families = SnapshotCollector(lambda: [make_snapshot()]).collect()
    types = {family.name: family.type for family in families}
    assert types["obspool_worker_item_run_duration_seconds"] == kind


def test_facts_have_the_labels_that_the_user_gave() -> None:
    """OBSPOOL_LABELS are on pool_info; their names are made valid, and never the scrape's."""
    given = (("dag", "x"), ("a-b", "1"), ("job", "j"), ("pool", "p"), ("engine", "e"), ("9", "n"))
    facts = dataclasses.replace(make_snapshot().facts, labels=given)
    (labels,) = named(
        collected(dataclasses.replace(make_snapshot(), facts=facts)), "obspool_pool_info"
    )
    assert dict(labels) == {
        "pool": "nightly",
        "engine": "processes",
        "start_method": "fork",
        "dag": "x",
        "a_b": "1",
        "label_job": "j",
        "label_pool": "p",
        "label_engine": "e",
        "label_9": "n",
    }


def test_counters_are_there_from_the_start() -> None:
    """Of a pool that did nothing yet each counter is 0, not absent."""
    fresh = dataclasses.replace(
        make_snapshot(1), jobs_submitted={}, jobs_completed={}, tasks_submitted={},
        tasks_completed={}, items_completed={}, worker_exits={},
    )  # fmt: skip
    series = collected(fresh)
    counters = {m.full_name: m for m in pool_metrics() if m.type == "counter"}
    assert {name for name, _ in series} >= set(counters)
    assert named(series, "obspool_worker_exits_total")
    assert not any(named(series, "obspool_worker_exits_total").values())
    assert len(named(series, "obspool_items_completed_total")) == len(Outcome)


def test_what_is_not_there_is_absent() -> None:
    """No oldest task, no success yet, no process: no series, rather than a 0 that is a lie."""
    worker = dataclasses.replace(make_snapshot(1).workers[0], state=WorkerState.GONE)
    snapshot = dataclasses.replace(
        make_snapshot(1), queue_oldest_time=None, last_success_time=None, workers=(worker,)
    )
    names = {name for name, _ in collected(snapshot)}
    assert not names & {
        "obspool_queue_oldest_task_timestamp_seconds",
        "obspool_pool_last_success_timestamp_seconds",
        "obspool_worker_pid",
        "obspool_worker_resident_memory_bytes",
        "obspool_worker_task_start_time_seconds",
    }
    assert "obspool_worker_tasks_total" in names


def test_pools_share_their_families() -> None:
    """Several pools are in one answer, each family once, each series with its pool."""
    pools = [make_snapshot(name="a"), make_snapshot(2, name="b")]
    families = list(SnapshotCollector(lambda: pools).collect())
    names = [family.name for family in families]
    assert len(set(names)) == len(names)
    assert {dict(labels).get("pool") for _, labels in series_of(families)} == {"a", "b", None}


def _raise() -> Snapshot:
    raise OSError("gone")


def test_a_source_that_raises_takes_nothing_else_away() -> None:
    """What came before is served, and the failure counted."""

    def source() -> Iterable[Snapshot]:
        yield make_snapshot()
        yield _raise()

    series = series_of(SnapshotCollector(source).collect())
    assert named(series, "obspool_workers")
    assert series[key("obspool_exporter_errors_total", {"reason": "source"})] == 1


@pytest.mark.parametrize(
    "broken",
    [
        None,
        dataclasses.replace(make_snapshot(name="bad"), items_submitted="many"),  # type: ignore[arg-type]
        dataclasses.replace(make_snapshot(name="bad"), task_run=Histogram((1.0,), (1,), 1.0)),
        dataclasses.replace(make_snapshot(name="bad"), workers=None),  # type: ignore[arg-type]
    ],
)
def test_a_snapshot_that_makes_no_sense_is_left_out_whole(broken: Any) -> None:
    """It is counted, none of it is served, and the others are."""
    collector = SnapshotCollector(lambda: [broken, make_snapshot(name="good")])
    assert b'pool="good"' in generate_latest(collector)
    series = series_of(collector.collect())
    assert {dict(labels).get("pool") for _, labels in series} == {"good", None}
    assert series[key("obspool_exporter_errors_total", {"reason": "snapshot"})] == 2


def test_two_pools_of_one_name_never_make_a_series_twice() -> None:
    """The first is served, the second counted: Prometheus would refuse the sample."""
    series = collected(make_snapshot(3), make_snapshot(5))
    assert series[key("obspool_workers_configured", {"pool": "nightly"})] == 3
    assert series[key("obspool_exporter_errors_total", {"reason": "duplicate"})] == 1


def test_text_that_is_no_unicode_can_be_served() -> None:
    """A name with a lone surrogate (an argv of other bytes) doesn't fail the whole answer."""
    snapshot = dataclasses.replace(
        make_snapshot(1, name="p\udcff"), item_run={"f\udc80": make_snapshot(1).task_run}
    )
    text = generate_latest(SnapshotCollector(lambda: [snapshot])).decode()
    assert r'pool="p\\udcff"' in text
    assert r'function="f\\udc80"' in text


def test_registering_reads_no_snapshot() -> None:
    """A registry that describes by collecting, as the default one does, gets the names alone."""

    def source() -> Iterable[Snapshot]:
        raise AssertionError("collected at registration")

    registry = CollectorRegistry(auto_describe=True)
    collector = SnapshotCollector(source)
    registry.register(collector)
    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(SnapshotCollector(source))
    described = {family.name: family.type for family in collector.describe()}
    yielded = {
        family.name: family.type
        for family in SnapshotCollector(lambda: [make_snapshot()]).collect()
        if not family.name.startswith("obspool_user_")  # whose names are a program's
    }
    assert described == yielded


def test_a_programs_counters_are_families_of_their_own() -> None:
    """One for each name, whichever pools have it; a name that can't be a metric's is left out."""
    one = dataclasses.replace(make_snapshot(name="one"), user_counters={"rows": 3, "bad-name": 1})
    two = dataclasses.replace(make_snapshot(name="two"), user_counters={"rows": 4, "files": 0})
    families = [f for f in SnapshotCollector(lambda: [one, two]).collect() if "user" in f.name]
    assert [(family.name, family.type) for family in families] == [
        ("obspool_user_rows", "counter"),
        ("obspool_user_files", "counter"),
    ]
    assert series_of(families) == {
        key("obspool_user_rows_total", {"pool": "one"}): 3,
        key("obspool_user_rows_total", {"pool": "two"}): 4,
        key("obspool_user_files_total", {"pool": "two"}): 0,
    }


def test_problems_that_others_found_are_counted_too() -> None:
    """The server counts its own failures in the same metric."""
    collector = SnapshotCollector(list)
    collector.count(Problem.RESPONSE)
    series = series_of(collector.collect())
    assert named(series, "obspool_exporter_errors_total") == {
        (("reason", reason),): float(reason == "response")
        for reason in ("source", "snapshot", "duplicate", "response")
    }
