"""What all peers that aren't Pools have in common."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Self


class UnableError(Exception):
    """The peer has nothing for what was asked."""


class PeerPool:
    """The part of the stdlib's Pool that benchmarks call; a peer overrides what it has."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it, and wait for that."""

    def join(self) -> None:
        """Do nothing: it has been waited for."""

    def apply(self, func: Callable[..., Any], args: Iterable[Any]) -> Any:
        """Call, and wait for the result."""
        return self.apply_async(func, args).get()

    def __getattr__(self, method: str) -> Any:
        """Tell of a method that it hasn't got."""
        raise UnableError(method)


def gettable(future: Any) -> Any:
    """Return a future's result as the stdlib's AsyncResult gives it."""
    return SimpleNamespace(get=future.result)


def share(items: int, processes: int) -> int:
    """Return the stdlib's default chunksize."""
    return -(-items // (4 * processes)) or 1


def refuse_limit(maxtasksperchild: int | None) -> None:
    """Refuse what many can't do.

    Raises:
        UnableError: it is asked for.
    """
    if maxtasksperchild is not None:
        raise UnableError
