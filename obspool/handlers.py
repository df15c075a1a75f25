"""Errors of the program's signal handlers, which come up wherever the main thread is.

That may be where an object's own code runs, as it is pickled or unpickled: what such code raises is
the outcome of an item, and what a handler raises is not. It is for who called, as in the stdlib.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import CodeType


def pass_on(error: BaseException) -> None:
    """Raise an error again if it is a signal handler's.

    Raises:
        BaseException: the same.
    """
    if threading.current_thread() is threading.main_thread() and _is_of_one(error):
        raise error


def _is_of_one(error: BaseException) -> bool:
    codes = {_code_of(_signal.getsignal(number)) for number in range(1, _signal.NSIG)}
    codes.discard(None)
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code in codes:
            return True
        traceback = traceback.tb_next
    return False


def _code_of(handler: Any) -> CodeType | None:
    """Return the code that a handler runs; None where it isn't Python's, or there is none."""
    while isinstance(handler, partial):
        handler = handler.func
    call = getattr(handler, "__call__", None)  # noqa: B004 - for its code
    return getattr(handler, "__code__", None) or getattr(call, "__code__", None)
