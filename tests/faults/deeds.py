"""What tests of faults have done in workers, and things that misbehave when they travel."""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import os
import resource
import signal
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn

from tests.pool import work


class AnyError(BaseException):
    """An error of the user's own that is no `Exception`."""


class OddError(Exception):
    """One that can be pickled and not unpickled: its arguments aren't those of its `__init__`."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first + second)


class LockedError(Exception):
    """One that can't be pickled."""

    def __init__(self) -> None:
        super().__init__("locked")
        self.lock = threading.Lock()


class SilentError(Exception):
    """One that can't be shown."""

    def __str__(self) -> NoReturn:
        raise work.CustomError("no text")

    __repr__ = __str__


class LeavingError(Exception):
    """One whose unpickling is an exit of whoever does it."""

    def __reduce__(self) -> Any:
        return leave, ()


class Leaving:
    """A result or argument whose pickling is an exit."""

    def __reduce__(self) -> NoReturn:
        leave()


class Lethal:
    """An argument that kills the worker that loads it."""

    def __reduce__(self) -> Any:
        return kill_this, ()


RAISED: dict[str, BaseException] = {
    "KeyboardInterrupt": KeyboardInterrupt("an item's"),
    "GeneratorExit": GeneratorExit("an item's"),
    "CancelledError": asyncio.CancelledError("an item's"),
    "AnyError": AnyError("an item's"),
    "StopAsyncIteration": StopAsyncIteration("an item's"),
}


def leave() -> NoReturn:
    sys.exit(5)


def kill_this() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    work.signal_less_wait()


def raise_named(name: Any) -> Any:
    """Raise if the item says what."""
    if isinstance(name, str):
        raise RAISED[name]
    return name


def stop_iteration(item: int) -> int:
    if item == 2:
        raise StopIteration("an item's")
    return item


def raise_odd(item: Any) -> Any:
    """Raise what has trouble on its way back, if the item says which."""
    if item == "odd":
        raise OddError("a", "b")
    if item == "locked":
        raise LockedError
    if item == "silent":
        raise SilentError
    return item


def return_odd(item: Any) -> Any:
    """Return what has trouble on its way back, if the item says which."""
    if item == "unloadable":
        return work.Unloadable()
    if item == "unpicklable":
        return threading.Lock()
    if item == "leaving":
        return Leaving()
    return item


def start_with_leaving_error() -> NoReturn:
    raise LeavingError


def start_with_any_error() -> NoReturn:
    raise AnyError("no model")


def count_start_and_fail(folder: str) -> NoReturn:
    Path(folder, f"{os.getpid()}").touch()
    raise work.CustomError("no model")


def segfault(item: Any) -> Any:
    """Read address 0, if the item says so; leave no core file and no report."""
    if item == "segfault":
        faulthandler.disable()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        ctypes.string_at(0)
    return item


def touch_or_die(item: tuple[str, int, bool]) -> int:
    """Leave a file that says that the item ran, or die."""
    folder, number, dies = item
    if dies:
        kill_this()
    Path(folder, str(number)).touch()
    return number


def stop_once(folder: str) -> int:
    """Stop this process, in the first item that finds no mark of another."""
    mark = Path(folder, "stopped")
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        pass
    else:
        os.kill(os.getpid(), signal.SIGSTOP)
    return os.getpid()


def stop_with_claim_lock(folder: str) -> int:
    """Stop this process while it holds its claim lock, as if it had happened between two stores."""
    with claim_lock():
        return stop_once(folder)


def claim_lock() -> Any:
    """Return the lock of the worker that runs this: it is that of its runner, further up."""
    frame = sys._getframe()
    while "runner" not in frame.f_locals:
        assert frame.f_back is not None
        frame = frame.f_back
    return frame.f_locals["runner"]._claims.lock


def ignore_sigterm() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def handle_sigterm() -> None:
    """Handle it in Python, which code in C never comes to."""
    signal.signal(signal.SIGTERM, lambda *_: None)


def set_clock_back(hours: int) -> int:
    """Set this process's clock back, as far as Python code can see."""
    import time  # noqa: PLC0415

    real, real_ns = time.time, time.time_ns
    time.time = lambda: real() - 3600.0 * hours
    time.time_ns = lambda: real_ns() - 3_600_000_000_000 * hours
    return hours
