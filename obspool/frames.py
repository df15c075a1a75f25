"""Frames of other threads: Python makes their objects only when somebody looks at them.

In Python 3.11 making one may begin a garbage collection, and what that runs may give the GIL away.
Then the other thread goes on, and where its frame was is something else: an object of any type, or
a crash. So nothing is collected meanwhile. Later versions collect between two bytecodes only.
"""

from __future__ import annotations

import gc
import sys
from itertools import islice
from threading import get_ident

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType

_COLLECTS_ANYWHERE = sys.version_info < (3, 12)

# Those who look at this moment; the last of them turns the collector on again.
_looking: set[object] = set()
_turned_off = False


def is_running(thread: int, code: CodeType) -> bool:
    """Tell whether a thread runs the function with this code."""
    if thread == get_ident():
        return _find(sys._getframe(), code)  # noqa: SLF001 - documented all the same
    me = _turn_off()
    try:
        return _find(sys._current_frames().get(thread), code)  # noqa: SLF001 - the same
    finally:
        _turn_on(me)


def frames_of_all(most: int) -> dict[int, list[FrameType]]:
    """Return the frames of all threads by their idents: of each at most so many, the innermost."""
    found: dict[int, list[FrameType]] = {}
    me = _turn_off()
    try:
        for ident, innermost in sys._current_frames().items():  # noqa: SLF001 - the same
            found[ident] = list(islice(outward(innermost), most))
    finally:
        _turn_on(me)
    return found


def outward(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield a frame and those that called it: this thread's, or while nothing is collected."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def _find(frame: FrameType | None, code: CodeType) -> bool:
    return any(one.f_code is code for one in outward(frame))


def _turn_off() -> object:
    """Have nothing collected, where that matters, until what this returns is handed back."""
    global _turned_off  # noqa: PLW0603 - there is one collector
    me = object()
    if _COLLECTS_ANYWHERE:
        _looking.add(me)
        if gc.isenabled():
            _turned_off = True
            gc.disable()
    return me


def _turn_on(me: object) -> None:
    global _turned_off  # noqa: PLW0603
    _looking.discard(me)
    if _turned_off and not _looking:
        _turned_off = False
        gc.enable()
        if _looking:  # somebody has just come, and found it off
            _turned_off = True
            gc.disable()
