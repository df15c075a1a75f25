"""A way to interrupt a selector from any thread, a signal handler or a `__del__`."""

from __future__ import annotations

import os
from contextlib import suppress


class Waker:
    """An eventfd, or a pipe where there is none."""

    _read = _write = -1  # should there be no descriptor left

    def __init__(self) -> None:
        if hasattr(os, "eventfd"):
            self._read = self._write = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        else:
            self._read, self._write = os.pipe()
            os.set_blocking(self._read, False)
            os.set_blocking(self._write, False)
        self._woken = False

    def fileno(self) -> int:
        """Return what becomes readable."""
        return self._read

    def wake(self) -> None:
        """Make it readable; costs nothing while it is."""
        if self._woken:
            return
        # Before the write: set after it, it could undo a `clear` that came between. Should the
        # write be interrupted, the reader's next `clear`, after its timeout, mends it.
        self._woken = True
        with suppress(OSError):  # full is woken; closed needs no waking
            os.write(self._write, b"\1\0\0\0\0\0\0\0")

    def clear(self) -> None:
        """Be ready for the next wake; what was asked for before is to be looked at afterwards."""
        with suppress(BlockingIOError):
            os.read(self._read, 4096)
        self._woken = False

    def close(self) -> None:
        """Take no more wakes."""
        self._woken = True

    def __del__(self) -> None:
        """Close the descriptors: only now can no thread be about to write to them."""
        for end in {self._read, self._write} - {-1}:
            os.close(end)
