"""concurrent.futures' ProcessPoolExecutor, and loky's."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib import import_module
from typing import TYPE_CHECKING, Any

from tests.benchmarks.peers.peer import PeerPool, UnableError, gettable, refuse_limit, share

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


class ExecutorPool(PeerPool):
    """An executor."""

    def __init__(self, executor: Any, processes: int) -> None:
        self._executor = executor
        self._processes = processes

    def close(self) -> None:
        self._executor.shutdown()

    def apply_async(self, func: Callable[..., Any], args: Iterable[Any]) -> Any:
        return gettable(self._executor.submit(func, *args))

    def map(
        self, func: Callable[..., Any], iterable: Sequence[Any], chunksize: int | None = None
    ) -> list[Any]:
        chunksize = chunksize or share(len(iterable), self._processes)
        return list(self._executor.map(func, iterable, chunksize=chunksize))

    def imap(self, func: Callable[..., Any], iterable: Sequence[Any]) -> Iterable[Any]:
        found: Iterable[Any] = self._executor.map(func, iterable)
        return found

    def imap_unordered(self, func: Callable[..., Any], iterable: Sequence[Any]) -> Iterable[Any]:
        submit = self._executor.submit
        return (one.result() for one in as_completed([submit(func, item) for item in iterable]))


def stdlib(processes: int, *, start_method: str, maxtasksperchild: int | None = None) -> Any:
    """Make a ProcessPoolExecutor."""
    context = multiprocessing.get_context(start_method)
    try:
        executor = ProcessPoolExecutor(
            processes, mp_context=context, max_tasks_per_child=maxtasksperchild
        )
    except ValueError as error:  # of a limit under fork
        raise UnableError from error
    return ExecutorPool(executor, processes)


def loky(processes: int, *, start_method: str, maxtasksperchild: int | None = None) -> Any:
    """Make loky's executor, which has a start method of its own."""
    refuse_limit(maxtasksperchild)
    return ExecutorPool(import_module("loky").ProcessPoolExecutor(processes), processes)
