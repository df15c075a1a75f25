"""Items that do little or nothing: what is measured is what the pool itself costs for each."""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING, Any

from tests.benchmarks.half import least, timed, typical, warm_pool
from tests.benchmarks.work import no_op, spin

if TYPE_CHECKING:
    from tests.benchmarks.half import MakePool, Scale

# How many rounds of `spin` take 10 µs here: found once, so that all processes work equally.
_ROUNDS = "OBSPOOL_BENCHMARK_ROUNDS"


def consume(iterable: Any) -> None:
    """Take all, and keep nothing."""
    deque(iterable, maxlen=0)


def measure_map(make: MakePool, scale: Scale) -> tuple[float, ...]:
    items = range(scale(30_000))
    with warm_pool(make) as pool:
        return (timed(lambda: pool.map(no_op, items, chunksize=1)),)


def measure_imap(make: MakePool, scale: Scale) -> tuple[float, ...]:
    items = range(scale(30_000))
    with warm_pool(make) as pool:
        return (timed(lambda: consume(pool.imap(no_op, items))),)


def measure_imap_unordered(make: MakePool, scale: Scale) -> tuple[float, ...]:
    items = range(scale(30_000))
    with warm_pool(make) as pool:
        return (timed(lambda: consume(pool.imap_unordered(no_op, items))),)


def measure_apply_async(make: MakePool, scale: Scale) -> tuple[float, ...]:
    calls = scale(20_000)
    with warm_pool(make) as pool:

        def work() -> None:
            results = [pool.apply_async(no_op, (number,)) for number in range(calls)]
            for result in results:
                result.get()

        return (timed(work),)


def measure_in_turn(make: MakePool, scale: Scale) -> tuple[float, ...]:
    """A call of `apply_async` whose result is waited for before the next one."""
    with warm_pool(make) as pool:
        calls = scale(2_000)
        seconds = sorted(timed(lambda: pool.apply_async(no_op, (1,)).get()) for _ in range(calls))
    return (seconds[len(seconds) // 2],)


def measure_apply(make: MakePool, scale: Scale) -> tuple[float, ...]:
    """The middle and the slowest hundredth of single calls, one waited for after another."""
    with warm_pool(make) as pool:
        calls = scale(2_000)
        seconds = sorted(timed(lambda: pool.apply(no_op, (1,))) for _ in range(calls))
    return seconds[len(seconds) // 2], seconds[int(len(seconds) * 0.99)]


def measure_map_chunks(make: MakePool, scale: Scale) -> tuple[float, ...]:
    items = list(range(scale(60_000)))
    with warm_pool(make) as pool:
        return (timed(lambda: pool.map(no_op, items, chunksize=10)),)


def measure_map_default(make: MakePool, scale: Scale) -> tuple[float, ...]:
    items = range(scale(200_000))
    with warm_pool(make) as pool:
        return (typical(lambda: pool.map(no_op, items)),)


def measure_map_10_us(make: MakePool, scale: Scale) -> tuple[float, ...]:
    items = [_rounds_of_10_us()] * scale(50_000)
    with warm_pool(make) as pool:
        return (timed(lambda: pool.map(spin, items)),)


def measure_map_least(make: MakePool, scale: Scale) -> tuple[float, ...]:
    items = range(scale(30_000))
    with warm_pool(make) as pool:
        return (least(lambda: pool.map(no_op, items, chunksize=1)),)


def measure_map_100_us_least(make: MakePool, scale: Scale) -> tuple[float, ...]:
    items = [10 * _rounds_of_10_us()] * scale(2_000)
    with warm_pool(make) as pool:
        return (least(lambda: pool.map(spin, items)),)


def calibrate() -> None:
    """Find out how fast this machine is, for this process and those that it starts."""
    rounds = 20_000
    best = min(timed(lambda: spin(rounds)) for _ in range(20))
    os.environ[_ROUNDS] = str(max(1, round(rounds * 10e-6 / best)))


def _rounds_of_10_us() -> int:
    if _ROUNDS not in os.environ:
        calibrate()
    return int(os.environ[_ROUNDS])
