"""Workers: how fast they start and are replaced, and how many of them a parent can keep busy."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from tests.benchmarks.half import SHORT_REPEATS, WORKERS, timed, warm_pool
from tests.benchmarks.work import no_op, whereabouts

if TYPE_CHECKING:
    from tests.benchmarks.half import MakePool, Scale

MANY = 64
VERY_MANY = 256


def measure_start_2(make: MakePool, _scale: Scale) -> tuple[float, ...]:
    return _measure_start(make, 2)


def measure_start_32(make: MakePool, scale: Scale) -> tuple[float, ...]:
    return _measure_start(make, scale(32, least=4))


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


def measure_feeding(make: MakePool, scale: Scale) -> tuple[float, ...]:
    """What a task of one item takes of the time of a parent that has many workers to feed."""
    count = scale(100_000)
    with warm_pool(make, scale(MANY, least=8)) as pool:
        return (timed(lambda: pool.map(no_op, range(count), chunksize=1)) / count,)


def measure_idle_of_very_many(make: MakePool, scale: Scale) -> tuple[float, ...]:
    """How many of the workers got nothing to do, where there was enough for ten rounds."""
    processes = scale(VERY_MANY, least=8)
    with make(processes) as pool:
        found = pool.map(whereabouts, range(10 * processes), chunksize=1)
    pool.join()
    return (float(processes - len(set(found))),)
