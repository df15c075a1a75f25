"""The thread in which callbacks run: user code that may be slow, raise, or call the pool again."""

from __future__ import annotations

import logging
import queue
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from obspool.results import AsyncResult

_log = logging.getLogger("obspool")


class Callbacks:
    """Runs callbacks in the order in which their results arrived; starts at the first."""

    def __init__(
        self, name: str, count_error: Callable[[], None], enter: Callable[[], None]
    ) -> None:
        """Take the thread's name, and what it calls after an error and when it begins."""
        self._name = name
        self._enter = enter
        self._count_error = count_error
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def add(self, result: AsyncResult) -> None:
        """Have the result's callback run, and the result told afterwards, as in the stdlib."""
        if not self.call(lambda: self._run_callback(result)):
            result.tell()

    def call(self, function: Callable[[], None]) -> bool:
        """Have a function called; return False when no thread can be had for it."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            try:
                thread.start()
            except RuntimeError:  # none starts any more when the interpreter ends
                return False
            self._thread = thread
        self._calls.put(function)
        return True

    def close(self) -> None:
        """End the thread after the calls that are there already."""
        self._calls.put(None)

    def join(self) -> None:
        """Wait for the end of the thread, unless called from a callback."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        self._enter()
        while (call := self._calls.get()) is not None:
            try:
                call()
            except BaseException:  # noqa: BLE001 - it must not end the thread of all callbacks
                _log.exception("a callback of the pool's own failed")
            del call

    def _run_callback(self, result: AsyncResult) -> None:
        try:
            result.run_callback()
        except BaseException:  # noqa: BLE001 - it is the result's error now, and counted
            self._count_error()
            _log.debug("a callback raised", exc_info=True)
        result.tell()
