"""Large arguments and results: what a byte costs on its way there and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.benchmarks.half import WORKERS, timed, typical, warm_pool
from tests.benchmarks.memory import peak
from tests.benchmarks.work import echo

if TYPE_CHECKING:
    from typing import Any

    from tests.benchmarks.half import MakePool, Scale

MEGABYTE = 1_000_000


def measure_bytes(make: MakePool, scale: Scale) -> tuple[float, ...]:
    return _measure_echo(make, b"\x55" * MEGABYTE, scale(25))


def measure_array(make: MakePool, scale: Scale) -> tuple[float, ...]:
    return _measure_echo(make, _array(8), scale(5))


def _measure_echo(make: MakePool, payload: object, times: int) -> tuple[float, ...]:
    """Send a payload there and back, and again when it has come."""
    with warm_pool(make) as pool:
        pool.apply(echo, (payload,))

        def work() -> None:
            for _ in range(times):
                pool.apply(echo, (payload,))

        return (typical(work),)


def measure_large_array(make: MakePool, scale: Scale) -> tuple[float, ...]:
    """A large array to each worker at once and back, and the peak memory of all processes."""
    with warm_pool(make) as pool:
        array = _array(scale(200))  # not before: forked workers would have it, too
        seconds = timed(lambda: pool.map(echo, [array] * WORKERS, chunksize=1))
        return seconds, peak()


def _array(megabytes: int) -> Any:
    import numpy as np  # noqa: PLC0415 - workers of the other lines needn't have it in memory

    return np.ones(megabytes * MEGABYTE // 8)
