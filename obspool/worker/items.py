"""How a worker calls a function with an item, and how it is seen that an item runs."""

from __future__ import annotations

from types import FunctionType, MethodType

from obspool.messages import Call
from obspool.telemetry.bank import Bank

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType
    from typing import Any, NoReturn

_numbers: list[int] = []  # from 1 on


def counted(items: list[Any]) -> Iterator[tuple[int, Any]]:
    """Count items from 1 on, as `enumerate`, which would make each number anew.

    Nothing is allocated while it is iterated over.
    """
    global _numbers  # noqa: PLW0603 - a cache: replaced, as several threads may
    if len(items) > len(_numbers):
        _numbers = list(range(1, len(items) + 1))
    return zip(_numbers, items, strict=False)


# Every item runs in a frame below one of these two, and nothing else does: so it is seen whether an
# interrupt came while one ran. What is raised there, is raised before the item's result is there.


def run_items(
    mark: Any,
    begun: Iterator[tuple[int, Any]],
    function: Callable[[Any], Any],
    results: list[Any],
) -> None:
    """Run items; `begun` counts them, and each count is stored as the mark."""
    for mark[0], item in begun:
        results.append(function(item))


def run_singles(
    mark: Any,
    begun: Iterator[tuple[int, Any]],
    function: Callable[[Any], Any],
    results: list[Any],
    load: Callable[[Any], Any],
    dump: Callable[[Any], Any],
) -> None:
    """Run items that are payloads, each loaded after its claim; results become payloads."""
    for mark[0], payload in begun:
        results.append(dump(function(load(payload))))


_LOOPS = frozenset({run_items.__code__, run_singles.__code__})
_LOCKED = Bank.describe.__code__  # within an item, and holds the claim lock


def in_item(frame: FrameType | None) -> bool:
    """Tell whether the frame, the newest, is of an item, and may be left by an error."""
    within = False
    while frame is not None and frame.f_code is not _LOCKED:
        if frame.f_code in _LOOPS:
            return within
        within, frame = True, frame.f_back
    return False


def raiser(error: BaseException) -> Callable[[Any], Any]:
    """Return what raises the error for every item."""

    def fail(_: Any) -> NoReturn:
        raise error

    return fail


def anew(load: Callable[[Any], Any], payload: Any) -> Callable[..., Any]:
    """Return what loads the function anew for each call of it."""
    return lambda *args, **kwargs: load(payload)(*args, **kwargs)  # noqa: PLW0108 - anew each time


def _of_one(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    if type(function) is FunctionType or type(function) is MethodType:
        return function
    return lambda item: function(item)  # noqa: PLW0108 - C code has no frame of its own


def _of_star(function: Callable[..., Any]) -> Callable[[Any], Any]:
    return lambda arguments: function(*arguments)


def _of_full(function: Callable[..., Any]) -> Callable[[Any], Any]:
    return lambda both: function(*both[0], **both[1])


# What makes of a function one that takes an item.
BINDERS = {Call.ONE: _of_one, Call.STAR: _of_star, Call.FULL: _of_full}
