"""What the tuning page advises, on examples with a known answer; curves that never grow."""

from __future__ import annotations

import dataclasses

from obspool.telemetry.layout import LATENCY_BOUNDS
from obspool.telemetry.snapshot import Histogram, Snapshot
from obspool.words import ExitReason, JobKind
from obspool_dashboard import tuning
from obspool_dashboard.frame import next_frame
from obspool_dashboard.history import History, Rates
from obspool_dashboard.trail import MOST_POINTS, Curve, Trails, fitted
from tests.dashboard.film import snapshot_at
from tests.dashboard.stage import Stage
from tests.synthetic import make_snapshot


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


async def test_the_page_says_what_high_and_low_mean() -> None:
    """Names of functions aren't markup; an empty pool has nothing to say."""
    stage = Stage()
    stage.edit = lambda snapshot: dataclasses.replace(
        snapshot,
        item_run={"f[/x]": _timed(1000, 0.002)},
        worker_exits={**snapshot.worker_exits, ExitReason.MEMORY: 3},
    )
    async with stage.open((120, 40)):
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
