"""Items that take very different times: how near a default `map` comes to the best it could do.

That is greedy list scheduling: each item, in input order, goes to the worker that is free first.
Items sleep, so the number of cores doesn't matter, and no more is measured than who got what.
"""

from __future__ import annotations

import heapq
import random
from time import sleep
from typing import TYPE_CHECKING

from tests.benchmarks.half import timed, warm_pool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.benchmarks.half import MakePool, Scale

WORKERS = 8
ITEMS = 400

# Of all items, so that the best a pool can do is about half a second.
_MEAN = 0.012
_SEED = 20


def greedy(seconds: Sequence[float], workers: int) -> float:
    """Return when the last item ends, if each begins as soon as a worker is free."""
    free = [0.0] * workers
    for taken in seconds:
        heapq.heapreplace(free, free[0] + taken)
    return max(free)


def ramp() -> list[float]:
    """Each takes a little longer than the one before."""
    return [2 * _MEAN * number / ITEMS for number in range(1, ITEMS + 1)]


def lognormal() -> list[float]:
    """As the sizes of files, or of answers, are spread."""
    chance = random.Random(_SEED)  # noqa: S311 - the same ones in each run
    found = [chance.lognormvariate(0.0, 1.0) for _ in range(ITEMS)]
    return [_MEAN * ITEMS * one / sum(found) for one in found]


def slow_first() -> list[float]:
    """The first sixteen take a hundred times as long as the others: a chunk is full of them."""
    return [0.25] * 16 + [0.0025] * (ITEMS - 16)


def slow_last() -> list[float]:
    """The last twenty take ten times as long as the others."""
    return [0.008] * (ITEMS - 20) + [0.08] * 20


def measure(shape: Callable[[], list[float]]) -> Callable[[MakePool, Scale], tuple[float, ...]]:
    """Return what measures the makespan of a shape, as a multiple of the best."""

    def makespan(make: MakePool, scale: Scale) -> tuple[float, ...]:
        items = shape()[:: 20 if scale.quick else 1]
        with warm_pool(make, WORKERS) as pool:
            return (timed(lambda: pool.map(sleep, items)) / greedy(items, WORKERS),)

    return makespan
