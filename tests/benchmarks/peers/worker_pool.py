"""mpire's WorkerPool."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tests.benchmarks.peers.peer import PeerPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


class MpirePool(PeerPool):
    """One whose workers are kept between calls."""

    def __init__(
        self, processes: int, *, start_method: str, maxtasksperchild: int | None = None
    ) -> None:
        make = import_module("mpire").WorkerPool
        self._pool = make(processes, start_method=start_method, keep_alive=True)
        self._how: dict[str, Any] = {"worker_lifespan": maxtasksperchild}

    def close(self) -> None:
        self._pool.stop_and_join()

    def apply_async(self, func: Callable[..., Any], args: Iterable[Any]) -> Any:
        return self._pool.apply_async(func, args)

    def map(
        self, func: Callable[..., Any], iterable: Sequence[Any], chunksize: int | None = None
    ) -> list[Any]:
        found: list[Any] = self._pool.map(func, iterable, chunk_size=chunksize, **self._how)
        return found

    def imap(self, func: Callable[..., Any], iterable: Sequence[Any]) -> Iterable[Any]:
        found: Iterable[Any] = self._pool.imap(func, iterable, chunk_size=1)
        return found

    # Workers that have run a `map` and are kept fail in its imap_unordered (2.10).
    imap_unordered = imap
