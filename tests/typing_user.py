"""The public API as a user writes it: nothing here runs, mypy checks it."""

from __future__ import annotations

import multiprocessing
import multiprocessing.pool
from typing import TYPE_CHECKING

import obspool
from obspool import Pool, Snapshot, ThreadPool, WorkerLostError

if TYPE_CHECKING:
    from obspool import AsyncResult, IMapIterator, MapResult


def square(number: int) -> int:
    return number * number


def area(width: int, height: int) -> int:
    return width * height


def everyday() -> list[int]:
    with Pool(4) as pool:
        results: list[int] = pool.map(square, range(10))
        results += pool.starmap(area, [(1, 2), (3, 4)], chunksize=2)
        results += list(pool.imap(square, range(10), chunksize=5))
        for number in pool.imap_unordered(square, range(10)):
            results.append(number)
        results.append(pool.apply(area, (1,), {"height": 2}))
        return results


def with_terms() -> list[int | Exception]:
    with Pool(4) as pool:
        found: list[int | Exception] = pool.map(square, range(9), retries=2, return_exceptions=True)
        found += pool.imap(square, range(10**9), buffersize=1000, retries=1)
        found.append(pool.apply(square, (2,), retries=1, timeout=1.5))
        return found


def later() -> None:
    pool = Pool(
        processes=2,
        initializer=print,
        initargs=("ready",),
        maxtasksperchild=100,
        context=multiprocessing.get_context("spawn"),
        name="nightly",
        metrics="0.0.0.0:9400",
        balance=False,
    )
    one: AsyncResult = pool.apply_async(square, (3,), callback=print, error_callback=print)
    many: MapResult = pool.map_async(square, [1, 2], 1, print, print)
    lazy: IMapIterator = pool.imap(square, [1, 2])
    one.wait(timeout=1.5)
    if one.ready() and one.successful():
        value: int = one.get(timeout=1)
        print(value, many.get(), lazy.next(timeout=2.0))
    pool.close()
    pool.join()
    pool.terminate()


def in_place_of_the_stdlibs(pool: multiprocessing.pool.Pool) -> list[int]:
    return pool.map(square, [1, 2])


def seeing() -> float:
    with ThreadPool(2, metrics=True) as pool:
        in_place_of_the_stdlibs(pool)
        snapshot: Snapshot = pool.stats()
        url: str | None = pool.metrics_url
        busy = sum(worker.busy_seconds for worker in snapshot.workers)
        rows: obspool.Counter = obspool.counter("rows")
        rows.add()
        rows.add(2)
        print(url, pool.name, snapshot.tasks.queued, snapshot.as_dict()["facts"])
        return busy


def catching() -> None:
    try:
        everyday()
    except WorkerLostError as error:
        print(error)
    except (obspool.PoolBrokenError, obspool.PoolTerminatedError) as error:
        raise SystemExit(str(error)) from error
    except obspool.ObspoolError:
        raise
    except RuntimeError:  # what was caught before obspool
        raise
