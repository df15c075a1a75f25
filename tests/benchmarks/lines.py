"""What is measured: one function a line, which gets a maker of pools and returns seconds.

Where a line is about work, its pool is made and warmed up before the clock starts, and ended after
it has stopped; where it is about starting workers, that is what is timed.
"""

from __future__ import annotations

import statistics
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from tests.benchmarks.work import echo, no_op, spin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.pool import Pool

WORKERS = 2
# Enough for each worker to have imported what it runs and to have answered.
WARM_UP_ITEMS = 64
MEGABYTE = 1_000_000
# How often work of some milliseconds is done in one half of a pair.
SHORT_REPEATS = 5

# What design.md asks of work that moves one item at a time …
FASTER = 4.0
# … and of all else: never noticeably slower.
NOT_SLOWER = 0.9


class MakePool(Protocol):
    """The constructor of the implementation under test, its start method bound."""

    def __call__(self, processes: int, *, maxtasksperchild: int | None = None) -> Pool: ...


@dataclass(frozen=True)
class Scale:
    """How much work a measurement is; `quick` proves that everything runs, and measures nothing."""

    quick: bool

    def __call__(self, full: int) -> int:
        """Return how many items to take where a real measurement takes `full`."""
        return max(full // 100, 2) if self.quick else full


@dataclass(frozen=True)
class Figure:
    """One number of a line, in seconds (less is better), and the ratio asked for."""

    label: str
    target: float


@dataclass(frozen=True)
class Line:
    """One row of the table, or a few which come from the same work.

    Attributes:
        name: what `--only` selects.
        figures: what `measure` returns, in this order.
        measure: does the work once with pools of `make`.
        start_method: where the line is about one; else the run's is used.
    """

    name: str
    figures: tuple[Figure, ...]
    measure: Callable[[MakePool, Scale], tuple[float, ...]]
    start_method: str | None = None


@contextmanager
def warm_pool(make: MakePool, processes: int = WORKERS) -> Iterator[Pool]:
    """A pool whose workers have all had time to start and to import the work."""
    with make(processes) as pool:
        pool.map(no_op, range(WARM_UP_ITEMS), chunksize=1)
        pool.map(no_op, range(WARM_UP_ITEMS))
        yield pool
    pool.join()


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _typical(work: Callable[[], object], repeats: int) -> float:
    """Time short work a few times over, and return the median: one preemption is as long as it."""
    return statistics.median(_timed(work) for _ in range(repeats))


def _consume(iterable: Any) -> None:
    deque(iterable, maxlen=0)


def measure_map(make: MakePool, scale: Scale) -> tuple[float, ...]:
    items = range(scale(30_000))
    with warm_pool(make) as pool:
        return (_timed(lambda: pool.map(no_op, items, chunksize=1)),)


def measure_imap(make: MakePool, scale: Scale) -> tuple[float, ...]:
    items = range(scale(30_000))
    with warm_pool(make) as pool:
        return (_timed(lambda: _consume(pool.imap(no_op, items))),)


def measure_imap_unordered(make: MakePool, scale: Scale) -> tuple[float, ...]:
    items = range(scale(30_000))
    with warm_pool(make) as pool:
        return (_timed(lambda: _consume(pool.imap_unordered(no_op, items))),)


def measure_apply_async(make: MakePool, scale: Scale) -> tuple[float, ...]:
    calls = scale(20_000)
    with warm_pool(make) as pool:

        def work() -> None:
            results = [pool.apply_async(no_op, (number,)) for number in range(calls)]
            for result in results:
                result.get()

        return (_timed(work),)


def measure_apply(make: MakePool, scale: Scale) -> tuple[float, ...]:
    """The middle and the slowest hundredth of single calls, one waited for after another."""
    with warm_pool(make) as pool:
        calls = scale(2_000)
        seconds = sorted(_timed(lambda: pool.apply(no_op, (1,))) for _ in range(calls))
    return seconds[len(seconds) // 2], seconds[int(len(seconds) * 0.99)]


def measure_map_default(make: MakePool, scale: Scale) -> tuple[float, ...]:
    items = range(scale(200_000))
    with warm_pool(make) as pool:
        return (_typical(lambda: pool.map(no_op, items), SHORT_REPEATS),)


def measure_map_busy(make: MakePool, scale: Scale) -> tuple[float, ...]:
    items = [_rounds_of_10_us()] * scale(50_000)
    with warm_pool(make) as pool:
        return (_timed(lambda: pool.map(spin, items)),)


def _rounds_of_10_us() -> int:
    """Return how many rounds of `spin` take 10 µs here: found once, so all pairs work equally."""
    if not _calibrated:
        rounds = 20_000
        best = min(_timed(lambda: spin(rounds)) for _ in range(20))
        _calibrated.append(max(1, round(rounds * 10e-6 / best)))
    return _calibrated[0]


_calibrated: list[int] = []


def measure_echo_bytes(make: MakePool, scale: Scale) -> tuple[float, ...]:
    payload = b"\x55" * MEGABYTE
    return _measure_echo(make, payload, scale(25))


def measure_echo_array(make: MakePool, scale: Scale) -> tuple[float, ...]:
    import numpy as np  # noqa: PLC0415 - workers of the other lines needn't have it in memory

    payload = np.ones(8 * MEGABYTE // 8)
    return _measure_echo(make, payload, scale(5))


def _measure_echo(make: MakePool, payload: object, times: int) -> tuple[float, ...]:
    """Send a payload there and back, and again when it has come."""
    with warm_pool(make) as pool:
        pool.apply(echo, (payload,))

        def work() -> None:
            for _ in range(times):
                pool.apply(echo, (payload,))

        return (_typical(work, SHORT_REPEATS),)


def measure_start_2(make: MakePool, _scale: Scale) -> tuple[float, ...]:
    return _measure_start(make, 2)


def measure_start_32(make: MakePool, scale: Scale) -> tuple[float, ...]:
    return _measure_start(make, 4 if scale.quick else 32)


def _measure_start(make: MakePool, processes: int) -> tuple[float, ...]:
    """From the call of the constructor to the first result."""
    taken = []
    for _ in range(SHORT_REPEATS):
        began = time.perf_counter()
        with make(processes) as pool:
            pool.apply(no_op, (1,))
            taken.append(time.perf_counter() - began)
        pool.join()
    return (statistics.median(taken),)


def measure_recycle_fork(make: MakePool, scale: Scale) -> tuple[float, ...]:
    return _measure_recycle(make, scale(200))


def measure_recycle_spawn(make: MakePool, scale: Scale) -> tuple[float, ...]:
    return _measure_recycle(make, scale(16))


def _measure_recycle(make: MakePool, items: int) -> tuple[float, ...]:
    """A worker for each item; the first ones' start is part of it, as it is of all the others'."""
    began = time.perf_counter()
    with make(WORKERS, maxtasksperchild=1) as pool:
        pool.map(no_op, range(items), chunksize=1)
        seconds = time.perf_counter() - began
    pool.join()
    return (seconds,)


LINES = (
    Line("map", (Figure("map, chunksize 1", FASTER),), measure_map),
    Line("imap", (Figure("imap, chunksize 1", FASTER),), measure_imap),
    Line(
        "imap_unordered",
        (Figure("imap_unordered, chunksize 1", FASTER),),
        measure_imap_unordered,
    ),
    Line("apply_async", (Figure("apply_async, then get", NOT_SLOWER),), measure_apply_async),
    Line(
        "apply",
        (Figure("apply, p50", NOT_SLOWER), Figure("apply, p99", NOT_SLOWER)),
        measure_apply,
    ),
    Line("map_default", (Figure("map, default, no-ops", NOT_SLOWER),), measure_map_default),
    Line("map_10us", (Figure("map, default, 10 µs items", NOT_SLOWER),), measure_map_busy),
    Line("echo_1mb", (Figure("echo of 1 MB bytes", NOT_SLOWER),), measure_echo_bytes),
    Line("echo_8mb", (Figure("echo of an 8 MB array", NOT_SLOWER),), measure_echo_array),
    Line("start_2", (Figure("start of 2 to 1st result", NOT_SLOWER),), measure_start_2),
    Line("start_32", (Figure("start of 32 to 1st result", NOT_SLOWER),), measure_start_32),
    Line(
        "recycle_fork",
        (Figure("maxtasksperchild=1, fork", NOT_SLOWER),),
        measure_recycle_fork,
        start_method="fork",
    ),
    Line(
        "recycle_spawn",
        (Figure("maxtasksperchild=1, spawn", NOT_SLOWER),),
        measure_recycle_spawn,
        start_method="spawn",
    ),
)
