"""What the tuning page advises, on examples with a known answer; curves that never grow."""

from __future__ import annotations

import dataclasses

from obspool.telemetry.layout import LATENCY_BOUNDS
from obspool.telemetry.snapshot import Histogram, Serializing, Snapshot, Tasks
from obspool.words import Direction, ExitReason, IdleReason, JobKind, Outcome
from obspool_dashboard import tuning
from obspool_dashboard.frame import next_frame
from obspool_dashboard.history import History, Rates
from obspool_dashboard.trail import MOST_POINTS, Curve, Trails, fitted
from tests.dashboard.film import snapshot_at
from tests.dashboard.stage import Stage
from tests.synthetic import make_snapshot, numbers


def _timed(count: int, seconds: float) -> Histogram:
    counts = [0] * (len(LATENCY_BOUNDS) + 1)
    counts[sum(seconds > bound for bound in LATENCY_BOUNDS)] = count
    return Histogram(LATENCY_BOUNDS, tuple(counts), count * seconds)


def _mapped(items: int, chunk: int, seconds: float) -> Snapshot:
    kinds = {**dict.fromkeys(JobKind, 0), JobKind.MAP: -(-items // chunk)}
    return dataclasses.replace(
        make_snapshot(64),
        items_submitted=items,
        tasks_submitted=kinds,
        item_run={"f[/x]": _timed(items, seconds)},
    )


def test_the_default_chunk_of_a_large_map_is_too_large() -> None:
    """64 workers, 1.2 million items of 2 ms: chunks of 4,688 items take 9.4 s; 100 is right."""
    chunks = tuning.chunking(_mapped(1_200_000, 4_688, 0.002))
    assert chunks.functions[0].chunksize == 100
    assert chunks.verdict == "too large"
    assert tuning.chunking(_mapped(1_200_000, 100, 0.002)).verdict == "about right"
    assert tuning.chunking(_mapped(1_200_000, 1, 0.002)).verdict == "too small"
    # An item of a second is a task by itself.
    assert tuning.chunking(_mapped(100, 1, 1.0)).verdict == "about right"
    assert tuning.chunking(_mapped(100, 1, 1.0)).functions[0].chunksize == 1


def test_recycling_is_weighed_by_what_it_costs() -> None:
    """Start-up seconds over worker seconds; growth over tasks."""
    made = make_snapshot(4)
    workers = tuple(
        dataclasses.replace(w, process_tasks=100, memory_growth=80 << 20) for w in made.workers
    )
    snapshot = dataclasses.replace(made, workers=workers, worker_startup=_timed(200, 1.9))
    lives = tuning.recycling(next_frame(History(), snapshot))
    assert lives.growth == (80 << 20) / 100
    assert lives.suggested == round((1 << 30) / lives.growth)
    assert lives.cost is not None
    assert round(lives.cost, 3) == round(200 * 1.9 / (4 * 2537), 3)
    still = tuple(dataclasses.replace(w, memory_growth=0) for w in workers)
    frame = next_frame(History(), dataclasses.replace(snapshot, workers=still))
    assert tuning.recycling(frame).suggested is None


def test_where_the_workers_time_went() -> None:
    """Busy, idle by reason, and the rest; all of it together is one."""
    made = make_snapshot(4)
    seconds = 4 * 2537.0
    idle = {IdleReason.STARVED: seconds / 5, IdleReason.TAIL: seconds / 10}
    workers = tuple(
        dataclasses.replace(w, busy_seconds=2537.0 / 2, item_start_time=None) for w in made.workers
    )
    snapshot = dataclasses.replace(made, workers=workers, idle_seconds=idle)
    spent = tuning.spending(next_frame(History(), snapshot))
    assert spent.busy == 0.5
    assert {reason: round(share, 6) for reason, share in spent.idle.items()} == {
        IdleReason.STARVED: 0.2,
        IdleReason.TAIL: 0.1,
    }
    assert spent.overhead is not None
    assert round(spent.overhead, 6) == 0.2
    new = dataclasses.replace(made, time=made.facts.start_time)
    assert tuning.spending(next_frame(History(), new)) == tuning.Spending(None, {}, None)


def test_what_sending_costs() -> None:
    """Bytes of a task, pickling and the pool's own thread against the time that has passed."""
    made = make_snapshot(4)
    snapshot = dataclasses.replace(
        made,
        tasks=Tasks(queued=5, dispatched=15, running=5, result=0),
        tasks_completed={Outcome.OK: 70, Outcome.ERROR: 10},
        task_bytes={Direction.IN: 100_000, Direction.OUT: 8_000},
        serialize_seconds=Serializing(
            parent_dump=200.0, parent_load=53.7, worker_dump=1000.0, worker_load=14.8
        ),
        scheduler_busy_seconds=507.4,
    )
    sent = tuning.sending(next_frame(History(), snapshot))
    assert (sent.bytes_in, sent.bytes_out) == (1000.0, 100.0)
    shares = (sent.pickling_parent, sent.pickling_workers, sent.scheduler)
    assert [round(share or 0.0, 6) for share in shares] == [0.1, 0.1, 0.2]
    none = dataclasses.replace(made, tasks=Tasks(5, 0, 0, 0), tasks_completed={})
    assert tuning.sending(next_frame(History(), none)).bytes_in is None


def test_growth_of_workers_that_are_gone() -> None:
    """The sum of it over all their tasks."""
    made = dataclasses.replace(
        make_snapshot(4), worker_lifetime_tasks=numbers({100: 3}), worker_memory_growth=600 << 20
    )
    lives = tuning.recycling(next_frame(History(), made))
    assert lives.growth_ended == 2 << 20
    assert lives.life == 100


async def test_idle_reasons_are_told_with_what_to_do() -> None:
    """High starving and high tails stand in the advice."""
    stage = Stage()
    time = 8 * (2537.0 - 60.0)
    stage.edit = lambda snapshot: dataclasses.replace(
        snapshot, idle_seconds={IdleReason.STARVED: 0.2 * time, IdleReason.TAIL: 0.3 * time}
    )
    async with stage.open((120, 60)):
        await stage.press("4")
        text = " ".join(stage.text.split())
        for part in (
            "Workers starve for 20 % of their time",
            "30 % of their time is waiting for the last ones",
            "starved 20 %",
            "tail 30 %",
            "bytes in 9.32 KiB",
            "pickling here 0.2 %",
            "scheduler 1.5 %",
        ):
            assert part in text, part


async def test_the_page_says_what_high_and_low_mean() -> None:
    """Names of functions aren't markup; an empty pool has nothing to say."""
    stage = Stage()
    stage.edit = lambda snapshot: dataclasses.replace(
        snapshot,
        item_run={"f[/x]": _timed(1000, 0.002)},
        worker_exits={**snapshot.worker_exits, ExitReason.MEMORY: 3},
    )
    async with stage.open((120, 60)):
        await stage.press("4")
        for text in ("100 for f[/x]", "low: sending costs more", "3 memory", "stolen tasks"):
            assert text in stage.text, text
        stage.edit = lambda snapshot: dataclasses.replace(snapshot, item_run={}, tasks_submitted={})
        await stage.step()
        assert "No item has ended yet" in stage.text


def test_curves_span_the_whole_time_and_never_grow() -> None:
    """Neighbours become one when there are too many."""
    curve = Curve()
    for number in range(100_000):
        curve.add(float(number))
    assert MOST_POINTS // 2 <= len(curve.points) <= MOST_POINTS
    assert curve.points == sorted(curve.points)
    assert curve.points[0] < 1000
    assert curve.points[-1] > 98_000
    assert len(fitted(tuple(curve.points), 40)) == 40
    assert fitted((1.0, 2.0), 40) == (1.0, 2.0)
    trails = Trails()
    for workers in (8, 3):
        trails.add(snapshot_at(0, workers=workers), Rates())
    assert trails.of(2).memory
    assert not trails.of(5).memory
