"""Items that do little or nothing: what is measured is what the pool itself costs for each."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from tests.benchmarks.half import least, timed, typical, warm_pool
from tests.benchmarks.work import no_op, spin

if TYPE_CHECKING:
    from tests.benchmarks.half import MakePool, Scale

# About 100 µs: fixed, as each half is a process of its own.
_ROUNDS_OF_100_US = 9_000


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


def measure_apply(make: MakePool, scale: Scale) -> tuple[float, ...]:
    """The middle and the slowest hundredth of single calls, one waited for after another."""
    with warm_pool(make) as pool:
        calls = scale(2_000)
        seconds = sorted(timed(lambda: pool.apply(no_op, (1,))) for _ in range(calls))
    return seconds[len(seconds) // 2], seconds[int(len(seconds) * 0.99)]


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
    items = [_ROUNDS_OF_100_US] * scale(2_000)
    with warm_pool(make) as pool:
        return (least(lambda: pool.map(spin, items)),)


def _rounds_of_10_us() -> int:
    """Return how many rounds of `spin` take 10 µs here: found once, so all pairs work equally."""
    if not _calibrated:
        rounds = 20_000
        best = min(timed(lambda: spin(rounds)) for _ in range(20))
        _calibrated.append(max(1, round(rounds * 10e-6 / best)))
    return _calibrated[0]


_calibrated: list[int] = []
