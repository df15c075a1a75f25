"""joblib's Parallel, with its own workers and start method (loky's)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tests.benchmarks.peers.peer import PeerPool, refuse_limit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


class ParallelPool(PeerPool):
    """Calls of `Parallel`, which share their workers."""

    def __init__(
        self,
        processes: int,
        *,
        start_method: str,  # noqa: ARG002 - it has its own
        maxtasksperchild: int | None = None,
    ) -> None:
        refuse_limit(maxtasksperchild)
        self._processes = processes

    def close(self) -> None:
        import_module("joblib.externals.loky").get_reusable_executor().shutdown()

    def apply(self, func: Callable[..., Any], args: Iterable[Any]) -> Any:
        return self._call(func, [args], batch_size=1)[0]

    def map(
        self, func: Callable[..., Any], iterable: Sequence[Any], chunksize: int | None = None
    ) -> list[Any]:
        found: list[Any] = self._of_one(func, iterable, batch_size=chunksize or "auto")
        return found

    def imap(self, func: Callable[..., Any], iterable: Sequence[Any]) -> Iterable[Any]:
        found: Iterable[Any] = self._of_one(func, iterable, batch_size=1, return_as="generator")
        return found

    def imap_unordered(self, func: Callable[..., Any], iterable: Sequence[Any]) -> Iterable[Any]:
        how = "generator_unordered"
        found: Iterable[Any] = self._of_one(func, iterable, batch_size=1, return_as=how)
        return found

    def _of_one(self, func: Callable[..., Any], items: Iterable[Any], **how: Any) -> Any:
        return self._call(func, ((item,) for item in items), **how)

    def _call(
        self, func: Callable[..., Any], arguments: Iterable[Iterable[Any]], **how: Any
    ) -> Any:
        joblib = import_module("joblib")
        parallel = joblib.Parallel(n_jobs=self._processes, backend="loky", **how)
        return parallel(joblib.delayed(func)(*args) for args in arguments)
