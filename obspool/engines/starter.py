"""The one thread of a pool that makes processes and looks at them from outside."""

from __future__ import annotations

import contextvars
import logging
import os
import queue
import threading
import time
import warnings
from contextlib import suppress
from multiprocessing import process as mp_process
from typing import TYPE_CHECKING, Any

from obspool.waiting import forbidden

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger("obspool")

# Forking with threads running is what a pool with threads of its own does (the stdlib's too); what
# it may lead to, a worker that never becomes ready, is dealt with where workers are watched.
_FORK_WARNING = r"This process \(pid=\d+\) is multi-threaded, use of fork\(\) may lead to deadlocks"


# How often (and seconds between) what must be so in a moment is tried again.
_ATTEMPTS = 100
_PAUSE = 0.002


class Starter:
    """A thread that runs `make` for each request, and `tick` once a second between them.

    It runs once there is a request, or `start` was called.
    """

    def __init__(self, name: str, make: Callable[[Any], None], tick: Callable[[], None]) -> None:
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.troubles = 0
        self._make = make
        self._tick = tick
        self._thread = threading.Thread(
            target=contextvars.copy_context().run, args=(self._run,), name=name, daemon=True
        )
        self._started = False

    def start(self) -> None:
        """Start the thread, unless it runs already; called by one thread only.

        Raises:
            RuntimeError: no thread can be started.
        """
        if not self._started:
            self._thread.start()
            self._started = True

    def request(self, what: Any) -> None:
        """Have `make(what)` called."""
        self.start()
        self._requests.put(what)

    def waiting(self) -> bool:
        """Return whether more was asked for."""
        return not self._requests.empty()

    def close(self) -> None:
        """End the thread once it has done what was asked for."""
        self._requests.put(None)

    def _run(self) -> None:
        with forbidden():
            self._serve()

    def _serve(self) -> None:
        while True:
            try:
                what = self._requests.get(timeout=1.0)
            except queue.Empty:
                try:
                    self._tick()
                except Exception:  # noqa: BLE001 - out of descriptors, say: workers matter more
                    self.troubles += 1
                    _log.debug("looking at workers failed", exc_info=True)
                continue
            if what is None:
                return
            self._make(what)


def start_process(process: Any) -> None:
    """Start a multiprocessing process, from a thread and also within a daemonic process.

    The stdlib forbids daemonic processes to have children, as these would outlive it: workers
    can't.

    Raises:
        Exception: whatever the start raised.
    """
    allow_fork_with_threads()
    if type(process).start is not mp_process.BaseProcess.start:
        process.start()
        return
    # What BaseProcess.start does, but for its assertion, and for a clean-up that reaps any child
    # that has just ended: its exit code would be lost to the thread that asks for it.
    if process._popen is not None or process._parent_pid != os.getpid():  # noqa: SLF001
        process.start()  # which says what is wrong
        return
    start_unlisted(process)
    list_process(process)


def start_unlisted(process: Any) -> None:
    """Start a process of our own that `multiprocessing.active_children` doesn't tell of.

    Raises:
        Exception: whatever the start raised.
    """
    allow_fork_with_threads()
    for _ in range(_ATTEMPTS):
        try:
            popen = process._Popen(process)  # noqa: SLF001
            break
        except ConnectionRefusedError:  # multiprocessing's server has just ended: it will see that
            time.sleep(_PAUSE)
    else:
        popen = process._Popen(process)  # noqa: SLF001
    adopt(process, popen)


def adopt(process: Any, popen: Any) -> None:
    """Make of a process object that was not started the handle of a process that runs."""
    process._popen = popen  # noqa: SLF001
    process._sentinel = popen.sentinel  # noqa: SLF001
    del process._target, process._args, process._kwargs  # noqa: SLF001


def list_process(process: Any) -> None:
    """Have `multiprocessing.active_children` tell of a process."""
    mp_process._children.add(process)  # type: ignore[attr-defined] # noqa: SLF001


def reap(process: Any) -> int | None:
    """Return how a process ended that is as good as gone.

    Another thread may be reaping it, and then has its exit code in a moment. A task may have closed
    all descriptors, the sentinel among them: nothing can be said to such a worker any more.
    """
    for attempt in range(_ATTEMPTS):
        code = exit_code(process)
        if code is not None:
            break
        if attempt == _ATTEMPTS // 2:
            with suppress(OSError):
                process.kill()
        time.sleep(_PAUSE)
    else:
        return None
    process.join(timeout=0)
    return code


def exit_code(process: Any) -> int | None:
    """Return how a process ended, None while it is not known."""
    code: int | None = process.exitcode
    return code


def allow_fork_with_threads() -> None:
    """Have Python not warn of it."""
    for action, message, _, _, _ in warnings.filters:
        if action == "ignore" and getattr(message, "pattern", None) == _FORK_WARNING:
            return
    warnings.filterwarnings("ignore", _FORK_WARNING, DeprecationWarning)
