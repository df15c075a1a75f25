"""pebble's ProcessPool."""

from __future__ import annotations

import multiprocessing
from importlib import import_module
from typing import TYPE_CHECKING, Any

from tests.benchmarks.peers.peer import PeerPool, gettable, share

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


class PebblePool(PeerPool):
    """One of them."""

    def __init__(
        self, processes: int, *, start_method: str, maxtasksperchild: int | None = None
    ) -> None:
        context = multiprocessing.get_context(start_method)
        self._processes = processes
        make = import_module("pebble").ProcessPool
        self._pool = make(processes, max_tasks=maxtasksperchild or 0, context=context)

    def close(self) -> None:
        self._pool.close()
        self._pool.join()

    def apply_async(self, func: Callable[..., Any], args: Iterable[Any]) -> Any:
        return gettable(self._pool.schedule(func, args=list(args)))

    def map(
        self, func: Callable[..., Any], iterable: Sequence[Any], chunksize: int | None = None
    ) -> list[Any]:
        chunksize = chunksize or share(len(iterable), self._processes)
        return list(self._pool.map(func, iterable, chunksize=chunksize).result())

    def imap(self, func: Callable[..., Any], iterable: Sequence[Any]) -> Iterable[Any]:
        found: Iterable[Any] = self._pool.map(func, iterable).result()
        return found
