"""Functions that tests send to workers, by reference in every start method."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

from tests.helpers import poll

Outcome = tuple[str, Any]


class CustomError(Exception):
    """An error of the user's own."""


def identity(item: Any) -> Any:
    return item


def unsendable(_: object) -> Any:
    """Return what neither pickle nor cloudpickle takes."""
    return threading.Lock()


def double(item: int) -> int:
    """Raise for a negative item, as a user's function does now and then."""
    if item < 0:
        raise CustomError(item)
    return 2 * item


def add(*arguments: int, **named: int) -> int:
    return sum(arguments) + sum(named.values())


def add_positive(a: int, b: int) -> int:
    return double(a) + double(b)


def where(item: Any) -> tuple[int, Any]:
    """Tell which process runs the item."""
    return os.getpid(), item


def work(milliseconds: float) -> int:
    """Use the CPU for so long; return the process."""
    end = time.perf_counter() + milliseconds / 1000
    while time.perf_counter() < end:
        pass
    return os.getpid()


def until_there(path: str) -> int:
    """Run until a file is there; return the process. How a test holds a worker."""
    poll(Path(path).exists, interval=0.002, deadline=30.0)
    return os.getpid()


def tell_and_wait(path: str) -> NoReturn:
    """Say in a file that this runs, and never end."""
    Path(path, str(os.getpid())).touch()
    signal_less_wait()


def signal_less_wait() -> NoReturn:
    while True:
        threading.Event().wait(60)


def tell_and_spin(path: str) -> int:
    """Say in a file that this runs, and hold the GIL in C for minutes."""
    Path(path, str(os.getpid())).touch()
    return sum(range(10**12))


_count = itertools.count()


def counted() -> int:
    """Return how many of this and the next two ran before in this worker."""
    return next(_count)


def other_counted() -> int:
    return next(_count)


def counted_item(_: object) -> int:
    return next(_count)


class Owner:
    """Has a method, which travels with its owner."""

    def method(self, item: Any) -> Any:
        return item


def die_of(item: int) -> int:
    """End this worker if the item isn't 0."""
    if item:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def die(how: str) -> NoReturn:
    """End this worker in one of the ways there are."""
    if how == "_exit":
        os._exit(7)
    if how == "exit":
        sys.exit(9)
    os.kill(os.getpid(), signal.SIGKILL)
    signal_less_wait()


def die_at(item: Any) -> Any:
    """Die if the item says how."""
    if isinstance(item, str):
        die(item)
    return item


def die_while_sending(item: int) -> Any:
    """Return a large result, and die while it is on its way."""
    work(2)  # so that its result leaves before the next item begins
    if item != 2:
        return item
    pid = os.getpid()

    def kill() -> None:
        os.kill(pid, signal.SIGKILL)

    return KillsWhenPickled(kill)


class KillsWhenPickled:
    """A result of 64 MB whose worker is killed a little after it was pickled."""

    def __init__(self, kill: Any) -> None:
        self.kill = kill

    def __reduce__(self) -> Any:
        threading.Timer(0.005, self.kill).start()
        return bytes, (bytes(64 << 20),)


def unpicklable(item: Any) -> Any:
    """Return a lock for a negative item."""
    return threading.Lock() if item < 0 else item


def fail_to_load() -> NoReturn:
    raise CustomError("can't be loaded here")


class Unloadable:
    """A result that the parent can't load."""

    def __reduce__(self) -> Any:
        return fail_to_load, ()


def unloadable(item: int) -> Any:
    return Unloadable() if item < 0 else item


def fail_at_start(*arguments: Any) -> NoReturn:
    """Raise, as an initializer."""
    raise CustomError("no model", *arguments)


def outcome(call: Any) -> Outcome:
    """Return what a call gave: its value, or its error's type and arguments."""
    try:
        return "value", call()
    except Exception as error:
        return "error", (type(error).__name__, error.args)


def drain(iterator: Any, timeout: float = 20.0) -> list[Outcome]:
    """Return all that an imap gives, errors too."""
    found: list[Outcome] = []
    while True:
        try:
            found.append(("value", iterator.next(timeout)))
        except StopIteration:
            return found
        except Exception as error:
            found.append(("error", (type(error).__name__, error.args)))


def modules_of_worker(_: Any) -> list[str]:
    return sorted(sys.modules)
