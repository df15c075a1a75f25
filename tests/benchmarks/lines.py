"""The table: what is measured, and what is asked of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.benchmarks import items, memory, payloads, skew, watched, workers
from tests.benchmarks.contenders import BARE, SILENT, STDLIB
from tests.benchmarks.figures import AtMost, Cost, Faster, Unit

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.benchmarks.contenders import Contender
    from tests.benchmarks.figures import Figure
    from tests.benchmarks.half import MakePool, Scale

    Measure = Callable[[MakePool, Scale], tuple[float, ...]]

# A tenth above the best that a pool could do.
BALANCED = 1.10

# A pool that keeps anything of each of nine million items takes a hundred times that.
FLAT = 4e6


@dataclass(frozen=True)
class Line:
    """One row of the table, or a few which come from the same work.

    Attributes:
        name: what `--only` selects.
        measure: does the work once with pools of the maker it gets; one value for each figure.
        figures: what it returns, in this order.
        baseline: whom obspool is held against; None: it is alone.
        start_method: where the line is about one; else the run's is used.
        alone: each half is done by a process of its own.
        pairs: at most so many are worth their time; None: as many as asked for.
    """

    name: str
    measure: Measure
    figures: tuple[Figure, ...]
    baseline: Contender | None = STDLIB
    start_method: str | None = None
    alone: bool = False
    pairs: int | None = None


def _skewed(name: str, label: str, shape: Callable[[], list[float]]) -> Line:
    return Line(name, skew.measure(shape), (AtMost(label, BALANCED, Unit.NONE),))


LINES = (
    Line("map", items.measure_map, (Faster("map, chunksize 1", 8.0),)),
    Line("map_chunks", items.measure_map_chunks, (Faster("map, chunksize 10", 1.0),)),
    Line("imap", items.measure_imap, (Faster("imap, chunksize 1", 6.0),)),
    Line(
        "imap_unordered",
        items.measure_imap_unordered,
        (Faster("imap_unordered, chunksize 1", 6.0),),
    ),
    Line("apply_async", items.measure_apply_async, (Faster("apply_async, then get", 10.0),)),
    Line("in_turn", items.measure_in_turn, (Faster("apply_async and get, p50", 1.0),)),
    Line("apply", items.measure_apply, (Faster("apply, p50", 1.8), Faster("apply, p99", 20.0))),
    Line("map_default", items.measure_map_default, (Faster("map, default, no-ops", 1.0),)),
    Line("map_10us", items.measure_map_10_us, (Faster("map, default, 10 µs items", 1.05),)),
    Line("echo_1mb", payloads.measure_bytes, (Faster("echo of 1 MB bytes", 5.0),)),
    Line("echo_8mb", payloads.measure_array, (Faster("echo of an 8 MB array", 6.0),)),
    Line(
        "echo_200mb",
        payloads.measure_large_array,
        (
            Faster("echo of 200 MB to each worker", 2.0),
            Faster("… peak memory", 1.0, Unit.BYTES),
        ),
        alone=True,
    ),
    _skewed("skew_ramp", "skewed: ramp / best", skew.ramp),
    _skewed("skew_lognormal", "skewed: lognormal / best", skew.lognormal),
    _skewed("skew_first", "skewed: slow first / best", skew.slow_first),
    _skewed("skew_last", "skewed: slow last / best", skew.slow_last),
    Line(
        "recycle_fork",
        workers.measure_recycle_fork,
        (Faster("maxtasksperchild=1, fork", 1.3),),
        start_method="fork",
    ),
    Line(
        "recycle_spawn",
        workers.measure_recycle_spawn,
        (Faster("maxtasksperchild=1, spawn", 1.1),),
        start_method="spawn",
    ),
    Line("start_2", workers.measure_start_2, (Faster("start of 2 to 1st result", 0.9),)),
    Line("start_32", workers.measure_start_32, (Faster("start of 32 to 1st result", 1.0),)),
    Line("feed_64", workers.measure_feeding, (AtMost("a task to one of 64 workers", 10e-6),)),
    Line(
        "workers_256",
        workers.measure_idle_of_very_many,
        (AtMost("of 256 workers, without work", 0.0, Unit.NONE),),
        baseline=None,
        alone=True,
    ),
    Line(
        "memory",
        memory.measure_growth,
        (AtMost("growth over 9 million items", FLAT, Unit.BYTES),),
        baseline=None,
        alone=True,
        pairs=1,
    ),
    Line(
        "telemetry",
        items.measure_map_least,
        (Cost("published, map, chunksize 1", 0.05),),
        baseline=SILENT,
        alone=True,
    ),
    Line(
        "telemetry_100us",
        items.measure_map_100_us_least,
        (Cost("published, 100 µs items", 0.01),),
        baseline=SILENT,
        alone=True,
    ),
    Line(
        "counting",
        items.measure_map_least,
        (Cost("all telemetry, map, chunksize 1", 0.05),),
        baseline=BARE,
        alone=True,
    ),
    Line(
        "counting_100us",
        items.measure_map_100_us_least,
        (Cost("all telemetry, 100 µs items", 0.01),),
        baseline=BARE,
        alone=True,
    ),
    Line(
        "scrape",
        watched.measure_scrape,
        (AtMost("scrape of 1,024 slots", 0.05),),
        baseline=None,
        alone=True,
        pairs=3,
    ),
)
