"""Functions for tests of metrics, whose truth is known from what they do."""

from __future__ import annotations

import os
import time
from typing import Any

import obspool
from tests.pool import work

MILLISECONDS = 0.003  # that pickling or unpickling a Slow takes, seconds

_kept: list[bytearray] = []


def spin(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def slow_to_load() -> Slow:
    spin(MILLISECONDS)
    return Slow()


class Slow:
    """Takes its time to be pickled, and to be loaded."""

    def __reduce__(self) -> Any:
        spin(MILLISECONDS)
        return slow_to_load, ()


def count(item: int) -> int:
    """Count the call, and the sum of the items."""
    obspool.counter("calls").add()
    obspool.counter("sum").add(item)
    return item


def count_or_die(item: Any) -> Any:
    """Count the call; then die if the item says how, or raise for a negative one."""
    obspool.counter("calls").add()
    if isinstance(item, str):
        work.die(item)
    if item >= 1000:  # a slow one, so that what is behind it is stolen
        time.sleep(item / 1e6)
    return work.double(item)


def count_names(number: int) -> int:
    """Count on so many counters."""
    for index in range(number):
        obspool.counter(f"name_{index}").add(index)
    return os.getpid()


def count_in_a_child(_: Any) -> int:
    """Count in a process of the worker's own, which is no worker."""
    pid = os.fork()
    if not pid:
        obspool.counter("calls").add(1000)
        os._exit(0)
    os.waitpid(pid, 0)
    return count(1)


def start_counting(*_: Any) -> None:
    """Count, as an initializer or a finalizer does."""
    obspool.counter("hooks").add()


class CountsWhenPickled:
    """A result that counts while it is encoded."""

    def __reduce__(self) -> Any:
        obspool.counter("pickled").add()
        return int, ()


def counts_when_pickled(_: Any) -> CountsWhenPickled:
    return CountsWhenPickled()


def keep(megabytes: int) -> int:
    """Leak so much memory, and touch it."""
    _kept.append(bytearray(b"x" * (megabytes << 20)))
    return os.getpid()


def keep_and_wait(path: str) -> None:
    """Leak 48 MiB, and wait for a file."""
    keep(48)
    work.until_there(path)
