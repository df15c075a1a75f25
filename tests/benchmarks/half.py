"""What the halves of a pair are made of: how much work, a warm pool, the clock."""

from __future__ import annotations

import statistics
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tests.benchmarks.work import no_op

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.pool import Pool

WORKERS = 2

# Enough for each worker to have imported what it runs and to have answered.
WARM_UP_ITEMS = 64

# How often work of some milliseconds is done in one half of a pair.
SHORT_REPEATS = 5

# The same, where a difference of some hundredths is looked for: then the least disturbed counts.
MANY_REPEATS = 15


class MakePool(Protocol):
    """The constructor of the implementation under test, its start method bound."""

    def __call__(self, processes: int, *, maxtasksperchild: int | None = None) -> Pool: ...


@dataclass(frozen=True)
class Scale:
    """How much work a measurement is; `quick` proves that everything runs, and measures nothing."""

    quick: bool

    def __call__(self, full: int, least: int = 2) -> int:
        """Return how many items to take where a real measurement takes `full`."""
        return max(full // 100, least) if self.quick else full


@contextmanager
def warm_pool(make: MakePool, processes: int = WORKERS) -> Iterator[Pool]:
    """A pool whose workers have all had time to start and to import the work."""
    with make(processes) as pool:
        pool.map(no_op, range(WARM_UP_ITEMS), chunksize=1)
        pool.map(no_op, range(WARM_UP_ITEMS))
        yield pool
    pool.join()


def timed(work: Callable[[], object]) -> float:
    """Return how long it takes, in seconds."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def typical(work: Callable[[], object], repeats: int = SHORT_REPEATS) -> float:
    """Time short work a few times over, and return the median: one preemption is as long as it."""
    return statistics.median(timed(work) for _ in range(repeats))


def least(work: Callable[[], object], repeats: int = MANY_REPEATS) -> float:
    """Time short work many times over, and return the shortest."""
    return min(timed(work) for _ in range(repeats))
