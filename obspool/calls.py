"""The public calls that are under way: what they may still do, nobody else may assume undone."""

from __future__ import annotations

import itertools
import sys
from threading import get_ident
from typing import TYPE_CHECKING

from obspool.frames import is_running

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType

    from obspool.core import Core


class Calls:
    """Calls that have begun and not ended; threads add their own, the scheduler's thread asks.

    An interrupt may keep a call from saying that it ends. So who is still there is seen from what
    its thread runs; an object's lifetime wouldn't do, since a traceback keeps a call's objects.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._under_way: dict[int, tuple[int, CodeType]] = {}
        self._feeding: set[int] = set()  # threads

    def begin(self, code: CodeType) -> int:
        """Enter a call of this thread by the function with this code; return the call's number."""
        number = next(self._numbers)
        self._under_way[number] = get_ident(), code
        return number

    def end(self, number: int) -> None:
        """Take a call out."""
        self._under_way.pop(number, None)

    def is_over(self, number: int) -> bool:
        """Tell whether a call has ended, however it did."""
        call = self._under_way.get(number)
        if call is None:
            return True
        return not is_running(*call)

    def feed(self, run: Callable[[], None]) -> None:
        """Feed a call in this thread, which does nothing else."""
        self._feeding.add(get_ident())
        try:
            run()
        finally:
            self._feeding.discard(get_ident())

    def is_in_one(self) -> bool:
        """Tell whether this thread is in the middle of a call, or feeds one."""
        own = get_ident()
        if own in self._feeding:
            return True
        under_way = list(self._under_way.items())
        return any(thread == own and not self.is_over(n) for n, (thread, _) in under_way)

    def __bool__(self) -> bool:
        for number in list(self._under_way):
            if self.is_over(number):
                self.end(number)
        return bool(self._under_way)


class Calling:
    """A call that may still bring a job: the pool doesn't end before it has."""

    __slots__ = ("_core", "_number")

    def __init__(self, core: Core) -> None:
        self._core = core
        self._number = -1

    def __enter__(self) -> int:
        """Hold the pool's end back; return the call's number."""
        self._number = self._core.calls.begin(sys._getframe(1).f_code)  # noqa: SLF001
        return self._number

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        """Let it go on: the job is in its inbox, or there is none."""
        core = self._core
        core.calls.end(self._number)
        if core.closing or error is not None:  # the scheduler may wait for this call's end
            core.engine.wake()
