"""What all tests use: waiting for a condition, knowing what is gone, private directories."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

# Long enough for a loaded machine with two cores, short enough for a test to fail within seconds.
DEADLINE = 10.0
INTERVAL = 0.01


class ConditionNotMetError(AssertionError):
    """A condition didn't become true before its deadline."""


def poll(
    condition: Callable[[], T],
    *,
    deadline: float = DEADLINE,
    interval: float = INTERVAL,
    message: str | Callable[[], object] = "",
) -> T:
    """Call `condition` until it returns something true, and return that.

    Args:
        condition: called at once and then every `interval` seconds; its exceptions are the test's.
        deadline: seconds until the test fails.
        interval: seconds between two calls.
        message: what to say then, or a function that is called for it at that time.

    Raises:
        ConditionNotMetError: it returned nothing true within the deadline.
    """
    end = time.monotonic() + deadline
    while True:
        if value := condition():
            return value
        if time.monotonic() >= end:
            said = message() if callable(message) else message
            what = said or getattr(condition, "__qualname__", repr(condition))
            text = f"not so within {deadline:g} s: {what} (last value: {value!r})"
            raise ConditionNotMetError(text)
        threading.Event().wait(interval)


def process_gone(pid: int) -> bool:
    """Tell whether a process has ended, also when nobody has collected it (it is a zombie)."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


@contextlib.contextmanager
def temporary_obspool_dir() -> Iterator[Path]:
    """Make a directory for OBSPOOL_DIR, private, on tmpfs where there is one, removed afterwards.

    Its path is short, because a socket's path may have 104 bytes.
    """
    shared_memory = Path("/dev/shm")
    parent = shared_memory if shared_memory.is_dir() else None
    directory = Path(tempfile.mkdtemp(prefix="obspool-test-", dir=parent))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
